"""``Operations``: everything that the command line and the dashboard do with jobs."""

from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.permissions import explain_denied
from jobfn.database.statements import query
from jobfn.operations import (
    actions,
    durable_actions,
    error_groups,
    queries,
    read_models,
    wait_reasons,
)
from jobfn.operations.actions import Action, ActionResult
from jobfn.operations.actor import Actor
from jobfn.operations.durable_actions import StepRetry
from jobfn.operations.error_groups import ErrorGroups
from jobfn.operations.fleet import FleetOperations
from jobfn.operations.follow import FinalState, follow
from jobfn.operations.read_models import TriggerView
from jobfn.operations.records import JobDetail, JobFilter, JobOrder, JobPage, JobRow
from jobfn.operations.statements import SchemaCapabilities, translate_errors
from jobfn.operations.stats import GroupCount, JobCounts, Stats, WorkerRow
from jobfn.operations.throughput import Throughput, ThroughputBucket, TimeRange
from jobfn.operations.troubles import Trouble, Troubles
from jobfn.operations.wait_reasons import WaitReason

NO_FILTER = JobFilter()


async def open_operations(
    pool: "asyncpg.Pool[Any]", schema: str, *, actor: Callable[[], Actor | None] | None = None
) -> "Operations":
    """Detect what the schema supports and return its operations.

    Args:
        pool: Connections; at least two if there are concurrent calls. Their role owns the schema, or was granted
            rights with ``jobfn db migrate --grant-operator`` or ``--grant-viewer``.
        schema: The jobs schema.
        actor: Returns who acts now, for the audit list. Default: nobody but the role of the connections.

    Raises:
        SchemaError: The schema does not exist, or is older than this jobfn.
        PermissionDenied: The role may not read the schema.
        DatabaseError: The connection was lost.
    """
    with translate_errors(schema):
        is_platform = not isinstance(await open_store(pool, schema, grant="viewer"), NativeJobStore)
        keys_in_byte_order = bool(await pool.fetchval(query("keys_in_byte_order", schema), schema))
        if is_platform:
            row = await pool.fetchrow(query("schema_kind", schema), schema)
            capabilities = SchemaCapabilities(
                is_platform=True,
                has_actor_id=row["has_actor_id"],
                has_entity_id=row["has_entity_id"],
                keys_in_byte_order=keys_in_byte_order,
            )
            return Operations(pool, schema, capabilities, actor)
        async with pool.acquire() as connection, explain_denied(connection, schema):
            history_days = await connection.fetchval(query("history_retention", schema))
        capabilities = SchemaCapabilities(
            is_platform=False, history_days=history_days, keys_in_byte_order=keys_in_byte_order
        )
        return Operations(pool, schema, capabilities, actor)


