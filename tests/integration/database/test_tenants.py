"""Tenants take turns, by weight, within a priority."""

import uuid
from collections import Counter
from collections.abc import Sequence

import asyncpg
import pytest

from support.jobs import Jobs

A, B, C = (f"{digit * 8}-0000-4000-8000-000000000000" for digit in "5bc")
ADD = """
    insert into app_jobs.jobs (database_id, task_identifier, priority, queue_name, run_at)
    select $1, $2, $3, $4, now() - interval '1 minute' from generate_series(1, $5)
"""
CLAIM = """
    select database_id::text, task_identifier, priority
    from app_jobs.claim_jobs('worker', $1, '4 hours', $2, null, $3)
"""


async def add(
    jobs: Jobs, tenant: str | None, number: int, *, task: str = "x", priority: int = 0, queue: str | None = None
) -> None:
    await jobs.connection.execute(ADD, tenant, task, priority, queue, number)


async def claim(
    jobs: Jobs, limit: int, *, tasks: Sequence[str] | None = None, exclude: Sequence[str] = ()
) -> list[asyncpg.Record]:
    return list(await jobs.connection.fetch(CLAIM, tasks, limit, exclude))


def by_tenant(rows: list[asyncpg.Record]) -> Counter[str | None]:
    return Counter(row["database_id"] for row in rows)


#: Claims without a filter, of some tasks, and without some tasks are different scans.
FILTERS: list[dict[str, list[str]]] = [{}, {"tasks": ["x", "y"]}, {"exclude": ["y"]}]


@pytest.mark.parametrize("filters", FILTERS)
async def test_flood_of_one_tenant_does_not_hold_up_another(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    await add(jobs, A, 3000)
    await add(jobs, B, 10)
    assert by_tenant(await claim(jobs, 20, **filters)) == {A: 10, B: 10}
    assert by_tenant(await claim(jobs, 20, **filters)) == {A: 20}


@pytest.mark.parametrize("filters", FILTERS)
async def test_jobs_without_a_tenant_take_turns_too(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    await add(jobs, A, 300)
    await add(jobs, None, 300)
    await add(jobs, B, 2)
    counts = by_tenant(await claim(jobs, 20, **filters))
    assert counts[B] == 2
    assert counts[A] + counts[None] == 18
    assert 7 <= counts[None] <= 11


@pytest.mark.parametrize("filters", FILTERS)
async def test_single_claims_choose_tenants_at_random(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    """As those of a worker do whose slots become free one by one."""
    await add(jobs, A, 1000)
    await add(jobs, B, 1000)
    counts: Counter[str | None] = Counter()
    for _ in range(200):
        counts += by_tenant(await claim(jobs, 1, **filters))
    assert 55 <= counts[B] <= 145  # six standard deviations


@pytest.mark.parametrize("filters", FILTERS)
async def test_weights(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    await jobs.connection.execute("select app_jobs.set_tenant_weight($1, 3)", A)
    for tenant in (A, B, C):
        await add(jobs, tenant, 200)
    assert by_tenant(await claim(jobs, 100, **filters)) == {A: 60, B: 20, C: 20}
    await jobs.connection.execute("select app_jobs.set_tenant_weight($1, 1)", A)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.tenant_weights") == 0


@pytest.mark.parametrize("weight", [0, 1001])
async def test_invalid_weight(jobs: Jobs, weight: int) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"weight is {weight}"):
        await jobs.connection.execute("select app_jobs.set_tenant_weight($1, $2)", A, weight)


async def test_weights_hold_for_single_claims(jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.set_tenant_weight($1, 9)", A)
    await add(jobs, A, 1000)
    await add(jobs, B, 1000)
    counts: Counter[str | None] = Counter()
    for _ in range(200):
        counts += by_tenant(await claim(jobs, 1))
    assert 2 <= counts[B] <= 46  # 20 and six standard deviations


@pytest.mark.parametrize("filters", FILTERS)
async def test_priority_is_first(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    await add(jobs, A, 30, priority=-1)
    await add(jobs, B, 10)
    await add(jobs, C, 10)
    await add(jobs, None, 3, priority=-2)
    assert by_tenant(await claim(jobs, 20, **filters)) == {None: 3, A: 17}
    assert by_tenant(await claim(jobs, 23, **filters)) == {A: 13, B: 5, C: 5}


@pytest.mark.parametrize("filters", FILTERS)
async def test_one_tenant_keeps_the_order_of_its_jobs(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    await add(jobs, A, 30)
    await add(jobs, B, 30)
    first = await jobs.connection.fetchval("select min(id) from app_jobs.jobs where database_id = $1", A)
    await claim(jobs, 10, **filters)
    claimed = "select id from app_jobs.jobs where locked_at is not null and database_id = $1 order by id"
    ids = [row["id"] for row in await jobs.connection.fetch(claimed, A)]
    assert ids == list(range(first, first + 5))


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("tenants", [100, 400])
async def test_all_jobs_of_many_tenants_are_claimed(jobs: Jobs, filters: dict[str, list[str]], tenants: int) -> None:
    for _ in range(tenants):
        await add(jobs, str(uuid.uuid4()), 1)
    rows = await claim(jobs, 1000, **filters)
    assert len(rows) == tenants
    assert await claim(jobs, 1000, **filters) == []


async def test_many_tenants_have_the_same_share(jobs: Jobs) -> None:
    """With more tenants than a claim looks at."""
    for _ in range(300):
        await add(jobs, str(uuid.uuid4()), 100)
    counts: Counter[str | None] = Counter()
    for _ in range(40):
        counts += by_tenant(await claim(jobs, 64))
    assert len(counts) > 250
    assert max(counts.values()) < 40


async def test_delayed_and_running_jobs_take_no_turns(jobs: Jobs) -> None:
    await add(jobs, A, 5)
    assert len(await claim(jobs, 5)) == 5
    await add(jobs, B, 5)
    await jobs.connection.execute(
        "update app_jobs.jobs set run_at = now() + interval '1 hour' where database_id = $1", B
    )
    await add(jobs, C, 100)
    for _ in range(5):
        assert by_tenant(await claim(jobs, 1)) == {C: 1}


async def test_jobs_with_queues_leave_room_for_other_tenants(jobs: Jobs) -> None:
    """The heads of many queues, all older, do not take every place of a claim."""
    for number in range(100):
        await add(jobs, A, 1, queue=f"q{number}")
    await add(jobs, B, 100)
    counts = by_tenant(await claim(jobs, 10))
    assert counts[A] >= 4
    assert counts[B] >= 4


async def test_other_priorities_are_claimed_after_sixteen(jobs: Jobs) -> None:
    for priority in range(20):
        await add(jobs, A, 1, priority=priority)
    for tasks in (None, ["x"]):
        rows = await claim(jobs, 30, tasks=tasks)
        assert [row["priority"] for row in rows] == list(range(20))
        await jobs.connection.execute("update app_jobs.jobs set locked_at = null, locked_by = null")


@pytest.mark.parametrize("filters", FILTERS)
async def test_paused_tenant_loses_its_turn(jobs: Jobs, filters: dict[str, list[str]]) -> None:
    await add(jobs, A, 300)
    await add(jobs, B, 5)
    await add(jobs, None, 1)
    await jobs.connection.execute("select app_jobs.pause(tenant := $1)", A)
    assert by_tenant(await claim(jobs, 20, **filters)) == {B: 5, None: 1}
    await jobs.connection.execute("select app_jobs.resume(tenant := $1)", A)
    assert by_tenant(await claim(jobs, 20, **filters)) == {A: 20}
