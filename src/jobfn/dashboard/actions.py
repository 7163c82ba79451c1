"""Retry, run now, cancel, remove: one job, those that are ticked, or all that a filter matches.

Two steps, each a POST. ``/jobs/ask`` says what would happen and changes nothing; ``/jobs/act`` does it. A script shows
the first in a dialog and the second as a toast; without scripts both are pages.
"""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfn.dashboard.filters import Filter
from jobfn.dashboard.forms import Form
from jobfn.dashboard.login import safe_redirect
from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext
from jobfn.dashboard.views import MAX_COUNTED
from jobfn.errors import ConfigurationError
from jobfn.operations import Action, ActionResult, Operations
from jobfn.telemetry import logs

#: How a button calls it, what it does, and how its end is told.
NAMES = {Action.RETRY: "Retry", Action.RUN_NOW: "Run now", Action.CANCEL: "Cancel", Action.REMOVE: "Remove"}
DONE = {Action.RETRY: "Retried", Action.RUN_NOW: "Set to run now", Action.CANCEL: "Cancelled", Action.REMOVE: "Removed"}
MEANINGS = {
    Action.RETRY: "A failed job starts again at its first attempt, at once.",
    Action.RUN_NOW: "A delayed job is due at once. Its attempts stay as they are.",
    Action.CANCEL: "A job that waits fails for good, with the reason below. It can be retried later.",
    Action.REMOVE: "The job's row is deleted. That cannot be undone.",
}
#: How many skipped jobs a result names.
SHOWN_SKIPPED = 5


class InvalidForm(Exception):
    """A form that no page of ours sends."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """What a person wants done, and to which jobs.

    Attributes:
        action: What.
        ids: To these jobs; empty where ``filter`` says which.
        filter: To all that it matches.
        back: The page that it was asked on.
    """

    action: Action
    ids: tuple[int, ...]
    filter: Filter
    back: str

    @classmethod
    def read(cls, form: Form) -> "ActionRequest":
        """The wish in a form.

        Raises:
            InvalidForm: It names no action, no job, or a filter that matches everything.
        """
        try:
            action = Action(form.one("action"))
            ids = tuple(dict.fromkeys(int(text) for text in form.all("id")))
        except ValueError:
            raise InvalidForm("Choose an action and the jobs it is for.") from None
        wanted = Filter.parse(form.one("filter"))
        if form.one("scope") == "matching":
            if wanted.is_empty or wanted.problems:
                raise InvalidForm("Filter the list first: an action is for jobs that you name.")
            ids = ()
        elif not ids:
            raise InvalidForm("No job is selected: tick some first.")
        elif max(ids) >= 2**63 or min(ids) < 0:
            raise InvalidForm("There is no such job.")
        return cls(action, ids, wanted, safe_redirect(form.one("back")))


class Acting:
    """The pages that change jobs.

    Args:
        pages: What draws them.
        operations: What does it.
    """

    def __init__(self, pages: Pages, operations: Operations) -> None:
        self._pages = pages
        self._operations = operations

    @property
    def routes(self) -> list[Route]:
        """Where it answers."""
        return [
            Route("/jobs/ask", self.ask, methods=["POST"]),
            Route("/jobs/act", self.act, methods=["POST"]),
        ]

    async def ask(self, request: Request) -> Response:
        """``POST /jobs/ask``: say what would happen."""
        try:
            wish = ActionRequest.read(RequestContext.of(request).form)
        except InvalidForm as problem:
            return self._refused(request, str(problem))
        number = len(wish.ids)
        if not wish.ids:
            number = await self._operations.count_matching(wish.filter.meant, limit=MAX_COUNTED)
        return self._pages.answer(
            request,
            "ask.html",
            {
                "wish": wish,
                "number": number,
                "is_more": not wish.ids and number >= MAX_COUNTED,
                "name": NAMES[wish.action],
                "meaning": MEANINGS[wish.action],
                "running": RequestContext.of(request).form.one("running") == "yes",
            },
        )

    async def act(self, request: Request) -> Response:
        """``POST /jobs/act``: do it, and say what was done."""
        form = RequestContext.of(request).form
        try:
            wish = ActionRequest.read(form)
            result = await self._done(wish, form)
        except (InvalidForm, ConfigurationError) as problem:
            return self._refused(request, str(problem))
        logs.get_logger("jobfn.dashboard").info(
            "acted on jobs", action=str(wish.action), done=result.done, skipped=result.skipped_count
        )
        return self._pages.answer(
            request,
            "result.html",
            {
                "problem": None,
                "done": DONE[wish.action],
                "result": result,
                "shown": result.skipped[:SHOWN_SKIPPED],
                "back": wish.back,
            },
        )

    async def _done(self, wish: ActionRequest, form: Form) -> ActionResult:
        reason = form.one("reason") or None
        running = form.one("running") == "yes"
        if wish.ids:
            return await self._operations.apply(wish.action, wish.ids, reason=reason, include_running=running)
        return await self._operations.apply_to_matching(
            wish.action, wish.filter.meant, reason=reason, include_running=running
        )

    def _refused(self, request: Request, problem: str) -> Response:
        back = safe_redirect(RequestContext.of(request).form.one("back"))
        return self._pages.answer(request, "result.html", {"problem": problem, "back": back}, status_code=400)
