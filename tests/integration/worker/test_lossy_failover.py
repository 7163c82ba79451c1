"""A failover that lost transactions assigns the ids of lost jobs again.

Nothing that belongs to a lost job may count for the new job of its id, worker and attempt.
"""

import asyncio
from typing import Any

import httpx
import pytest

from jobfn import JobContext, create_app, task
from jobfn.database.step_store import HeldJob, StepStore
from support.durable import start, step
from support.fixtures import Serve, StartService, StartWorker
from support.functions import ReceivedRequest, RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually

HOUR = 3600.0


async def lose(jobs: Jobs, job_id: int) -> None:
    """Make the database forget a job and its id, as a standby does that never learned of them."""
    await jobs.connection.execute("delete from app_jobs.jobs where id = $1", job_id)
    await jobs.connection.execute("select setval('app_jobs.jobs_id_seq', $1, false)", job_id)


async def deliver_twice(jobs: Jobs, function: RecordingFunction) -> tuple[ReceivedRequest, ReceivedRequest]:
    """Deliver a job that is lost, and another one that has its id. Neither has an outcome yet."""
    function.hold()
    first = await jobs.add("charge")
    await asyncio.wait_for(function.arrived.wait(), 20)
    await lose(jobs, first)
    function.arrived.clear()
    assert await jobs.add("charge") == first
    await asyncio.wait_for(function.arrived.wait(), 20)
    lost, new = function.received
    return lost, new


def job_headers(request: ReceivedRequest) -> dict[str, str]:
    return {name: request.headers[name] for name in ("x-worker-id", "x-job-id", "x-job-attempt")}


async def test_token_of_a_lost_job_is_not_valid_for_the_job_that_has_its_id(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker(settle_on="report", concurrency=2)
    lost, new = await deliver_twice(jobs, function)
    assert job_headers(lost) == job_headers(new)
    job = int(new.headers["x-job-id"])
    heartbeat_url, url = lost.headers["x-heartbeat-url"], lost.headers["x-callback-url"]
    report = {"url": url, "headers": job_headers(lost), "body": '{"status": "success"}'}
    async with httpx.AsyncClient(headers=job_headers(lost), timeout=30) as client:
        batch = await client.post(lost.headers["x-callback-batch"], json={"reports": [report]})
        statuses = [
            (await client.post(url)).status_code,
            (await client.post(url, headers={"X-Job-Error": "true"}, json={"permanent": True})).status_code,
            batch.json()["replies"][0]["status"],
            (await client.post(heartbeat_url, json={"progress": 0.5})).status_code,
            (await client.post(heartbeat_url, json={"renew": False})).status_code,
            (await client.post(heartbeat_url.replace("/heartbeat", "/steps"), json={"load": 0})).status_code,
        ]
        assert statuses == [409] * 6
        assert await jobs.values(job, "locked_by", "attempts", "progress", "has_steps") == (WORKER, 1, None, None)
        assert (await client.post(new.headers["x-heartbeat-url"], json={"progress": 0.5})).status_code == 200
        assert (await client.post(new.headers["x-callback-url"])).status_code == 200
    assert not await jobs.exists(job)


@pytest.mark.parametrize("settle_on", ["auto", "response"])
async def test_response_of_a_lost_job_does_not_settle_the_job_that_has_its_id(
    settle_on: str, jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    keys: list[str] = []
    starts: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    @task("charge")
    async def charge(payload: dict[str, Any], ctx: JobContext) -> None:
        keys.append(ctx.idempotency_key)
        number, gate = len(keys), asyncio.Event()
        starts.put_nowait(gate)
        await gate.wait()
        if number == 2:
            raise ValueError("card declined")

    await start_service(await serve(create_app(tasks=[charge])), settle_on=settle_on, concurrency=2)
    first = await jobs.add("charge")
    lost = await asyncio.wait_for(starts.get(), 20)
    await lose(jobs, first)
    assert await jobs.add("charge") == first
    new = await asyncio.wait_for(starts.get(), 20)
    lost.set()
    await jobs.add("charge")  # starts when the response of the lost job has freed its slot
    (await asyncio.wait_for(starts.get(), 20)).set()
    new.set()
    failed = "select last_error from app_jobs.jobs where id = $1"
    assert await eventually(lambda: jobs.connection.fetchval(failed, first)) == "card declined"
    assert len(set(keys)) == 3


async def test_durable_job_of_another_row_records_loads_and_parks_nothing(jobs: Jobs, pool: Any) -> None:
    job = await start(jobs, "t", step(1, "one", "2"))
    tag = await jobs.connection.fetchval(
        "select (extract(epoch from created_at) * 1000000)::bigint & 4294967295 from app_jobs.jobs"
    )
    store = StepStore(pool, "app_jobs")
    other, same = HeldJob(WORKER, job, 1, tag ^ 1), HeldJob(WORKER, job, 1, tag)
    assert await store.load([(other, 0)]) == {}
    assert await store.record([(other, step(2, "two", "3"))], lease_seconds=30.0) == {}
    assert len((await store.load([(same, 0)]))[job].records) == 1
    assert list((await store.record([(same, step(2, "two", "3"))], lease_seconds=30.0))[job]) == [2]