class Operations(FleetOperations):
    """Read and change jobs. Open it with ``open_operations``. The platform's own schema supports less.

    Raises:
        PermissionDenied: From every method: the role lacks a right.
        DatabaseError: From every method: PostgreSQL rejected the statement, or the connection was lost.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        schema: str,
        capabilities: SchemaCapabilities,
        actor: Callable[[], Actor | None] | None = None,
    ) -> None:
        super().__init__(pool, schema, capabilities, actor)
        self._stats = Stats(self._database)
        self._throughput = Throughput(self._database)
        self._troubles = Troubles(self._database, self._stats)

    async def list_jobs(
        self,
        job_filter: JobFilter = NO_FILTER,
        *,
        limit: int = 50,
        after: str | None = None,
        order: JobOrder = JobOrder.NEWEST,
    ) -> JobPage:
        """List jobs. Every page costs as much as the first.

        Args:
            job_filter: Which jobs.
            limit: Size of the page, 1 to 1,000.
            order: ``UPDATED`` reads and sorts all jobs that match.
            after: The ``next`` of the previous page.

        Raises:
            ConfigurationError: The filter, the limit or ``after`` is invalid, or completed jobs are requested from a
                schema without history, or in another order than the newest first.
        """
        return await queries.list_jobs(self._database, job_filter, limit=limit, after=after, order=order)

    async def count_matching(self, job_filter: JobFilter, *, limit: int = 10_000) -> int:
        """Count the jobs that match, up to ``limit``."""
        return await queries.count_matching(self._database, job_filter, limit=limit)

    async def error_groups(self, job_filter: JobFilter = NO_FILTER, *, limit: int = 50) -> ErrorGroups:
        """Group jobs by task and last error, without its numbers, ids and quoted values; the largest groups first.

        Cancelled and expired jobs are not part of them. Reads the newest 100,000 jobs with an error.

        Args:
            job_filter: Which jobs. Default: those that have failed permanently, and those that will be retried.
            limit: Maximum number of groups.

        Raises:
            ConfigurationError: The filter is invalid, or selects completed, cancelled or expired jobs.
        """
        return await error_groups.list_error_groups(self._database, job_filter, limit=limit)

    async def count_targets(
        self, action: Action, job_filter: JobFilter, *, include_running: bool = False, limit: int
    ) -> int:
        """Count the jobs that ``apply_to_matching`` would select, up to about ``limit``."""
        return await actions.count_targets(
            self._database, action, job_filter, include_running=include_running, limit=limit
        )

    async def preview(self, action: Action, job_ids: Sequence[int], *, include_running: bool = False) -> ActionResult:
        """Return what ``apply`` would do with these jobs in their states of now, and change nothing."""
        return await actions.preview(self._database, action, job_ids, include_running=include_running)

    async def get_job(self, job_id: int) -> JobDetail | None:
        """Return everything known about a job; None if neither the table nor the history has it."""
        return await queries.get_job(self._database, job_id)

    async def explain_wait(self, job_id: int) -> tuple[WaitReason, ...]:
        """Return why a job does not run, those reasons first that block first; empty if it has no row.

        It agrees with claims. The platform's schema has fewer reasons, because its workers do not register.
        """
        return await wait_reasons.explain_wait(self._database, job_id)

    async def counts(self, *, max_age_seconds: float = 0.0) -> JobCounts:
        """Count all jobs by state: in total, by task and by queue.

        A count reads the whole table. Its result is cached for ``max_age_seconds``, and at least for 19 times its
        duration, so that frequent calls use at most 5 % of one connection's time.
        """
        return await self._stats.counts(max_age_seconds=max_age_seconds)

    async def counts_matching(self, job_filter: JobFilter, *, max_age_seconds: float = 0.0) -> GroupCount | None:
        """Count the jobs that match by state, whatever the filter's state is. Cached as ``counts``.

        Returns:
            The counts; None if counting takes too long.
        """
        return await self._stats.counts_matching(job_filter, max_age_seconds=max_age_seconds)

    async def throughput(self, *, minutes: int = 60) -> tuple[ThroughputBucket, ...]:
        """Return the last minutes, oldest first, including the current one; empty without history."""
        return await self._throughput.minutes(minutes)

    async def throughput_of_range(self, time_range: TimeRange, task: str | None = None) -> tuple[ThroughputBucket, ...]:
        """Return the attempts of the last hour, 24 hours or 7 days, of one task or all; empty without history.

        The result is up to half a second, 8 seconds or a minute old.
        """
        return await self._throughput.range(time_range, task)

    async def workers(self, *, max_age_seconds: float = 0.0) -> tuple[WorkerRow, ...]:
        """Return the registered processes, and others that hold jobs. Cached as ``counts``."""
        return await self._stats.workers(max_age_seconds=max_age_seconds)

    async def troubles(self) -> tuple[Trouble, ...]:
        """Return what keeps jobs from running, worst first: a full disk, silent workers, pauses."""
        return await self._troubles.get()

    async def tasks(self) -> tuple[str, ...]:
        """Return the task identifiers of the latest 5,000 jobs and the latest 5,000 attempts, sorted."""
        return await self._stats.tasks()

    async def triggers(self) -> tuple[TriggerView, ...]:
        """Return the triggers that jobfn created, with their tables."""
        return await read_models.list_triggers(self._database)

    async def apply(
        self, action: Action, job_ids: Sequence[int], *, reason: str | None = None, include_running: bool = False
    ) -> ActionResult:
        """Apply an action to these jobs, up to 500 in a transaction.

        ``RETRY`` resets the attempts of a permanently failed job and makes it due. ``RUN_NOW`` makes a delayed job due.
        ``RUN_AGAIN`` adds a new job, without a job key, for a completed job that is stored with its payload
        (``JOBS_COMPLETED_PAYLOAD_DAYS``). ``WAKE`` ends the sleeps and the waits with a deadline of a parked job.
        ``CANCEL`` permanently fails a waiting job, and its waiting child jobs. ``REMOVE`` deletes a job that is not
        running.

        Args:
            action: The action.
            job_ids: The jobs.
            reason: For ``CANCEL``: the error to store. Default: ``cancelled by hand``.
            include_running: For ``CANCEL``: cancel running jobs too. The worker loses the job: reports on it are
                rejected (409), and a background handler is cancelled at its next heartbeat. A handler that responds
                within its request runs to its end, but no longer changes the job. Not on the platform's schema.
        """
        return await actions.apply(self._database, action, job_ids, reason=reason, include_running=include_running)

    async def apply_to_matching(
        self,
        action: Action,
        job_filter: JobFilter,
        *,
        reason: str | None = None,
        include_running: bool = False,
        on_progress: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> ActionResult:
        """Apply an action to all matching jobs that exist when the call starts, as ``apply`` does.

        Args:
            action: The action.
            job_filter: Which jobs. Without a state: ``RETRY`` selects failed ones, ``RUN_NOW`` delayed ones, ``WAKE``
                parked ones, ``RUN_AGAIN`` completed ones that are stored, ``CANCEL`` ready, delayed and parked ones,
                and running ones with ``include_running``.
            reason: See ``apply``.
            include_running: See ``apply``.
            on_progress: Called after each transaction with the number of jobs in it.
            should_stop: Called before each transaction; returns whether to stop there.

        Raises:
            ConfigurationError: The filter is empty, or selects completed jobs.
        """
        return await actions.apply_to_matching(
            self._database,
            action,
            job_filter,
            reason=reason,
            include_running=include_running,
            on_progress=on_progress,
            should_stop=should_stop,
        )

    async def send_signal(self, job_id: int, event: str, payload: str | None = None) -> bool:
        """Send a signal to a durable function.

        Args:
            job_id: The job.
            event: The name of the signal.
            payload: JSON text.

        Returns:
            Whether the job got it; False if it has ended or does not exist.

        Raises:
            ConfigurationError: The schema is the platform's, which has no durable functions.
        """
        return await durable_actions.send_signal(self._database, job_id, event, payload)

    async def plan_retry(self, job_id: int, step: str | int) -> StepRetry:
        """Return what a retry of a durable function from a step would forget.

        Args:
            job_id: The job.
            step: The name of the step, or its position.

        Raises:
            ConfigurationError: The job has no such step, or the schema is the platform's.
            DatabaseError: The job is running, or does not exist.
        """
        return await durable_actions.plan_retry(self._database, job_id, step)

    async def retry_from_step(self, retry: StepRetry) -> None:
        """Forget a step and those after it, cancel their waiting children, and run the job now.

        Raises:
            DatabaseError: The job has been started meanwhile.
        """
        await durable_actions.retry_from_step(self._database, retry)

    async def follow(
        self, job_id: int, *, poll_interval_seconds: float = 0.2, on_change: Callable[[JobRow], None] | None = None
    ) -> FinalState:
        """Wait until a job completes, fails permanently or is removed.

        Args:
            job_id: The job.
            poll_interval_seconds: Seconds between two polls.
            on_change: Called when the state, the attempt or the progress changes.

        Raises:
            ConfigurationError: The job does not exist.
        """
        return await follow(self._database, job_id, poll_interval_seconds=poll_interval_seconds, on_change=on_change)
