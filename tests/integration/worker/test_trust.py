"""What keeps jobs from being lost, doubled, or settled by strangers: leases, fencing, signatures, backpressure."""

import asyncio
import time
from urllib.parse import urlsplit

import httpx
import pytest

from jobfn.worker.tokens import CallbackTokens, Claim
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import eventually

DEAD = "worker-that-died"


async def claim_as(jobs: Jobs, worker: str, *, lease: str) -> None:
    await jobs.connection.execute(
        "select * from app_jobs.claim_jobs($1, null, '4 hours', 10, $2::text::interval)", worker, lease
    )


async def test_a_dead_worker_s_job_is_free_when_its_lease_ends(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Nobody renews the lock: another worker takes the job over, as the next attempt, and its queue with it."""
    job = await jobs.add("t", queue_name="q")
    await claim_as(jobs, DEAD, lease="600 milliseconds")
    await start_service(await serve(function.app), poll_interval_seconds=0.1)
    await jobs.until_gone(job)
    assert function.received[0].headers["x-job-attempt"] == "2"


async def test_a_running_job_s_lock_is_renewed(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that takes longer than its lease stays its worker's, and is delivered once."""
    gate = function.hold()
    await start_service(await serve(function.app), lease_seconds=1.0, poll_interval_seconds=0.1)
    job = await jobs.add("t", queue_name="q")
    await function.arrived.wait()
    first = (await jobs.until_held(job))["lease_expires_at"]

    async def renewed_twice() -> bool:
        row = await jobs.row(job)
        return row is not None and (row["lease_expires_at"] - first).total_seconds() > 1.1

    await eventually(renewed_twice)
    other = await jobs.connection.fetch("select * from app_jobs.claim_jobs('another-worker', null, '4 hours', 10)")
    assert other == []
    gate.set()
    await jobs.until_gone(job)
    assert len(function.received) == 1


FAILS_ONCE = """
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


@pytest.mark.parametrize(
    ("code", "deliveries"),
    [
        ("40P01", 1),  # the victim of a deadlock: settled again
        ("XX000", 2),  # nobody knows: the worker lets go, the lease ends, and the job is delivered again
    ],
)
async def test_a_settlement_that_the_database_refuses_leaves_no_job_locked(
    code: str, deliveries: int, jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """The job is done in the end, and nobody keeps its lock alive for ever."""
    await jobs.connection.execute(FAILS_ONCE.format(code=code))
    await start_service(await serve(function.app), lease_seconds=1.0, poll_interval_seconds=0.1)
    await jobs.until_gone(await jobs.add("t"))
    assert len(function.received) == deliveries


async def test_a_report_that_the_database_refuses_is_sent_again(jobs: Jobs, start_service: StartService) -> None:
    """Chosen to end a deadlock, it gets 503; sent again, it settles the job."""
    await jobs.connection.execute(FAILS_ONCE.format(code="40P01"))
    service = await start_service("http://127.0.0.1:1", support_any=False)
    job = await jobs.add("t")
    await claim_as(jobs, WORKER, lease="1 hour")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
    async with httpx.AsyncClient() as client:
        answers = [await client.post(service.callback_url, headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]


async def test_leases_are_renewed_after_a_refusal(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A renewal that the database refuses is no end of renewing."""
    await jobs.connection.execute(
        FAILS_ONCE.format(code="XX000")
        .replace("before delete", "before update of lease_expires_at")
        .replace("return old", "return new")
    )
    gate = function.hold()
    await start_service(await serve(function.app), lease_seconds=3.0, poll_interval_seconds=3600.0)
    job = await jobs.add("t")
    await function.arrived.wait()
    first = (await jobs.until_held(job))["lease_expires_at"]

    async def renewed() -> bool:
        row = await jobs.row(job)
        return row is not None and (row["lease_expires_at"] - first).total_seconds() > 1.5

    await eventually(renewed)
    gate.set()
    await jobs.until_gone(job)
    assert len(function.received) == 1


async def test_a_lock_without_a_lease_keeps_the_contract_s_four_hours(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that a worker without leases holds (the platform's) is not taken from it before that."""
    held = await jobs.add("held")
    await jobs.connection.execute("select app_jobs.get_job('node-worker')")
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '3 hours 59 minutes'")
    await start_service(await serve(function.app), poll_interval_seconds=0.05)
    await jobs.until_gone(await jobs.add("free"))
    assert (await jobs.until_held(held))["locked_by"] == "node-worker"
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '4 hours 1 second'")
    await jobs.until_gone(held)


async def test_a_job_whose_worker_died_in_the_last_attempt_has_failed_for_good(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """It is unlocked, its attempts are used up, and last_error says what happened."""
    job = await jobs.add("t", max_attempts=1)
    await claim_as(jobs, DEAD, lease="10 milliseconds")
    await start_service(await serve(function.app), lease_seconds=1.0)
    row = await jobs.until_failed(job)
    assert row["last_error"] == f"the worker {DEAD} died, or lost its lease, in the last attempt"
    assert row["attempts"] == row["max_attempts"]


@pytest.mark.parametrize("error", [{}, {"X-Job-Error": "true"}])
async def test_a_report_that_comes_twice_is_told_so(
    error: dict[str, str], jobs: Jobs, start_service: StartService
) -> None:
    """The first report settles the job; the same report again changes nothing and gets 409."""
    service = await start_service("http://127.0.0.1:1", support_any=False)
    job = await jobs.add("t")
    await claim_as(jobs, WORKER, lease="1 hour")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"} | error
    async with httpx.AsyncClient(timeout=30) as client:
        first = await client.post(service.callback_url, headers=headers)
        before = await jobs.row(job)
        second = await client.post(service.callback_url, headers=headers)
    assert (first.status_code, second.status_code) == (200, 409)
    assert await jobs.row(job) == before


async def test_a_report_after_a_takeover_changes_nothing(jobs: Jobs, start_service: StartService) -> None:
    """The first worker lost its lease and another has the job: the first one's report gets 409."""
    service = await start_service("http://127.0.0.1:1", support_any=False)
    job = await jobs.add("t")
    await claim_as(jobs, DEAD, lease="-1 second")
    await claim_as(jobs, WORKER, lease="1 hour")
    headers = {"X-Worker-Id": DEAD, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(service.callback_url, headers=headers)
    assert answer.status_code == 409
    row = await jobs.until_held(job)
    assert (row["locked_by"], row["attempts"]) == (WORKER, 2)


@pytest.mark.parametrize(
    ("fields", "attempts", "waits"),
    [
        ({"permanent": True}, 25, None),
        ({"retryAfterSeconds": 120}, 1, 120.0),
        ({"retryAfterSeconds": 0}, 1, 0.0),
        ({"retryAfterSeconds": -5}, 1, 0.0),
        ({"retryAfterSeconds": 1e300}, 1, 100 * 365.25 * 86400),
        ({"retryAfterSeconds": "soon", "permanent": "yes"}, 1, 2.718),
        ({}, 1, 2.718),
    ],
)
async def test_a_failure_may_say_when_it_is_to_be_tried_again(
    fields: dict[str, object], attempts: int, waits: float | None, jobs: Jobs, start_service: StartService
) -> None:
    """permanent and retryAfterSeconds in a report; what makes no sense counts as not said."""
    service = await start_service("http://127.0.0.1:1", support_any=False)
    job = await jobs.add("t")
    await claim_as(jobs, WORKER, lease="1 hour")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
    async with httpx.AsyncClient(timeout=30) as client:
        answer = await client.post(service.callback_url, headers=headers, json={"error": "no", **fields})
    assert answer.status_code == 200
    row = await jobs.row(job)
    assert row is not None
    assert (row["last_error"], row["attempts"], row["locked_by"]) == ("no", attempts, None)
    if waits is not None:
        assert (row["run_at"] - row["updated_at"]).total_seconds() == pytest.approx(waits, abs=0.01)


async def test_a_response_may_say_it_too(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Where no report gets through, the response's permanent field counts."""
    function.answer(422, {"message": "wrong", "permanent": True})
    await start_service(await serve(function.app))
    row = await jobs.until_failed(await jobs.add("t"))
    assert (row["last_error"], row["attempts"]) == ("wrong", 25)


async def test_signs_of_life_keep_the_lock_and_tell_the_progress(jobs: Jobs, start_service: StartService) -> None:
    """POST to X-Heartbeat-Url prolongs the lease and notes progress; from another attempt it gets 409."""
    service = await start_service("http://127.0.0.1:1", support_any=False, lease_seconds=60.0)
    job = await jobs.add("t")
    await claim_as(jobs, WORKER, lease="1 second")
    url = service.callback_url.replace("/callback", "/heartbeat")
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        answer = await client.post(url, json={"progress": 0.25, "note": "rendering"})
        assert (answer.status_code, answer.json()) == (200, {"leaseSeconds": 60.0})
        assert (await client.post(url)).status_code == 200
        stale = await client.post(url, headers={"X-Job-Attempt": "2"})
        assert stale.status_code == 409
        for body in (b'{"progress": 2}', b'{"note": 7}', b"{"):
            assert (await client.post(url, content=body)).status_code == 400
    row = await jobs.until_held(job)
    assert (row["progress"], row["progress_note"]) == (0.25, "rendering")
    assert (row["lease_expires_at"] - row["locked_at"]).total_seconds() > 50


async def test_with_a_secret_only_the_url_of_the_delivery_settles_it(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """The signed URL is accepted; no token, another job's or another key's token get 401 and change nothing."""
    gate = function.hold()
    service = await start_service(await serve(function.app), callback_secrets="new,old")
    job = await jobs.add("t")
    await function.arrived.wait()
    sent = function.received[0].headers
    signed = sent["x-callback-url"]
    assert urlsplit(signed).path.endswith("/callback")
    assert sent["x-heartbeat-url"] == signed.removesuffix("callback") + "heartbeat"
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
    strangers = [
        service.callback_url,
        CallbackTokens(["guess"], max_age_seconds=60).url_for(service.callback_url, Claim(WORKER, job, 1)),
        CallbackTokens(["new"], max_age_seconds=60).url_for(service.callback_url, Claim(WORKER, job + 1, 1)),
        CallbackTokens(["new"], max_age_seconds=60).url_for(service.callback_url, Claim("other-worker", job, 1)),
    ]
    async with httpx.AsyncClient(headers=headers, timeout=30) as client:
        for url in strangers:
            answer = await client.post(url)
            assert answer.status_code == 401, url
            assert "token" in answer.json()["error"]
        wrong_attempt = await client.post(signed, headers={"X-Job-Attempt": "2"})
        assert wrong_attempt.status_code == 401
        assert (await jobs.until_held(job))["attempts"] == 1
        late = CallbackTokens(["old"], max_age_seconds=60).url_for(service.callback_url, Claim(WORKER, job, 7))
        assert (await client.post(late)).status_code == 409
        assert (await client.post(signed)).status_code == 200
    assert await jobs.row(job) is None
    gate.set()


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_function_costs_no_attempt(
    status: int, jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """429 and 503 with Retry-After: the job is given back and comes again after that; other tasks go on meanwhile."""
    function.answer(status, "no room", {"Retry-After": "1"})
    await start_service(await serve(function.app), poll_interval_seconds=3600.0)
    job = await jobs.add("busy")
    await function.arrived.wait()
    refused = time.monotonic()
    row = await jobs.until_failed(job, attempts=0)
    assert (row["attempts"], row["last_error"]) == (0, None)
    function.answer(200)
    await jobs.until_gone(await jobs.add("quick"), seconds=0.9)
    await jobs.until_gone(job)
    assert 0.9 < time.monotonic() - refused < 3
    assert [received.headers["x-job-attempt"] for received in function.received] == ["1", "1", "1"]


async def test_a_function_s_own_503_with_a_job_error_is_a_failure(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """X-Job-Error says that the job failed, whatever the status."""
    function.answer(503, {"message": "the handler failed"}, {"X-Job-Error": "true"})
    await start_service(await serve(function.app))
    row = await jobs.until_failed(await jobs.add("t"))
    assert (row["last_error"], row["attempts"]) == ("the handler failed", 1)


async def test_one_slow_task_does_not_starve_the_others(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Sixteen slots, a hundred jobs of a task that hangs: a job of another task still runs at once."""
    gate = function.hold()
    await start_service(await serve(function.app), concurrency=16)
    await jobs.connection.execute("select app_jobs.add_job('slow', '{}') from generate_series(1, 100)")

    async def saturated() -> bool:
        return bool(
            await jobs.connection.fetchval("select count(*) >= 14 from app_jobs.jobs where locked_by is not null")
        )

    await eventually(saturated)
    await asyncio.wait_for(until_received(function, 14), 10)
    function.answer(200)
    await jobs.until_gone(await jobs.add("quick", priority=100), seconds=3)
    gate.set()


async def until_received(function: RecordingFunction, count: int) -> None:
    async def enough() -> bool:
        return len(function.received) >= count

    await eventually(enough)
