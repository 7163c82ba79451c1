"""``Operations``: all that the command line and the dashboard ask of the jobs and do with them."""

from collections.abc import Callable, Sequence
from typing import Any

import asyncpg

from jobfn.database.jobs import NativeJobStore, open_store
from jobfn.database.statements import query
from jobfn.errors import SchemaError
from jobfn.operations import actions, queries, read_models
from jobfn.operations.actions import Action, ActionResult
from jobfn.operations.figures import Counts, Minute, WorkerRow
from jobfn.operations.follow import FinalState, follow
from jobfn.operations.read_models import ScheduleView, TriggerView
from jobfn.operations.records import JobDetail, JobFilter, JobPage, JobRow
from jobfn.operations.statements import Database, Features, readable
from jobfn.operations.stats import Measures

ANY = JobFilter()


async def open_operations(pool: "asyncpg.Pool[Any]", schema: str) -> "Operations":
    """Look at what the schema can tell.

    Args:
        pool: Connections, two or more where several ask at once. Their role must be the schema's owner, or have its
            rights.
        schema: The jobs schema.

    Raises:
        SchemaError: There is none, or it is older than this jobfn; says what to do.
        DatabaseError: This role may not look at it, or the database went away.
    """
    with readable(schema):
        is_platform = not isinstance(await open_store(pool, schema), NativeJobStore)
        in_order = bool(await pool.fetchval(query("keys_in_byte_order", schema), schema))
        if is_platform:
            found = await pool.fetchrow(query("features", schema), schema)
            features = Features(
                True,
                has_actor_id=found["actor_id"],
                has_entity_id=found["entity_id"],
                keys_in_byte_order=in_order,
            )
            return Operations(pool, schema, features)
        if not await pool.fetchval(query("has_history", schema), schema):
            raise SchemaError(f"schema {schema} is older than this jobfn: run `jobfn db migrate`")
        days = await pool.fetchval(query("history_kept", schema))
        return Operations(pool, schema, Features(False, history_days=days, keys_in_byte_order=in_order))


class Operations:
    """What operators see and do; made by ``open_operations``. On the platform's own schema there is less to see.

    Args:
        pool: Connections.
        schema: The jobs schema.
        features: What it can tell.

    Raises:
        DatabaseError: From every method: PostgreSQL refused, or went away; says what.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str, features: Features) -> None:
        self._database = Database(pool, schema, features)
        self._measures = Measures(self._database)
        self.schema = schema
        self.features = features

    async def list_jobs(self, wanted: JobFilter = ANY, *, limit: int = 50, after: str | None = None) -> JobPage:
        """Jobs, newest first. No page costs more than the first.

        Args:
            wanted: Which.
            limit: How many, 1 to 1,000.
            after: The ``next`` of the page before.

        Raises:
            ConfigurationError: The filter, the limit or ``after`` cannot be; or completed jobs are asked for where
                there is no history.
        """
        return await queries.list_jobs(self._database, wanted, limit=limit, after=after)

    async def count_matching(self, wanted: JobFilter, *, at_most: int = 10_000) -> int:
        """How many jobs fit, counted no further than ``at_most``.

        Raises:
            ConfigurationError: The filter cannot be.
        """
        return await queries.count_matching(self._database, wanted, at_most=at_most)

    async def count_targets(self, action: Action, wanted: JobFilter, *, running: bool = False, at_most: int) -> int:
        """How many jobs ``apply_to_matching`` would look at, counted no further than about ``at_most``.

        Raises:
            ConfigurationError: As ``apply_to_matching``.
        """
        parts = actions.meant(action, wanted, running=running)
        return sum([await self.count_matching(part, at_most=at_most) for part in parts])

    async def show_job(self, job_id: int) -> JobDetail | None:
        """All that is known of a job; None: nothing, in the table or in history."""
        return await queries.show_job(self._database, job_id)

    async def counts(self, *, max_age_seconds: float = 0.0) -> Counts:
        """All jobs by state, in all, by task and by queue.

        One look goes over the whole table. It serves for ``max_age_seconds``, and in any case for 19 times what it
        took, so that however often this is called it takes a twentieth of one connection's time.
        """
        return await self._measures.counts(max_age_seconds=max_age_seconds)

    async def throughput(self, *, minutes: int = 60) -> tuple[Minute, ...]:
        """The last minutes, oldest first, this one the last; empty on a schema without history."""
        return await self._measures.throughput(minutes=minutes)

    async def workers(self, *, max_age_seconds: float = 0.0) -> tuple[WorkerRow, ...]:
        """Who is at work: those that say so, and those that hold jobs. AsyncTTLCache as ``counts`` is."""
        return await self._measures.workers(max_age_seconds=max_age_seconds)

    async def tasks(self) -> tuple[str, ...]:
        """The tasks of the latest 5,000 jobs and of the latest 5,000 attempts, by name."""
        return await self._measures.tasks()

    async def schedules(self, *, times: int = 3) -> tuple[ScheduleView, ...]:
        """Every schedule, with its next times."""
        return await read_models.schedules(self._database, times=times)

    async def triggers(self) -> tuple[TriggerView, ...]:
        """The triggers that jobfn made, with the tables they watch."""
        return await read_models.triggers(self._database)

    async def act(
        self, action: Action, ids: Sequence[int], *, reason: str | None = None, running: bool = False
    ) -> ActionResult:
        """Do something with these jobs; up to 500 in a transaction.

        ``RETRY`` gives a job that has failed for good all its attempts anew, from now. ``RUN_NOW`` makes a delayed
        one due. ``CANCEL`` fails one that waits for good. ``REMOVE`` deletes one that nobody holds.

        Args:
            action: What.
            ids: With which.
            reason: Of ``CANCEL``: what stands as the error. Default: ``cancelled by hand``.
            running: Of ``CANCEL``: also what runs. The job is taken from its worker: reports on it are refused (409),
                and a background handler is cancelled at its next sign of life. A handler that answers in its request
                runs to its end, and changes nothing of the job. Not on the platform's schema.
        """
        return await actions.act(self._database, action, ids, reason=reason, running=running)

    async def apply_to_matching(
        self,
        action: Action,
        wanted: JobFilter,
        *,
        reason: str | None = None,
        running: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> ActionResult:
        """Do something with all jobs that fit and were there when this began. As ``act``, 500 after 500.

        Args:
            action: What.
            wanted: With which. Without a state: ``RETRY`` takes failed ones, ``RUN_NOW`` delayed ones, ``CANCEL`` ready
                and delayed ones, and with ``running`` those that run.
            reason: See ``act``.
            running: See ``act``.
            progress: Called after each transaction with the number of jobs it looked at.

        Raises:
            ConfigurationError: The filter is empty, or asks for completed jobs.
        """
        return await actions.apply_to_matching(
            self._database, action, wanted, reason=reason, running=running, progress=progress
        )

    async def follow(
        self, job_id: int, *, poll_interval_seconds: float = 0.2, changed: Callable[[JobRow], None] | None = None
    ) -> FinalState:
        """Wait until a job is done or has failed for good.

        Args:
            job_id: Which.
            poll_interval_seconds: How often to ask.
            changed: Called when its state, its attempt or its progress has changed.

        Raises:
            ConfigurationError: There is no such job.
        """
        return await follow(self._database, job_id, poll_interval_seconds=poll_interval_seconds, changed=changed)
