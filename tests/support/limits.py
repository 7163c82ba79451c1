"""Limits of a database, as tests set, read and check them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

#: More running jobs of a key than its limit allows. Counts the jobs, not the slots.
EXCEEDED = """
    select l.name, found.key, count(*) as running
    from app_jobs.limits l
    cross join lateral (
        select app_jobs.limit_key(l.per, j.database_id, j.queue_name, j.key, j.task_identifier, j.payload) as key
        from app_jobs.jobs j
        where j.locked_at is not null
            and (l.task_identifier is null or l.task_identifier = j.task_identifier)
            and (l.queue_name is null or l.queue_name = j.queue_name)
    ) found
    where l.concurrency is not null
    group by l.name, found.key, l.concurrency
    having count(*) > l.concurrency
"""
#: Rows that belong to no job in their state.
ORPHANS = """
    select 'slot' as kind, s.job_id from app_jobs.limit_slots s
    where not exists (select from app_jobs.jobs j where j.id = s.job_id and j.locked_at is not null)
        and not exists (select from app_jobs.cancelled_runs r where r.id = -s.job_id)
    union all
    select 'held', h.job_id from app_jobs.held_jobs h
    where not exists (
        select from app_jobs.jobs j
        where j.id = h.job_id and j.locked_at is null and j.run_at = 'infinity' and not j.exhausted
    )
    union all
    select 'due at infinity', j.id from app_jobs.jobs j
    where j.run_at = 'infinity' and j.parked_attempt is null and not j.exhausted
        and not exists (select from app_jobs.held_jobs h where h.job_id = j.id)
"""


async def set_limit(connection: asyncpg.Connection, name: str, **values: Any) -> asyncpg.Record:
    """Call ``set_limit`` with named arguments."""
    named = "".join(f", {argument} := ${number}" for number, argument in enumerate(values, 2))
    row = await connection.fetchrow(f"select * from app_jobs.set_limit(name := $1{named})", name, *values.values())
    assert row is not None, "set_limit returns the limit"
    return row


async def claim(
    connection: asyncpg.Connection,
    count: int,
    *,
    worker: str = "worker-under-test",
    tasks: Sequence[str] | None = None,
    lease: timedelta | None = None,
) -> list[int]:
    """Call ``claim_jobs``, and return the ids in the order of its rows."""
    rows = await connection.fetch(
        "select id from app_jobs.claim_jobs($1, $2, '4 hours', $3, $4)", worker, tasks, count, lease
    )
    return [row["id"] for row in rows]


async def held(connection: asyncpg.Connection) -> list[int]:
    """Return the ids of the jobs that limits hold, most urgent first."""
    rows = await connection.fetch("select job_id from app_jobs.held_jobs order by priority, run_at, job_id")
    return [row["job_id"] for row in rows]


async def assert_consistent(connection: asyncpg.Connection) -> None:
    """Check that no limit is exceeded, and that each slot and each held job has its job."""
    assert await connection.fetch(EXCEEDED) == []
    assert await connection.fetch(ORPHANS) == []
