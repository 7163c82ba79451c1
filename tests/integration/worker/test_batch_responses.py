"""Responses to a batch: refusals, outcomes, nonsense, and none before the worker stops."""

import asyncio

import asyncpg
import pytest
from starlette.types import Send

from support.batch_function import (
    BatchFunction,
    ReceivedDelivery,
    add_many,
    complete_all,
    line,
    respond_with,
    rows_of,
    run_now,
    until_settled,
)
from support.fixtures import Serve, StartBatchFunction, StartService
from support.jobs import Jobs
from support.network import eventually


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415])
async def test_function_that_refuses_batches_gets_the_jobs_one_by_one(
    status: int, jobs: Jobs, start_function: StartBatchFunction
) -> None:
    started, _ = await start_function()
    started.respond = respond_with(b"no", status=status)
    ids = await add_many(jobs, 10)
    await jobs.until_gone()
    assert [batch.job_ids for batch in started.batches] == [ids]
    alone = [(int(single.headers["x-job-id"]), single.headers["x-job-attempt"]) for single in started.singles[1:]]
    assert sorted(alone) == [(job, "1") for job in ids]
    await add_many(jobs, 10)
    await jobs.until_gone()
    assert len(started.batches) == 1, "no further one is sent for now"


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (
            200,
            [("Content-Type", "application/json")],
            b"null",
            "{url} responded to a batch of jobs with 200 and no out",
        ),
        (202, [], b"", "{url} responded to a batch of jobs with 202 and no outcomes"),
        (302, [("Location", "/elsewhere")], b"", "{url} responded to a batch of jobs with 302 and no outcomes"),
        (500, [], b"crashed", "{url} responded with 500: crashed"),
        (504, [], b'{"message": "gateway timeout"}', "gateway timeout"),
        (503, [("X-Job-Error", "true")], b'{"message": "stopped"}', "stopped"),
    ],
)
async def test_response_without_outcomes_fails_the_attempts(
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    error: str,
    jobs: Jobs,
    serve: Serve,
    start_service: StartService,
) -> None:
    started = BatchFunction(respond=respond_with(body, status=status, headers=[*headers, ("X-Other", "1")]))
    url = await serve(started)
    await start_service(url)
    await jobs.until_gone(await jobs.add("t"))
    ids = await add_many(jobs, 5)
    rows = await until_settled(jobs, ids)
    assert sorted(rows) == ids
    for row in rows.values():
        assert row["attempts"] == 1
        assert row["last_error"].startswith(error.format(url=f"{url}/t"))
    await run_now(jobs, ids)
    await jobs.until_gone()
    await add_many(jobs, 5)
    await jobs.until_gone()
    assert len(started.batches) == (2 if status == 503 else 1), "a function that stops has not refused batches"


@pytest.mark.parametrize(("status", "retry_after"), [(429, "3600"), (503, "3600"), (503, None)])
async def test_busy_function_gets_the_jobs_again_later_at_no_cost(
    status: int, retry_after: str | None, jobs: Jobs, start_function: StartBatchFunction
) -> None:
    started, _ = await start_function()
    headers = [("X-Other", "1")] if retry_after is None else [("Retry-After", retry_after)]
    started.respond = respond_with(b"busy", status=status, headers=headers)
    ids = await add_many(jobs, 5)
    if retry_after is not None:
        rows = await until_settled(jobs, ids)
        assert sorted(rows) == ids
        assert {(row["attempts"], row["last_error"]) for row in rows.values()} == {(0, None)}
        assert all((row["run_at"] - row["updated_at"]).total_seconds() > 3500 for row in rows.values())
    else:
        await asyncio.wait_for(started.batch_arrived.wait(), 10)
        started.respond = complete_all
        await jobs.until_gone()
        attempts = {job.headers["x-job-attempt"] for batch in started.batches for job in batch.jobs}
        assert attempts | {single.headers["x-job-attempt"] for single in started.singles} == {"1"}


NO_OUTCOME = "the response to the batch had no outcome of this job"
MALFORMED = "the response to the batch is malformed"


