"""What the pages show: each function asks the operations and hands the answer to a template."""

from itertools import groupby

from starlette.requests import Request

from jobfn.dashboard import charts
from jobfn.dashboard.filters import AGE_NAMES, Filter
from jobfn.dashboard.live import View
from jobfn.errors import ConfigurationError
from jobfn.operations import Action, GroupCount, JobCounts, JobDetail, JobFilter, JobState, Operations, TriggerView

#: How old the counts may be that a page shows.
COUNTS_TTL_SECONDS = 0.5
PAGE_SIZE = 50
LATEST_FAILURES = 5
#: The list says "10,000+" rather than count on.
MAX_COUNTED = 10_000
#: What can be done with a job in each state.
ACTIONS = {
    JobState.READY: (Action.CANCEL, Action.REMOVE),
    JobState.DELAYED: (Action.RUN_NOW, Action.CANCEL, Action.REMOVE),
    JobState.RUNNING: (Action.CANCEL,),
    JobState.FAILED: (Action.RETRY, Action.REMOVE),
    JobState.COMPLETED: (),
}


class Views:
    """The pages that look and change nothing.

    Args:
        operations: What they look through.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def overview(self, _request: Request) -> View:
        """``GET /``: how it goes."""
        minutes = await self._operations.throughput() if self._operations.capabilities.history else ()
        failures = await self._operations.list_jobs(JobFilter(state=JobState.FAILED), limit=LATEST_FAILURES)
        return View(
            "overview.html",
            {
                "counts": await self._operations.counts(max_age_seconds=COUNTS_TTL_SECONDS),
                "throughput": charts.throughput(minutes) if minutes else None,
                "durations": charts.durations(minutes) if minutes else None,
                "failures": failures.jobs,
                "workers": await self._operations.workers(),
                "capabilities": self._operations.capabilities,
            },
        )

    async def jobs(self, request: Request) -> View:
        """``GET /jobs``: the list."""
        wanted = Filter.parse(request.query_params)
        problem = None
        try:
            page = await self._operations.list_jobs(
                wanted.meant, limit=PAGE_SIZE, after=request.query_params.get("after") or None
            )
        except ConfigurationError as error:  # such as a cursor that was cut short on its way here
            problem = str(error)
            page = await self._operations.list_jobs(wanted.meant, limit=PAGE_SIZE)
        matching = None
        if not wanted.is_empty and wanted.meant.state is not JobState.COMPLETED:  # of those, nobody keeps count
            matching = await self._operations.count_matching(wanted.meant, limit=MAX_COUNTED)
        return View(
            "jobs.html",
            {
                "filter": wanted,
                "problem": problem,
                "page": page,
                "is_first": not request.query_params.get("after"),
                "matching": matching,
                "counted_at_most": MAX_COUNTED,
                "tally": await self._tally(wanted),
                "tasks": await self._operations.tasks(),
                "ages": AGE_NAMES,
                "states": [state for state in JobState if _is_listed(state, self._operations)],
                "actions": tuple(Action),
            },
        )

    async def _tally(self, wanted: Filter) -> JobCounts | GroupCount | None:
        """How many jobs of each state the rest of the filter lets through, where the counts tell."""
        counts = await self._operations.counts(max_age_seconds=COUNTS_TTL_SECONDS)
        rest = wanted.given.keys() - {"state"}
        if not rest:
            return counts
        groups = {frozenset({"task"}): counts.by_task, frozenset({"queue"}): counts.by_queue}.get(frozenset(rest), ())
        name = wanted.get("task") or wanted.get("queue")
        return next((group for group in groups if group.name == name), None)

    async def job(self, request: Request) -> View:
        """``GET /jobs/{id}``: one job."""
        number = int(request.path_params["id"])
        detail = await self._operations.get_job(number) if number < 2**63 else None
        if detail is None:
            return View("gone.html", {"id": number, "capabilities": self._operations.capabilities}, status_code=404)
        return View(
            "job.html",
            {"detail": detail, "actions": ACTIONS[detail.state], "error": _last_error(detail)},
        )

    async def schedules(self, _request: Request) -> View:
        """``GET /schedules``."""
        return View("schedules.html", {"schedules": await self._operations.schedules()})

    async def triggers(self, _request: Request) -> View:
        """``GET /triggers``."""
        found = sorted(await self._operations.triggers(), key=_table_of)
        return View("triggers.html", {"tables": [(table, list(of)) for table, of in groupby(found, key=_table_of)]})

    async def workers(self, _request: Request) -> View:
        """``GET /workers``."""
        return View(
            "workers.html", {"workers": await self._operations.workers(), "capabilities": self._operations.capabilities}
        )


def _table_of(trigger: TriggerView) -> tuple[str, str]:
    return trigger.schema, trigger.table


def _is_listed(state: JobState, operations: Operations) -> bool:
    return state is not JobState.COMPLETED or operations.capabilities.history


def _last_error(detail: JobDetail) -> str | None:
    """What a person who asks why reads first; nothing once a later attempt went well."""
    if detail.state is JobState.COMPLETED:
        return None
    if detail.job is not None:
        return detail.job.last_error
    return detail.runs[-1].error if detail.runs else None
