"""Leases, settlements that the database rejects, backpressure and fairness."""

import time

import httpx
import pytest

from jobfn.worker.tokens import Claim
from support.fixtures import StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.secrets import schema_tokens, sign_url

DEAD = "worker-that-died"
FAIL_ONCE = """
    create sequence settlements;
    create function fail_once() returns trigger language plpgsql as $$
    begin
        if old.locked_at is not null and nextval('public.settlements') = 1 then
            raise exception 'no' using errcode = '{code}';
        end if;
        return old;
    end
    $$;
    create trigger fail_once before delete on app_jobs.jobs for each row execute function fail_once();
"""


async def claim_as(jobs: Jobs, worker: str, *, lease: str) -> None:
    await jobs.connection.execute(
        "select * from app_jobs.claim_jobs($1, null, '4 hours', 10, $2::text::interval)", worker, lease
    )


async def until_lease_is_extended(jobs: Jobs, job: int, *, seconds: float) -> None:
    first = (await jobs.until_claimed(job))["lease_expires_at"]

    async def is_extended() -> bool:
        row = await jobs.row(job)
        return bool((row["lease_expires_at"] - first).total_seconds() > seconds)

    await eventually(is_extended)


async def test_job_of_a_dead_worker_is_claimed_when_its_lease_expires(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    job = await jobs.add("t", queue_name="q")
    await claim_as(jobs, DEAD, lease="600 milliseconds")
    await start_worker(poll_interval_seconds=0.1)
    await jobs.until_gone(job)
    assert function.received[0].headers["x-job-attempt"] == "2"


async def test_job_whose_worker_died_in_the_last_attempt_fails_permanently(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    job = await jobs.add("t", max_attempts=1)
    await claim_as(jobs, DEAD, lease="10 milliseconds")
    await start_worker(lease_seconds=1.0)
    row = await jobs.until_failed(job)
    assert row["last_error"] == f"the worker {DEAD} died, or lost its lease, in the last attempt"
    assert row["attempts"] == row["max_attempts"]


async def test_lock_without_a_lease_expires_after_four_hours(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """The platform's worker knows no leases."""
    held = await jobs.add("held")
    await jobs.connection.execute("select app_jobs.get_job('node-worker')")
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '3 hours 59 minutes'")
    await start_worker(poll_interval_seconds=0.05)
    await jobs.until_gone(await jobs.add("free"))
    assert (await jobs.until_claimed(held))["locked_by"] == "node-worker"
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '4 hours 1 second'")
    await jobs.until_gone(held)


async def test_lease_of_a_running_job_is_renewed(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    await start_worker(lease_seconds=1.0, poll_interval_seconds=0.1)
    job = await jobs.add("t", queue_name="q")
    await function.arrived.wait()
    await until_lease_is_extended(jobs, job, seconds=1.1)
    assert await jobs.connection.fetch("select * from app_jobs.claim_jobs('another', null, '4 hours', 10)") == []
    gate.set()
    await jobs.until_gone(job)
    assert len(function.received) == 1


async def test_leases_are_renewed_after_a_rejected_renewal(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.connection.execute(
        FAIL_ONCE.format(code="XX000")
        .replace("before delete", "before update of lease_expires_at")
        .replace("return old", "return new")
    )
    gate = function.hold()
    await start_worker(lease_seconds=3.0, poll_interval_seconds=3600.0)
    job = await jobs.add("t")
    await function.arrived.wait()
    await until_lease_is_extended(jobs, job, seconds=1.5)
    gate.set()
    await jobs.until_gone(job)
    assert len(function.received) == 1


@pytest.mark.parametrize(
    ("code", "deliveries"),
    [
        ("40P01", 1),  # deadlock: the settlement is retried
        ("XX000", 2),  # unexpected: the job is abandoned, and delivered again when its lease expires
    ],
)
async def test_rejected_settlement_leaves_no_job_locked(
    code: str, deliveries: int, jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.connection.execute(FAIL_ONCE.format(code=code))
    await start_worker(lease_seconds=1.0, poll_interval_seconds=0.1)
    await jobs.until_gone(await jobs.add("t"))
    assert len(function.received) == deliveries


async def test_report_that_ends_in_a_deadlock_is_unavailable_and_can_be_repeated(
    jobs: Jobs, start_service: StartService
) -> None:
    await jobs.connection.execute(FAIL_ONCE.format(code="40P01"))
    service = await start_service("http://127.0.0.1:1", support_any=False)
    job = await jobs.add("t")
    await claim_as(jobs, WORKER, lease="1 hour")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
    url = sign_url(await schema_tokens(jobs.connection), service.callback_url, Claim(WORKER, job, 1))
    async with httpx.AsyncClient() as client:
        responses = [await client.post(url, headers=headers) for _ in range(2)]
    assert [response.status_code for response in responses] == [503, 200]


@pytest.mark.parametrize("status", [429, 503])
async def test_busy_function_costs_no_attempt(
    status: int, jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """The job is delivered again after Retry-After. Other tasks are not affected."""
    function.respond(status, "overloaded", {"Retry-After": "1"})
    await start_worker(poll_interval_seconds=3600.0)
    job = await jobs.add("busy")
    await function.arrived.wait()
    refused_at = time.monotonic()
    row = await jobs.until_failed(job, attempts=0)
    assert (row["attempts"], row["last_error"]) == (0, None)
    function.respond(200)
    await jobs.until_gone(await jobs.add("quick"), seconds=0.9)
    await jobs.until_gone(job)
    assert 0.9 < time.monotonic() - refused_at < 3
    assert [request.headers["x-job-attempt"] for request in function.received] == ["1", "1", "1"]


async def test_slow_task_does_not_block_the_others(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker(concurrency=16)
    for name in ("quick", "slow"):
        await jobs.until_gone(await jobs.add(name))
    gate = function.hold()
    await jobs.connection.execute("select app_jobs.add_job('slow', '{}') from generate_series(1, 100)")

    async def slow_task_is_at_its_limit() -> bool:
        return len(function.received) == 2 + 14

    await eventually(slow_task_is_at_its_limit)
    function.respond(200)
    await jobs.until_gone(await jobs.add("quick", priority=100), seconds=3)
    gate.set()
