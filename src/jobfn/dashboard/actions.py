"""Retry, run, run again, wake, cancel or remove jobs: one job, the selected jobs, or all jobs that match a filter.

Each action is two POST requests: ``/jobs/confirm`` shows a confirmation and changes nothing, ``/jobs/apply`` performs
the action. With JavaScript, they appear as a dialog and a toast; without it, as pages.
"""

import functools
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobfn.dashboard.bulk import BulkAction, BulkActions
from jobfn.dashboard.filters import ListFilter
from jobfn.dashboard.forms import Form
from jobfn.dashboard.login import safe_redirect
from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext, actor
from jobfn.dashboard.views import MAX_COUNTED
from jobfn.errors import ConfigurationError
from jobfn.operations import Action, ActionResult, Operations
from jobfn.telemetry import logs

#: Button labels.
LABELS: Final = {
    Action.RETRY: "Retry",
    Action.RUN_NOW: "Run now",
    Action.RUN_AGAIN: "Run again",
    Action.WAKE: "Wake",
    Action.CANCEL: "Cancel",
    Action.REMOVE: "Remove",
}
#: Labels of results.
PAST_TENSE: Final = {
    Action.RETRY: "Retried",
    Action.RUN_NOW: "Set to run now",
    Action.RUN_AGAIN: "Added again",
    Action.WAKE: "Woke",
    Action.CANCEL: "Cancelled",
    Action.REMOVE: "Removed",
}
DESCRIPTIONS: Final = {
    Action.RETRY: "A failed job starts again immediately, at its first attempt.",
    Action.RUN_NOW: "A delayed job becomes due immediately. Its attempts are kept.",
    Action.RUN_AGAIN: "A completed job whose payload is stored is added again, as a new job that is due immediately.",
    Action.WAKE: "The sleeps of a parked job end now, and its waits with a deadline time out.",
    Action.CANCEL: "A waiting job fails permanently with this reason, as do its waiting child jobs. You can retry it.",
    Action.REMOVE: "The job's row is deleted. This cannot be undone.",
}
#: Jobs of a bulk action are counted up to this number, for its progress.
MAX_TOTAL: Final = 1_000_000
#: Maximum number of skipped jobs that a result lists.
MAX_LISTED_SKIPPED: Final = 5


class InvalidForm(Exception):
    """The form has missing or invalid fields."""


@dataclass(frozen=True, slots=True)
class ActionRequest:
    """An action and its jobs."""

    action: Action
    ids: tuple[int, ...]
    filter: ListFilter
    back: str

    @classmethod
    def from_form(cls, form: Form) -> "ActionRequest":
        """Parse a form.

        Raises:
            InvalidForm: The action or the jobs are missing or invalid, or the filter matches every job.
        """
        try:
            action = Action(form.one("action"))
            ids = tuple(dict.fromkeys(int(text) for text in form.all("id")))
        except ValueError:
            raise InvalidForm("Choose an action and the jobs to apply it to.") from None
        list_filter = ListFilter.parse(form.one("filter"))
        if form.one("scope") == "matching":
            if list_filter.problems:
                raise InvalidForm(
                    "The filter is not valid: "
                    + "; ".join(f"{name}: {problem}" for name, problem in list_filter.problems.items())
                    + "."
                )
            if list_filter.is_empty:
                raise InvalidForm("Filter the list first: actions cannot apply to all jobs.")
            ids = ()
        elif not ids:
            raise InvalidForm("No job is selected: select some first.")
        elif max(ids) >= 2**63 or min(ids) < 0:
            raise InvalidForm("There is no such job.")
        return cls(action, ids, list_filter, safe_redirect(form.one("back")))


