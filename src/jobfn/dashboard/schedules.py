"""Run, pause and resume a schedule: one POST request each, because each can be undone."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobfn.dashboard.forms import Form
from jobfn.dashboard.pauses import pause_seconds
from jobfn.dashboard.render import Pages
from jobfn.dashboard.security import RequestContext, actor
from jobfn.errors import ConfigurationError, DatabaseError, PermissionDenied
from jobfn.operations import Operations
from jobfn.telemetry import logs


class SchedulePages:
    """The pages that change schedules."""

    def __init__(self, pages: Pages, operations: Operations) -> None:
        self._pages = pages
        self._operations = operations

    @property
    def routes(self) -> list[Route]:
        """Routes of the pages."""
        return [Route("/schedules/{id:int}", self.apply, methods=["POST"])]

    async def apply(self, request: Request) -> Response:
        """Handle ``POST /schedules/{id}``: the form says what to do."""
        form = RequestContext.from_request(request).form
        action, schedule = form.one("action"), str(request.path_params["id"])
        try:
            text = await self._apply(action, schedule, form)
        except PermissionDenied:
            raise
        except (ConfigurationError, DatabaseError) as problem:
            return self._pages.notice(request, "Nothing changed:", f"{problem}.", back="/schedules", is_problem=True)
        logs.get_logger("jobfn.dashboard").info(
            "schedule changed", action=action, schedule=int(schedule), by=actor(request)
        )
        return self._pages.notice(request, "Done:", text, back="/schedules")

    async def _apply(self, action: str, schedule: str, form: Form) -> str:
        match action:
            case "run":
                return f"job #{await self._operations.run_schedule(schedule)} was added."
            case "pause":
                row = await self._operations.pause_schedule(
                    schedule, reason=form.one("reason") or None, seconds=pause_seconds(form)
                )
                return f"the schedule of {row.task} is paused."
            case "resume":
                row = await self._operations.resume_schedule(schedule)
                return f"the schedule of {row.task} runs again."
        raise ConfigurationError("choose run, pause or resume")
