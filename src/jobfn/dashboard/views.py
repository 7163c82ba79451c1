"""Load the content of the read-only pages from the operations."""

import time
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

from starlette.requests import Request

from jobfn.dashboard import charts
from jobfn.dashboard.filters import AGE_LABELS, AGES, ListFilter
from jobfn.dashboard.live import View
from jobfn.dashboard.pauses import DURATIONS
from jobfn.database.cache import AsyncTTLCache
from jobfn.errors import ConfigurationError
from jobfn.operations import (
    Action,
    ErrorGroup,
    GroupCount,
    JobCounts,
    JobDetail,
    JobFilter,
    JobOrder,
    JobRow,
    JobState,
    Operations,
    ThroughputBucket,
    TimeRange,
    TriggerView,
)
from jobfn.operations.audit import ACTIONS as ACTIONS_RECORDED
from jobfn.operations.audit import AuditPage
from jobfn.operations.records import NO_TRACEBACK

#: TTL of the counts.
COUNTS_TTL_SECONDS: Final = 0.5
#: TTL of the tasks that inputs suggest.
TASKS_TTL_SECONDS: Final = 10.0
PAGE_SIZE: Final = 50
LATEST_FAILURES: Final = 5
#: Maximum number of matching jobs to count; the list then shows "10,000+".
MAX_COUNTED: Final = 10_000
#: Actions on a job in each state.
ACTIONS: Final = {
    JobState.READY: (Action.CANCEL, Action.REMOVE),
    JobState.DELAYED: (Action.RUN_NOW, Action.CANCEL, Action.REMOVE),
    JobState.PARKED: (Action.WAKE, Action.CANCEL, Action.REMOVE),
    JobState.RUNNING: (Action.CANCEL,),
    JobState.FAILED: (Action.RETRY, Action.REMOVE),
    JobState.CANCELLED: (Action.RETRY, Action.REMOVE),
    JobState.EXPIRED: (Action.RETRY, Action.REMOVE),
    JobState.COMPLETED: (),
}