class ActionPages:
    """The pages that change jobs."""

    def __init__(self, pages: Pages, operations: Operations, bulk_actions: BulkActions) -> None:
        self._pages = pages
        self._operations = operations
        self._bulk_actions = bulk_actions

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        return [
            Route("/jobs/confirm", self.confirm, methods=["POST"]),
            Route("/jobs/apply", self.apply, methods=["POST"]),
        ]

    async def confirm(self, request: Request) -> Response:
        """Handle ``POST /jobs/confirm``: show what would change."""
        form = RequestContext.from_request(request).form
        try:
            action_request = ActionRequest.from_form(form)
            ids = action_request.ids
            include_running = form.one("running") == "yes"
            count = len(ids) or await self._count(action_request, include_running=include_running)
        except (InvalidForm, ConfigurationError) as problem:
            return self._reject(request, problem)
        return self._pages.respond(
            request,
            "confirm.html",
            {
                "action_request": action_request,
                "count": count,
                "is_capped": not ids and count >= MAX_COUNTED,
                "label": LABELS[action_request.action],
                "description": DESCRIPTIONS[action_request.action],
                "include_running": include_running,
            },
        )

    async def _count(self, action_request: ActionRequest, *, include_running: bool) -> int:
        """Count the jobs that an action on a filter changes.

        Raises:
            InvalidForm: There are none. The form of a cancellation offers the running jobs, too.
        """
        count_targets = functools.partial(
            self._operations.count_targets,
            action_request.action,
            action_request.filter.to_job_filter(),
            limit=MAX_COUNTED,
        )
        count = await count_targets(include_running=include_running)
        is_cancel = action_request.action is Action.CANCEL
        if not count and not (is_cancel and await count_targets(include_running=True)):
            label = LABELS[action_request.action]
            raise InvalidForm(f"{label} applies to none of the jobs that match the filter.")
        return count

    async def apply(self, request: Request) -> Response:
        """Handle ``POST /jobs/apply``: perform the action, and show its result, or its progress if it takes long."""
        form = RequestContext.from_request(request).form
        try:
            action_request = ActionRequest.from_form(form)
            if action_request.ids:
                result = await self._apply(action_request, form, actor(request))
            else:
                number, bulk = await self._bulk_actions.start(
                    PAST_TENSE[action_request.action],
                    action_request.back,
                    lambda bulk: self._apply_to_matching(bulk, action_request, form, actor(request)),
                )
                if bulk.is_running:
                    return RedirectResponse(f"/jobs/bulk/{number}", 303)
                result = bulk.outcome()
        except (InvalidForm, ConfigurationError) as problem:
            return self._reject(request, problem)
        return self._pages.respond(
            request,
            "result.html",
            {
                "label": PAST_TENSE[action_request.action],
                "result": result,
                "listed": result.skipped[:MAX_LISTED_SKIPPED],
                "back": action_request.back,
            },
        )

    async def _apply(self, action_request: ActionRequest, form: Form, by: str) -> ActionResult:
        result = await self._operations.apply(
            action_request.action,
            action_request.ids,
            reason=form.one("reason") or None,
            include_running=form.one("running") == "yes",
        )
        return _logged(result, by)

    async def _apply_to_matching(
        self, bulk: BulkAction, action_request: ActionRequest, form: Form, by: str
    ) -> ActionResult:
        include_running = form.one("running") == "yes"
        action, job_filter = action_request.action, action_request.filter.to_job_filter()
        bulk.total = await self._operations.count_targets(
            action, job_filter, include_running=include_running, limit=MAX_TOTAL
        )
        result = await self._operations.apply_to_matching(
            action,
            job_filter,
            reason=form.one("reason") or None,
            include_running=include_running,
            on_progress=bulk.advance,
            should_stop=lambda: self._bulk_actions.should_stop(bulk),
        )
        return _logged(result, by)

    def _reject(self, request: Request, problem: InvalidForm | ConfigurationError) -> Response:
        back = safe_redirect(RequestContext.from_request(request).form.one("back"))
        if isinstance(problem, InvalidForm):
            return self._pages.notice(request, "Nothing changed.", str(problem), back=back, is_problem=True)
        return self._pages.notice(request, "Nothing changed:", f"{problem}.", back=back, is_problem=True)


def _logged(result: ActionResult, by: str) -> ActionResult:
    logs.get_logger("jobfn.dashboard").info(
        "action applied", action=str(result.action), done=result.done, skipped=result.skipped_count, by=by
    )
    return result
