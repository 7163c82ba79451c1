"""Set and remove limits, pause and resume their keys: ``/limits/confirm`` asks, and ``/limits/apply`` acts."""

import json
from datetime import timedelta
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfn.dashboard.forms import PAUSE_DURATIONS, Form
from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext, actor
from jobfn.errors import ConfigurationError, DatabaseError, PermissionDenied
from jobfn.limits import check_concurrency, check_limit_name, check_per, parse_rate
from jobfn.operations import Operations
from jobfn.telemetry import logs

#: Labels of the buttons.
LABELS: Final = {"set": "Set", "remove": "Remove", "pause": "Pause", "resume": "Resume"}


class LimitPages:
    """The pages that change limits."""

    def __init__(self, pages: Pages, operations: Operations) -> None:
        self._pages = pages
        self._operations = operations

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        return [
            Route("/limits/confirm", self.confirm, methods=["POST"]),
            Route("/limits/apply", self.apply, methods=["POST"]),
        ]

    async def confirm(self, request: Request) -> Response:
        """Handle ``POST /limits/confirm``: show what would change, and ask for the values of a limit to set."""
        form = RequestContext.from_request(request).form
        action, name = form.one("action"), form.one("name")
        try:
            if action not in LABELS:
                raise ConfigurationError("choose set, remove, pause or resume")  # noqa: TRY301
            limit = next((each for each in await self._operations.limits() if each.name == name), None)
            if limit is None and (name or action != "set"):
                raise ConfigurationError(f"there is no limit {name!r}")  # noqa: TRY301
            key = _key(form)
        except ConfigurationError as problem:
            return self._reject(request, problem)
        context = {"action": action, "label": LABELS[action], "limit": limit, "key": key, "durations": PAUSE_DURATIONS}
        return self._pages.respond(request, "confirm_limit.html", context)

    async def apply(self, request: Request) -> Response:
        """Handle ``POST /limits/apply``."""
        form = RequestContext.from_request(request).form
        action, name = form.one("action"), form.one("name")
        try:
            text = await self._apply(action, name, form)
        except PermissionDenied:
            raise
        except (ConfigurationError, DatabaseError) as problem:
            return self._reject(request, problem)
        logs.get_logger("jobfn.dashboard").info("limit changed", action=action, limit=name, by=actor(request))
        return self._pages.notice(request, "Done:", text, back="/limits")

    async def _apply(self, action: str, name: str, form: Form) -> str:
        match action:
            case "set":
                await self._set(name, form)
                return f"limit {name} is set."
            case "remove":
                await self._operations.remove_limit(name)
                return f"limit {name} is removed."
            case "pause" | "resume":
                duration = form.one("for")
                if action == "pause" and duration not in PAUSE_DURATIONS:
                    raise ConfigurationError("choose one of the durations")
                key = _key(form) or ""
                length = timedelta(seconds=float(duration)) if action == "pause" else None
                await self._operations.pause_limit_key(name, key, duration=length)
                what = f"limit {name}, {key or 'without a value'},"
                return f"{what} runs again." if length is None else f"{what} is paused for {PAUSE_DURATIONS[duration]}."
        raise ConfigurationError("choose set, remove, pause or resume")

    async def _set(self, name: str, form: Form) -> None:
        per, concurrency, rate = form.one("per"), form.one("concurrency"), form.one("rate")
        if concurrency and not (concurrency.isascii() and concurrency.isdecimal() and len(concurrency) < 10):
            raise ConfigurationError("the concurrency must be a whole number")
        await self._operations.set_limit(
            check_limit_name(name),
            task=form.one("task") or None,
            queue=form.one("queue") or None,
            per=check_per(per) if per else None,
            concurrency=check_concurrency(int(concurrency)) if concurrency else None,
            rate=parse_rate(rate) if rate else None,
            pauses_on_retry_later=form.one("pauses") == "yes",
        )

    def _reject(self, request: Request, problem: Exception) -> Response:
        return self._pages.notice(request, "Nothing changed:", f"{problem}.", back="/limits", is_problem=True)


def _key(form: Form) -> str | None:
    """Return the key that a form is about; None: the form asks for it.

    Listed keys are sent as JSON, because browsers change line ends and the form strips spaces.

    Raises:
        ConfigurationError: The key is not JSON.
    """
    if form.one("listed_key"):
        try:
            return str(json.loads(form.one("listed_key")))
        except ValueError:
            raise ConfigurationError("choose a value of the list") from None
    return form.one("key") if form.all("key") else None