class Views:
    """Loads the read-only pages."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._failures = AsyncTTLCache(self._latest_failures, time.monotonic)
        self._tasks = AsyncTTLCache(operations.tasks, time.monotonic)
        self._errors = AsyncTTLCache(operations.error_groups, time.monotonic)

    async def _latest_failures(self) -> tuple[JobRow, ...]:
        failed = JobFilter(state=JobState.FAILED)
        page = await self._operations.list_jobs(failed, limit=LATEST_FAILURES, order=JobOrder.UPDATED)
        return page.jobs

    async def overview(self, request: Request) -> View:
        """Load ``GET /``."""
        wanted = request.query_params.get("range")
        time_range = TimeRange(wanted) if wanted in set(TimeRange) else TimeRange.HOUR
        task = request.query_params.get("task", "").strip() or None
        scale = charts.SCALES[time_range]
        periods: tuple[ThroughputBucket, ...] = ()
        if self._operations.capabilities.history:
            periods = await self._operations.throughput_of_range(time_range, task)
        failures = await self._failures.get(max_age_seconds=COUNTS_TTL_SECONDS)
        return View(
            "overview.html",
            {
                "counts": await self._operations.counts(max_age_seconds=COUNTS_TTL_SECONDS),
                "throughput": charts.throughput(periods, scale) if periods else None,
                "durations": charts.durations(periods, scale) if periods else None,
                "ranges": list(TimeRange),
                "range": time_range,
                "task": task,
                "tasks": await self._tasks.get(max_age_seconds=TASKS_TTL_SECONDS),
                "failures": failures,
                "workers": await self._operations.workers(),
                "capabilities": self._operations.capabilities,
            },
        )

    async def errors(self, _request: Request) -> View:
        """Load ``GET /errors``: jobs grouped by error."""
        found = await self._errors.get(max_age_seconds=COUNTS_TTL_SECONDS)
        return View("errors.html", {"found": found, "query_of": _group_query})

    async def jobs(self, request: Request) -> View:
        """Load ``GET /jobs``: the list of jobs."""
        list_filter = ListFilter.parse(request.query_params)
        job_filter = list_filter.to_job_filter()
        problem = None
        try:
            page = await self._operations.list_jobs(
                job_filter,
                limit=PAGE_SIZE,
                after=request.query_params.get("after") or None,
                order=list_filter.order,
            )
        except ConfigurationError as error:  # for example an invalid cursor
            problem = str(error)
            page = await self._operations.list_jobs(job_filter, limit=PAGE_SIZE, order=list_filter.order)
        matching = None
        if job_filter.state is JobState.COMPLETED:  # only those that are stored are counted
            if not self._operations.capabilities.is_platform:
                matching = await self._operations.count_targets(Action.RUN_AGAIN, job_filter, limit=MAX_COUNTED)
        elif not list_filter.is_empty:
            matching = await self._operations.count_matching(job_filter, limit=MAX_COUNTED)
        return View(
            "jobs.html",
            {
                "filter": list_filter,
                "problem": problem,
                "page": page,
                "is_first": not request.query_params.get("after"),
                "matching": matching,
                "max_counted": MAX_COUNTED,
                "counts": await self._counts(list_filter),
                "tasks": await self._tasks.get(max_age_seconds=TASKS_TTL_SECONDS),
                "ages": AGE_LABELS,
                "states": [state for state in JobState if _is_listed(state, self._operations)],
            },
        )

    async def pauses(self, _request: Request) -> View:
        """Load ``GET /pauses``."""
        return View(
            "pauses.html",
            {
                "pauses": await self._operations.pauses(),
                "tasks": await self._tasks.get(max_age_seconds=TASKS_TTL_SECONDS),
                "capabilities": self._operations.capabilities,
            },
        )

    async def _counts(self, list_filter: ListFilter) -> JobCounts | GroupCount | None:
        """Return the counts by state for the filter without its state; None if counting takes too long."""
        names = list_filter.values.keys() - {"state", "sort"}
        if len(names) <= 1 and names <= {"task", "queue"}:
            counts = await self._operations.counts(max_age_seconds=COUNTS_TTL_SECONDS)
            if not names:
                return counts
            groups = counts.by_task if "task" in names else counts.by_queue
            name = list_filter.get("task") or list_filter.get("queue")
            if (group := next((group for group in groups if group.name == name), None)) is not None:
                return group
        job_filter = list_filter.to_job_filter()
        return await self._operations.counts_matching(job_filter, max_age_seconds=COUNTS_TTL_SECONDS)

    async def job(self, request: Request) -> View:
        """Load ``GET /jobs/{id}``."""
        job_id = int(request.path_params["id"])
        detail = await self._operations.get_job(job_id) if job_id < 2**63 else None
        if detail is None:
            context = {"id": job_id, "capabilities": self._operations.capabilities}
            return View("job_not_found.html", context, status_code=404)
        context = {"detail": detail, "actions": _actions(detail), "error": _last_error(detail)}
        return View("job.html", {**context, "no_traceback": NO_TRACEBACK})

    async def schedules(self, _request: Request) -> View:
        """Load ``GET /schedules``."""
        schedules = await self._operations.schedules()
        return View("schedules.html", {"schedules": schedules, "durations": DURATIONS})

    async def triggers(self, _request: Request) -> View:
        """Load ``GET /triggers``."""
        triggers = sorted(await self._operations.triggers(), key=_table)
        return View("triggers.html", {"tables": [(table, list(group)) for table, group in groupby(triggers, _table)]})

    async def limits(self, _request: Request) -> View:
        """Load ``GET /limits``."""
        capabilities = self._operations.capabilities
        limits = () if capabilities.is_platform else await self._operations.limits()
        return View("limits.html", {"limits": limits, "capabilities": capabilities})

    async def workers(self, _request: Request) -> View:
        """Load ``GET /workers``."""
        return View(
            "workers.html", {"workers": await self._operations.workers(), "capabilities": self._operations.capabilities}
        )

    async def audit(self, request: Request) -> View:
        """Load ``GET /audit``: who did what."""
        values = {name: request.query_params.get(name, "").strip() for name in ("actor", "action", "since")}
        age = AGES.get(values["since"])
        before = request.query_params.get("before", "")
        page = AuditPage(())
        if not self._operations.capabilities.is_platform:
            page = await self._operations.audit(
                since=None if age is None else datetime.now(UTC) - timedelta(seconds=age),
                actor=values["actor"] or None,
                action=values["action"] if values["action"] in ACTIONS_RECORDED else None,
                limit=PAGE_SIZE,
                before=int(before) if before.isascii() and before.isdigit() and int(before) < 2**63 else None,
            )
        return View(
            "audit.html",
            {
                "page": page,
                "values": values,
                "actions": ACTIONS_RECORDED,
                "ages": AGE_LABELS,
                "is_first": not before,
                "capabilities": self._operations.capabilities,
            },
        )


def _actions(detail: JobDetail) -> tuple[Action, ...]:
    if detail.state is JobState.COMPLETED and detail.payload is not None:
        return (Action.RUN_AGAIN,)
    return ACTIONS[detail.state]


def _group_query(group: ErrorGroup) -> str:
    """Return the filter of the jobs of a group."""
    return ListFilter({"task": group.task, "group": group.id}).query


def _table(trigger: TriggerView) -> tuple[str, str]:
    return trigger.schema, trigger.table


def _is_listed(state: JobState, operations: Operations) -> bool:
    return state is not JobState.COMPLETED or operations.capabilities.history


def _last_error(detail: JobDetail) -> str | None:
    """Return the error of the last attempt; None if it completed."""
    if detail.state is JobState.COMPLETED:
        return None
    if detail.job is not None:
        return detail.job.last_error
    return detail.runs[-1].error if detail.runs else None
