"""Claims of a worker that is limited to queues."""

import asyncio
from typing import Any

import asyncpg
import pytest

from jobfn.database.native_store import NativeJobStore
from jobfn.database.open_store import open_store
from jobfn.database.records import Settlement
from jobfn.errors import ConfigurationError
from support.fixtures import StartWorker
from support.functions import RecordingFunction
from support.jobs import PLATFORM_SCHEMA, WORKER, Jobs


async def claim(pool: "asyncpg.Pool[Any]", *queues: str, limit: int = 10, **options: Any) -> list[int]:
    store = NativeJobStore(pool, "app_jobs", queues=queues)
    tasks = options.pop("tasks", None)
    return [job.id for job in await store.claim(WORKER, tasks=tasks, limit=limit, lease_seconds=30.0, **options)]


async def test_only_jobs_of_the_queues_are_claimed_one_of_each(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    free = await jobs.add("x")
    first, second = [await jobs.add("x", queue_name="mail") for _ in range(2)]
    other = await jobs.add("x", queue_name="reports")
    assert await claim(pool, "mail") == [first]
    assert await claim(pool, "mail") == []
    await NativeJobStore(pool, "app_jobs").settle([Settlement(WORKER, first, 1)])
    assert await claim(pool, "mail", "unknown") == [second]
    assert await claim(pool, "") == [free]
    assert await jobs.values(other, "locked_by", "attempts") == (None, 0)
    assert await jobs.queue("mail") == (1, WORKER)


async def test_most_urgent_jobs_of_the_queues_are_claimed_first(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    late = await jobs.add("x", queue_name="a", priority=5)
    urgent = await jobs.add("x", queue_name="b", priority=-1)
    free = await jobs.add("x", priority=1)
    assert await claim(pool, "a", "b", "", limit=2) == [urgent, free]
    assert await claim(pool, "a", "b", "a", "", limit=2) == [late]


async def test_tasks_and_queues_both_limit_a_claim(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    await jobs.add("other", queue_name="a")
    wanted = await jobs.add("wanted", queue_name="b")
    assert await claim(pool, "a", "b", tasks=["wanted"]) == [wanted]
    assert await claim(pool, "a", exclude_tasks=["other"]) == []
    delayed = await jobs.add("other", queue_name="c")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 hour' where id = $1", delayed)
    assert await claim(pool, "c") == []


async def test_two_claims_share_no_queue(jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    for _ in range(5):
        for queue in ("a", "b", "c"):
            await jobs.add("x", queue_name=queue)
    claimed = [job for jobs_ in await asyncio.gather(*(claim(pool, "a", "b", "c") for _ in range(4))) for job in jobs_]
    assert sorted(claimed) == [1, 2, 3]


async def test_worker_of_a_queue_leaves_other_jobs(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    other, free = await jobs.add("other", queue_name="reports"), await jobs.add("free")
    mail = await jobs.add("mail", queue_name="mail")
    await start_worker(queues="mail")
    await jobs.until_gone(mail)
    assert [request.path for request in function.received] == ["/mail"]
    assert await jobs.values(other, "attempts") == await jobs.values(free, "attempts") == (0,)


async def test_platform_schema_refuses_queues(empty_database: str) -> None:
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        await pool.execute(PLATFORM_SCHEMA)
        with pytest.raises(ConfigurationError, match="JOBS_QUEUES has no effect on schema app_jobs"):
            await open_store(pool, "app_jobs", queues=["mail"])