@pytest.mark.parametrize(
    ("rest", "breaks", "error"),
    [
        ([], False, NO_OUTCOME),
        ([], True, "the connection was closed in the middle of the response"),
        ([b"nonsense\n"], False, MALFORMED),
        ([b"\n"], False, MALFORMED),
        ([b'{"job": "{second}", "status": 200'], False, MALFORMED),
        ([b'{"job": "{second}", "status": 1e400}\n'], False, MALFORMED),
        ([b'{"job": "{second}", "status": true}\n'], False, MALFORMED),
        ([b'{"job": "{second}", "status": 99}\n'], False, MALFORMED),
        ([b'{"job": {second}, "status": 200}\n'], False, MALFORMED),
        ([line("{first}")], False, MALFORMED),
        ([line("{first}", status=500)], False, MALFORMED),
        ([line(987654321)], False, MALFORMED),
        ([line("")], False, MALFORMED),
        ([line("{second}", body="x" * 1_100_000)], False, "a line of the response exceeds 1048576 bytes"),
        ([b"x" * 600_000] * 2, False, "a line of the response exceeds 1048576 bytes"),
    ],
)
async def test_job_without_an_outcome_has_lost_an_attempt(
    rest: list[bytes],
    breaks: bool,  # noqa: FBT001  - a column
    error: str,
    jobs: Jobs,
    start_function: StartBatchFunction,
) -> None:
    """And none hangs, and the worker goes on."""
    started, _ = await start_function()

    async def respond(batch: ReceivedDelivery, send: Send) -> None:
        first, second, *_ = (str(job).encode() for job in batch.job_ids)
        parts = [part.replace(b"{first}", first).replace(b"{second}", second) for part in rest]
        await respond_with(line(batch.job_ids[0]), *parts, breaks=breaks)(batch, send)

    started.respond = respond
    ids = await add_many(jobs, 5)
    rows = await until_settled(jobs, ids)
    _, *others = ids
    assert sorted(rows) == others, "the first one has an outcome"
    for row in rows.values():
        assert row["attempts"] == 1
        assert error in row["last_error"]
    started.respond = complete_all
    count = len(started.singles)
    await run_now(jobs, others)
    await jobs.until_gone()
    attempts = {int(single.headers["x-job-id"]): single.headers["x-job-attempt"] for single in started.singles[count:]}
    assert attempts == dict.fromkeys(others, "2") | {max(attempts): "1"}


