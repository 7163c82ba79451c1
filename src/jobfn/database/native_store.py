"""``JobStore`` on jobfn's schema: one statement for many jobs."""

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Self

import asyncpg

from jobfn.database.records import (
    JOB_EXPIRY,
    ExpiredJob,
    Heartbeat,
    Job,
    Outcome,
    SettledJob,
    Settlement,
    sanitize_text,
    storable,
)
from jobfn.database.single_connection import SingleConnection
from jobfn.database.statements import query
from jobfn.database.step_store import StepStore, claim_columns, held_query
from jobfn.database.store import OnSettled, ignore_settlement


class NativeJobStore:
    """See ``JobStore``.

    Args:
        pool: Connections.
        schema: The jobs schema.
        queues: Claim only jobs of these queues; ``""`` stands for the jobs without one. None: all jobs.
        on_settled: Called with the jobs that were settled together.

    Attributes:
        steps: See ``JobStore.steps``.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        schema: str,
        *,
        queues: Sequence[str] | None = None,
        on_settled: OnSettled = ignore_settlement,
    ) -> None:
        self._pool: Any = pool
        self._queues = queues
        self._query = functools.partial(query, schema=schema)
        self._on_settled = on_settled
        self.steps: StepStore | None = StepStore(pool, schema)

    async def claim(
        self,
        worker_id: str,
        *,
        tasks: Sequence[str] | None,
        limit: int,
        lease_seconds: float | None = None,
        exclude_tasks: Sequence[str] = (),
        max_payload_bytes: int | None = None,
    ) -> list[Job]:
        """See ``JobStore.claim``."""
        lease = None if lease_seconds is None else timedelta(seconds=lease_seconds)
        rows = await self._pool.fetch(
            self._query("claim_jobs"),
            *(worker_id, tasks, JOB_EXPIRY, limit, lease, exclude_tasks, max_payload_bytes, self._queues),
        )
        return [Job.from_row(row) for row in rows]

    def joined(self, connection: asyncpg.Connection, on_settled: OnSettled) -> Self:
        """See ``JobStore.joined``."""
        store = copy.copy(self)
        store._pool = SingleConnection(connection)  # noqa: SLF001  - a copy of this store
        store._on_settled = on_settled  # noqa: SLF001
        return store

    async def settle(self, settlements: Sequence[Settlement]) -> set[int]:
        """See ``JobStore.settle``: one statement, one commit."""
        outcomes = [settlement.outcome.value for settlement in settlements]
        if Outcome.SNOOZED.value in outcomes or Outcome.PARKED.value in outcomes:
            settled = await self._settle_mixed(settlements)
        else:
            settled = await self._settle(self._pool, settlements, outcomes)
        self._on_settled(settled)
        return {each.settlement.job_id for each in settled}

    async def _settle(
        self, database: asyncpg.Pool | asyncpg.Connection, settlements: Sequence[Settlement], outcomes: Sequence[str]
    ) -> list[SettledJob]:
        errors = _errors(settlements)
        columns = [*claim_columns(settlements), outcomes, errors, [each.delay for each in settlements]]
        results = [settlement.result for settlement in settlements]
        if any(results):
            columns += [
                [None if result is None else result.result for result in results],
                [None if result is None else result.problem for result in results],
                [None if result is None else result.keep_seconds for result in results],
            ]
        if any(errors) and any(settlement.traceback for settlement in settlements):
            tracebacks = [None if each.traceback is None else storable(each.traceback) for each in settlements]
            no_results = () if any(results) else (None, None, None)
            name = "settle_jobs_with_tracebacks"
            columns += [*no_results, tracebacks]
        else:
            name = "settle_jobs_with_results" if any(results) else "settle_jobs"
        rows = await database.fetch(*held_query(self._query, name, settlements, columns))
        by_id = {settlement.job_id: settlement for settlement in settlements}
        return [SettledJob.from_row(by_id[row["id"]], row) for row in rows]

    async def _settle_mixed(self, settlements: Sequence[Settlement]) -> list[SettledJob]:
        """Settle snoozes, parks and others in one transaction."""
        snoozes = [settlement for settlement in settlements if settlement.outcome is Outcome.SNOOZED]
        parks = [settlement for settlement in settlements if settlement.outcome is Outcome.PARKED]
        others = [
            settlement for settlement in settlements if settlement.outcome not in {Outcome.SNOOZED, Outcome.PARKED}
        ]
        settled: list[SettledJob] = []
        async with self._pool.acquire() as connection, connection.transaction():
            if snoozes:
                settled += await self._snooze(connection, snoozes)
            if parks:
                waiting_for = [json.dumps(settlement.waiting_for) for settlement in parks]
                columns = [*claim_columns(parks), waiting_for]
                rows = await connection.fetch(*held_query(self._query, "park_jobs", parks, columns))
                by_id = {settlement.job_id: settlement for settlement in parks}
                settled += [SettledJob.from_row(by_id[row["id"]], row) for row in rows]
            if others:
                outcomes = [settlement.outcome.value for settlement in others]
                settled += await self._settle(connection, others, outcomes)
        return settled

    async def _snooze(self, connection: asyncpg.Connection, snoozes: Sequence[Settlement]) -> list[SettledJob]:
        delays = [settlement.delay or timedelta(0) for settlement in snoozes]
        max_ages = [settlement.snooze_max_age for settlement in snoozes]
        columns = [*claim_columns(snoozes), _errors(snoozes), delays, max_ages]
        rows = await connection.fetch(*held_query(self._query, "snooze_jobs", snoozes, columns))
        # A job that was snoozed for too long has failed permanently.
        by_id = {settlement.job_id: settlement for settlement in snoozes}
        return [SettledJob.from_row(by_id[row["id"]]._replace(permanent=row["exhausted"]), row) for row in rows]

    async def renew(self, worker_id: str, jobs: Sequence[tuple[int, int]], *, lease_seconds: float) -> set[int]:
        """See ``JobStore.renew``."""
        ids, attempts = [job_id for job_id, _ in jobs], [attempt for _, attempt in jobs]
        lease = timedelta(seconds=lease_seconds)
        rows = await self._pool.fetch(self._query("renew_leases"), worker_id, ids, attempts, lease)
        return {row["id"] for row in rows}

    async def heartbeat(self, heartbeat: Heartbeat, *, lease_seconds: float) -> bool:
        """See ``JobStore.heartbeat``."""
        is_locked: bool = await self._pool.fetchval(
            self._query("heartbeat_job"),
            heartbeat.worker_id,
            heartbeat.job_id,
            heartbeat.attempt,
            timedelta(seconds=lease_seconds),
            heartbeat.progress,
            None if heartbeat.message is None else sanitize_text(heartbeat.message),
            heartbeat.row_tag,
        )
        return is_locked

    async def cancelled(self, jobs: Sequence[tuple[int, int]]) -> set[int]:
        """See ``JobStore.cancelled``."""
        ids, attempts = [job_id for job_id, _ in jobs], [attempt for _, attempt in jobs]
        return {row["id"] for row in await self._pool.fetch(self._query("cancelled_jobs"), ids, attempts)}

    async def end_cancelled(self, worker_id: str, job_id: int, attempt: int | None) -> None:
        """See ``JobStore.end_cancelled``."""
        await self._pool.execute(self._query("end_cancelled_run"), worker_id, job_id, attempt)

    async def expire(self) -> int:
        """See ``JobStore.expire``."""
        return len(await self._pool.fetch(self._query("expire_jobs")))

    async def has_lease(self, worker_id: str, job_id: int, attempt: int, *, row_tag: int | None = None) -> bool:
        """See ``JobStore.has_lease``."""
        has_lease: bool = await self._pool.fetchval(self._query("has_lease"), worker_id, job_id, attempt, row_tag)
        return has_lease

    async def mark_accepted(self, worker_id: str, job_id: int, attempt: int) -> None:
        """See ``JobStore.mark_accepted``."""
        await self._pool.execute(self._query("mark_accepted"), worker_id, job_id, attempt)

    async def reap_expired(self) -> list[ExpiredJob]:
        """See ``JobStore.reap_expired``."""
        return [
            ExpiredJob.from_row(row) for row in await self._pool.fetch(self._query("reap_expired_jobs"), JOB_EXPIRY)
        ]

    async def reclaim(self, worker_id: str) -> list[ExpiredJob]:
        """See ``JobStore.reclaim``."""
        return [ExpiredJob.from_row(row) for row in await self._pool.fetch(self._query("reclaim_jobs"), worker_id)]

    async def release(self, worker_id: str) -> None:
        """See ``JobStore.release``."""
        await self._pool.execute(self._query("release_jobs"), worker_id)

    async def seconds_until_next(self, *, since_seconds: float = 0.0) -> float | None:
        """See ``JobStore.seconds_until_next``."""
        seconds: float | None = await self._pool.fetchval(self._query("next_run_at"), timedelta(seconds=since_seconds))
        return seconds

    async def paused(self, job_ids: Sequence[int]) -> set[int]:
        """See ``JobStore.paused``."""
        return {row["id"] for row in await self._pool.fetch(self._query("paused_jobs"), job_ids)}

    async def pause_limits(self, worker_id: str, job_id: int, attempt: int, *, seconds: float) -> bool:
        """See ``JobStore.pause_limits``."""
        is_paused: bool = await self._pool.fetchval(
            self._query("pause_limits_of_job"), worker_id, job_id, attempt, timedelta(seconds=seconds)
        )
        return is_paused

    async def is_locked_without_lease(self, worker_id: str, job_id: int) -> bool | None:
        """See ``JobStore.is_locked_without_lease``."""
        result: bool | None = await self._pool.fetchval(self._query("is_locked_without_lease"), worker_id, job_id)
        return result

    async def record_learned_attempts(self, limits: Mapping[str, int | None]) -> None:
        """See ``JobStore.record_learned_attempts``."""
        await self._pool.execute(self._query("record_learned_attempts"), list(limits), list(limits.values()))

    async def callback_secret(self) -> str | None:
        """See ``JobStore.callback_secret``."""
        return str(await self._pool.fetchval(self._query("callback_secret")))

    async def installation_id(self) -> str:
        """See ``JobStore.installation_id``."""
        return str(await self._pool.fetchval(self._query("installation_id")))


def _errors(settlements: Sequence[Settlement]) -> list[str | None]:
    return [None if settlement.error is None else sanitize_text(settlement.error) for settlement in settlements]
