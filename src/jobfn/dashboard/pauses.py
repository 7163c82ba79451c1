"""Pause and resume a task, a queue, a tenant or everything: ``/pauses/confirm`` asks, and ``/pauses/apply`` acts."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfn.dashboard.forms import PAUSE_DURATIONS, Form
from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext, actor
from jobfn.errors import ConfigurationError, DatabaseError, PermissionDenied
from jobfn.operations import Operations
from jobfn.operations.pauses import PauseKind, PauseTarget
from jobfn.telemetry import logs

#: Durations that the form offers, in seconds; none: until it is resumed.
DURATIONS: Final = {"": "until it is resumed", **PAUSE_DURATIONS}


class PausePages:
    """The pages that pause and resume."""

    def __init__(self, pages: Pages, operations: Operations) -> None:
        self._pages = pages
        self._operations = operations

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        return [
            Route("/pauses/confirm", self.confirm, methods=["POST"]),
            Route("/pauses/apply", self.apply, methods=["POST"]),
        ]

    async def confirm(self, request: Request) -> Response:
        """Handle ``POST /pauses/confirm``: show what would be paused or resumed."""
        form = RequestContext.from_request(request).form
        try:
            target, is_resume = _target(form), form.one("action") == "resume"
        except ConfigurationError as problem:
            return self._pages.notice(request, "Nothing changed:", f"{problem}.", back="/pauses", is_problem=True)
        context = {"target": target, "is_resume": is_resume, "durations": DURATIONS}
        return self._pages.respond(request, "confirm_pause.html", context)

    async def apply(self, request: Request) -> Response:
        """Handle ``POST /pauses/apply``."""
        form = RequestContext.from_request(request).form
        try:
            target = _target(form)
            text = await self._apply(target, form, actor(request))
        except PermissionDenied:
            raise
        except (ConfigurationError, DatabaseError) as problem:
            return self._pages.notice(request, "Nothing changed:", f"{problem}.", back="/pauses", is_problem=True)
        logs.get_logger("jobfn.dashboard").info(
            "pause changed", action=form.one("action"), kind=str(target.kind), by=actor(request)
        )
        return self._pages.notice(request, "Done:", text, back="/pauses")

    async def _apply(self, target: PauseTarget, form: Form, paused_by: str) -> str:
        if form.one("action") == "resume":
            if await self._operations.resume(target):
                return f"{target} runs again."
            raise ConfigurationError(f"{target} is not paused")
        await self._operations.pause(
            target,
            seconds=pause_seconds(form),
            reason=form.one("reason") or None,
            paused_by=paused_by,
        )
        return f"{target} is paused."


def pause_seconds(form: Form) -> float | None:
    """Return the duration that a form chooses; None: until it is resumed.

    Raises:
        ConfigurationError: It is not one of ``DURATIONS``.
    """
    duration = form.one("for")
    if duration not in DURATIONS:
        raise ConfigurationError("choose one of the durations")
    return float(duration) if duration else None


def _target(form: Form) -> PauseTarget:
    """Parse what a form is about.

    Raises:
        ConfigurationError: A field is missing or invalid.
    """
    try:
        kind = PauseKind(form.one("kind"))
    except ValueError:
        raise ConfigurationError("choose a task, a queue, a tenant or everything") from None
    return PauseTarget(kind, "" if kind is PauseKind.EVERYTHING else form.one("name").strip())