async def test_unreachable_function_fails_the_attempts_of_a_batch(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    started = BatchFunction()
    gate = asyncio.Event()

    async def hang(_batch: ReceivedDelivery, _send: Send) -> None:
        await gate.wait()

    started.respond = hang
    url = await serve(started)
    await start_service(url, request_timeout_seconds=0.3)
    await jobs.until_gone(await jobs.add("t"))
    ids = await add_many(jobs, 4)
    rows = await until_settled(jobs, ids)
    gate.set()
    assert {(row["attempts"], row["last_error"]) for row in rows.values()} == {
        (1, f"POST {url}/t/batch got no response within 0.3 s")
    }


async def test_odd_members_of_a_line_concern_its_job_only(jobs: Jobs, start_function: StartBatchFunction) -> None:
    """Durations beyond float would break the size of the next batch, headers beyond latin-1 the response."""
    started, _ = await start_function()

    async def respond(batch: ReceivedDelivery, send: Send) -> None:
        oddities: list[bytes] = [
            b'"seconds": 1e400',
            b'"seconds": ' + b"9" * 400,
            b'"seconds": "slow"',
            b'"seconds": -1e400, "headers": {"X-Other": "\xe6\x97\xa5"}',
            b'"headers": {"X-Keep-Result-Seconds": "60", "X-Result-Problem": "\xe6\x97\xa5"}',
            b'"headers": [], "body": {}',
            b'"headers": {"X-Job-Error": "TRUE"}, "body": "{\\"message\\": \\"flagged\\"}"',
        ]
        lines = [
            b'{"job": "%d", "status": 200, %b}\n' % (job, oddity)
            for job, oddity in zip(batch.job_ids, oddities, strict=True)
        ]
        await respond_with(*lines)(batch, send)

    started.respond = respond
    ids = await add_many(jobs, 7)
    rows = await until_settled(jobs, ids)
    assert {job: (row["attempts"], row["last_error"]) for job, row in rows.items()} == {ids[6]: (1, "flagged")}
    problem = "select storage_error from app_jobs.job_results where job_id = $1"
    assert await jobs.connection.fetchval(problem, ids[4]) == "?"
    started.respond = complete_all
    later = await add_many(jobs, 5)
    await jobs.until_gone(*later)


async def test_each_line_settles_its_job(jobs: Jobs, start_function: StartBatchFunction) -> None:
    started, _ = await start_function()
    failure = {"headers": {"X-Job-Error": "true"}}

    async def respond(batch: ReceivedDelivery, send: Send) -> None:
        kept, failed, permanent, later, accepted, busy, returned = batch.job_ids
        lines = [
            line(returned, started=False),
            line(kept, headers={"x-keep-result-seconds": "60"}, body='{"sum": 42}'),
            line(failed, 500, body='{"message": "no"}', **failure),
            line(permanent, 422, body='{"message": "wrong", "permanent": true}', **failure),
            line(later, 500, body='{"message": "closed", "retryAfterSeconds": 3600}', **failure),
            line(accepted, 202, body='{"accepted": true}'),
            line(busy, 429, headers={"Retry-After": "3600"}, body='{"message": "full"}'),
        ]
        started.respond = complete_all
        await respond_with(*lines)(batch, send)

    started.respond = respond
    ids = await add_many(jobs, 7)
    await jobs.until_gone(ids[0], ids[6])

    async def all_are_settled() -> dict[int, asyncpg.Record]:
        rows = await rows_of(jobs, ids)
        locked = [job for job, row in rows.items() if row["locked_by"] is not None]
        is_accepted = ids[4] in rows and rows[ids[4]]["accepted_attempt"] == 1
        return rows if locked == [ids[4]] and is_accepted else {}

    rows = await eventually(all_are_settled)
    assert {job: (row["attempts"], row["max_attempts"], row["last_error"]) for job, row in rows.items()} == {
        ids[1]: (1, 25, "no"),
        ids[2]: (25, 25, "wrong"),
        ids[3]: (1, 25, "closed"),
        ids[4]: (1, 25, None),
        ids[5]: (0, 25, None),
    }
    for job in (ids[3], ids[5]):
        assert (rows[job]["run_at"] - rows[job]["updated_at"]).total_seconds() == pytest.approx(3600, abs=1)
    result = "select result #>> '{sum}' from app_jobs.job_results where job_id = $1"
    assert await jobs.connection.fetchval(result, ids[0]) == "42"
    assert [int(single.headers["x-job-id"]) for single in started.singles[1:]] == [ids[6]]


async def hold_batch(jobs: Jobs, started: BatchFunction, *lines: bytes) -> tuple[asyncio.Event, list[int]]:
    """Let a batch arrive, which is responded to when the returned event is set. Return also the ids of its jobs."""
    gate = asyncio.Event()

    async def respond(batch: ReceivedDelivery, send: Send) -> None:
        await gate.wait()
        first = str(batch.job_ids[0]).encode()
        returned = [line(job, started=False) for job in batch.job_ids[1:]]
        await respond_with(*(part.replace(b"{first}", first) for part in lines), *returned)(batch, send)

    started.respond = respond
    ids = await add_many(jobs, 5)
    await asyncio.wait_for(started.batch_arrived.wait(), 10)
    return gate, ids


async def test_jobs_of_a_batch_that_outlasts_the_shutdown_have_lost_an_attempt_and_are_due(
    jobs: Jobs, start_function: StartBatchFunction
) -> None:
    started, service = await start_function(shutdown_timeout_seconds=0.2)
    gate, ids = await hold_batch(jobs, started)
    await service.stop()
    gate.set()
    rows = await rows_of(jobs, ids)
    assert sorted(rows) == ids
    for row in rows.values():
        assert (row["attempts"], row["locked_by"]) == (1, None)
        assert row["last_error"] == "the worker was stopped before the function responded"
    assert await jobs.connection.fetchval("select bool_and(run_at <= now()) from app_jobs.jobs")


async def test_jobs_that_a_stopping_worker_gets_back_are_released(
    jobs: Jobs, start_function: StartBatchFunction
) -> None:
    started, service = await start_function()
    gate, (first, *others) = await hold_batch(jobs, started, line("{first}"))
    stopping = asyncio.ensure_future(service.stop())
    await asyncio.sleep(0.05)
    gate.set()
    await stopping
    rows = await rows_of(jobs, [first, *others])
    assert sorted(rows) == others
    assert {(row["attempts"], row["locked_by"], row["last_error"]) for row in rows.values()} == {(0, None, None)}
