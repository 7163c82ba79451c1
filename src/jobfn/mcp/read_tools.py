"""Tools that change nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from mcp.server.mcpserver.exceptions import ToolError
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from jobfn.explain import explanations
from jobfn.mcp.limits import (
    MAX_CHARACTERS,
    MAX_COUNTED,
    MAX_ITEMS,
    MAX_JOBS,
    MAX_NAMES,
    MAX_PAYLOAD_CHARACTERS,
    MAX_RECORDS,
    MAX_WAIT_SECONDS,
)
from jobfn.mcp.plain_values import limited, plain, visible
from jobfn.mcp.settings import McpSettings
from jobfn.operations import JobDetail, JobFilter, JobOrder, JobRow, Operations
from jobfn.operations.doctor import Check

#: Counts may be this old.
_MAX_AGE_SECONDS: Final = 1.0
#: Fields of a durable function's records that hold values of the application.
_VALUES: Final = ("result", "payload")

NO_PAYLOADS: Final = "payloads are not shown by this server (JOBFN_MCP_PAYLOADS=false): use the command line"

JobId = Annotated[int, Field(description="The id of the job.", gt=0, lt=2**63)]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))  # a misspelt field must not select more jobs
class Filter(JobFilter):  # noqa: D101  - the next line
    __doc__ = JobFilter.__doc__


def check_filter(settings: McpSettings, job_filter: Filter | None) -> None:
    """Refuse to find jobs by values of payloads, if they are not to be shown.

    Raises:
        ToolError: The filter has a payload.
    """
    if job_filter is not None and job_filter.payload is not None and not settings.payloads:
        raise ToolError(NO_PAYLOADS)


class ReadTools:
    """Tools that change nothing.

    Args:
        operations: The operations.
        settings: The settings.
        run_checks: The checks of ``jobfn doctor``.
    """

    def __init__(
        self, operations: Operations, settings: McpSettings, run_checks: Callable[[], AsyncIterator[Check]]
    ) -> None:
        self._operations = operations
        self._settings = settings
        self._run_checks = run_checks

    @property
    def tools(self) -> tuple[Callable[..., Any], ...]:
        """The functions that are tools."""
        return (
            self.overview,
            self.list_jobs,
            self.count_jobs,
            self.show_job,
            self.explain_wait,
            self.wait_for_job,
            self.list_tasks,
            self.list_workers,
            self.list_schedules,
            self.list_limits,
            self.list_pauses,
            self.list_triggers,
            self.list_audit,
            self.doctor,
            self.explain_code,
        )

    async def overview(
        self, minutes: Annotated[int, Field(ge=1, le=1440, description="Period of the throughput.")] = 60
    ) -> dict[str, Any]:
        """Count the jobs by state, task and queue, and the attempts that ended in the last minutes.

        Call it first. `oldest_ready_seconds` says how long the first of the ready jobs has been waiting.
        """
        counts = await self._operations.counts(max_age_seconds=_MAX_AGE_SECONDS)
        buckets = await self._operations.throughput(minutes=minutes)
        by_task = sorted(counts.by_task, key=lambda group: -group.total)
        return {
            **plain(counts, without=("by_task", "by_queue", "took_seconds")),
            **limited("by_task", by_task, MAX_ITEMS),
            **limited("by_queue", counts.by_queue, MAX_ITEMS),
            "last_minutes": {
                "minutes": minutes,
                "completed": sum(bucket.completed for bucket in buckets),
                "failed": sum(bucket.failed for bucket in buckets),
            }
            if buckets
            else "unknown: the schema has no history",
        }

    async def list_jobs(
        self,
        filter: Annotated[Filter | None, Field(description="Which jobs; all if it is left out.")] = None,  # noqa: A002
        limit: Annotated[int, Field(ge=1, le=MAX_JOBS)] = 20,
        after: Annotated[str | None, Field(description="The `next` of the previous page.")] = None,
        order: JobOrder = JobOrder.NEWEST,
    ) -> dict[str, Any]:
        """List jobs, without their payloads. For the latest failures: state `failed` and order `updated`."""
        check_filter(self._settings, filter)
        page = await self._operations.list_jobs(filter or JobFilter(), limit=limit, after=after, order=order)
        return {"jobs": [_job(job) for job in page.jobs], "next": page.next}

    async def count_jobs(
        self,
        filter: Annotated[Filter, Field(description="Which jobs.")],  # noqa: A002
    ) -> dict[str, Any]:
        """Count the jobs that match a filter, up to 10,000."""
        check_filter(self._settings, filter)
        count = await self._operations.count_matching(filter, limit=MAX_COUNTED)
        return {"count": count, "is_more": count >= MAX_COUNTED}

    async def show_job(
        self,
        *,
        job_id: JobId,
        with_payload: Annotated[
            bool, Field(description="Include the payload, and the results of a durable function. They may be private.")
        ] = False,
    ) -> dict[str, Any]:
        """Show one job: its state, its timeline with the errors of its attempts, and what a durable function did."""
        if with_payload and not self._settings.payloads:
            raise ToolError(NO_PAYLOADS)
        detail = await self._operations.get_job(job_id)
        if detail is None:
            raise ToolError(f"job {job_id} is not in the queue or its history")
        return _detail(detail, with_payload=with_payload)

    async def explain_wait(self, job_id: JobId) -> dict[str, Any]:
        """Say why a job does not run: each reason in one line, the first that blocks it first."""
        reasons = await self._operations.explain_wait(job_id)
        if not reasons:
            raise ToolError(f"job {job_id} is not in the queue")
        return dict(limited("reasons", reasons, MAX_RECORDS))

    async def wait_for_job(
        self, job_id: JobId, timeout_seconds: Annotated[float, Field(gt=0, le=MAX_WAIT_SECONDS)] = 20.0
    ) -> dict[str, Any]:
        """Wait until a job completes or fails permanently, or until the timeout."""
        try:
            async with asyncio.timeout(timeout_seconds):
                final = await self._operations.follow(job_id)
        except TimeoutError:
            return {"ended": False, "message": f"the job has not ended within {timeout_seconds:g} seconds"}
        return {"ended": True, **plain(final, MAX_CHARACTERS)}

    async def list_tasks(self) -> dict[str, Any]:
        """List the tasks of the latest jobs and attempts."""
        return dict(limited("tasks", await self._operations.tasks(), MAX_NAMES))

    async def list_workers(self) -> dict[str, Any]:
        """List the processes that work on jobs, with their last heartbeat and the number of jobs that they hold."""
        return dict(limited("workers", await self._operations.workers(max_age_seconds=_MAX_AGE_SECONDS), MAX_ITEMS))

    async def list_schedules(self) -> dict[str, Any]:
        """List the schedules with their rule, their next times and their problems, without their payloads."""
        views = await self._operations.schedules()
        schedules = [
            {
                "id": view.row.id,
                "task": view.row.task,
                "key": view.row.key,
                "rule": view.rule,
                "words": view.words,
                "next_times": view.next_times,
                "problem": view.problem,
            }
            for view in views
        ]
        return dict(limited("schedules", schedules, MAX_ITEMS))

    async def list_limits(self) -> dict[str, Any]:
        """List the limits of concurrency and rate, and what they count now."""
        limits = [
            plain(row, without=("keys",) if (row.per or "").startswith("payload.") else ())  # the key is a payload's
            for row in await self._operations.limits()
        ]
        return dict(limited("limits", limits, MAX_ITEMS))

    async def list_pauses(self) -> dict[str, Any]:
        """List what is paused: tasks, queues, tenants or everything."""
        return dict(limited("pauses", await self._operations.pauses(), MAX_ITEMS))

    async def list_triggers(self) -> dict[str, Any]:
        """List the database triggers that add jobs, with their tables."""
        triggers = [plain(view, without=("parameters",)) for view in await self._operations.triggers()]
        return dict(limited("triggers", triggers, MAX_ITEMS))

    async def list_audit(
        self,
        *,
        hours: Annotated[float, Field(gt=0, le=8760, description="Entries of the last hours.")] = 24.0,
        actor: Annotated[str | None, Field(description="A part of the name of who acted.")] = None,
        action: Annotated[str | None, Field(description="Such as retry, pause or set_limit.")] = None,
        limit: Annotated[int, Field(ge=1, le=MAX_ITEMS)] = 20,
        before: Annotated[int | None, Field(description="The `next` of the previous page.")] = None,
    ) -> dict[str, Any]:
        """List who did what with jobs, schedules and settings, newest first."""
        since = datetime.now(UTC) - timedelta(hours=hours)
        page = await self._operations.audit(since=since, actor=actor, action=action, limit=limit, before=before)
        return dict(plain(page))

    async def doctor(self) -> dict[str, Any]:
        """Check the database, the workers, the callback server and the functions, with advice.

        It reads the settings of this process, so the checks of functions are right where these are the service's.
        """
        return dict(limited("checks", [check async for check in self._run_checks()], MAX_NAMES))

    async def explain_code(
        self, code: Annotated[str, Field(description="Such as F422, C409 or J101.")]
    ) -> dict[str, Any]:
        """Explain an error code of jobfn."""
        found = explanations().get(code.strip("[] ").upper())
        if found is None:
            raise ToolError("the code is unknown: codes are a letter and three digits, such as F422")
        return dict(plain(found._asdict(), MAX_CHARACTERS))


def _job(job: JobRow) -> dict[str, Any]:
    return {**plain(job, without=("state", "is_expired")), "state": job.state_label}


def _detail(detail: JobDetail, *, with_payload: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": detail.id, "task": visible(detail.task), "state": detail.state_label}
    if detail.job is not None:
        shown |= plain(detail.job, MAX_CHARACTERS, without=("id", "task", "state", "is_expired"))
    if detail.parent_id is not None:
        shown["parent_id"] = detail.parent_id
    if detail.payload is not None:
        shown["payload_characters"] = len(detail.payload)
        if with_payload:
            shown["payload"] = visible(detail.payload, MAX_PAYLOAD_CHARACTERS)
    shown["timeline"] = plain(detail.timeline[-2 * MAX_RECORDS :], MAX_CHARACTERS)
    if detail.run is not None:
        run = detail.run
        hidden = () if with_payload else _VALUES
        shown["durable"] = {
            "waits_for": [wait.text for wait in run.waits],
            "step_count": run.step_count,
            "steps": plain(run.steps[-MAX_RECORDS:], MAX_CHARACTERS, without=hidden),
            "signal_count": run.signal_count,
            "signals": plain(run.signals[:MAX_RECORDS], MAX_CHARACTERS, without=hidden),
            "child_count": run.child_count,
            "children": plain(run.children[:MAX_RECORDS]),
        }
    return shown
