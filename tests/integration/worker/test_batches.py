"""Several jobs of a quick task in one request: which jobs, what reaches the function, and what settles each job."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from starlette.types import Send

from jobfn import Backoff, FunctionSettings, JobContext, PermanentError, RetryLater, Task, create_app, task
from support.batch_function import (
    BatchFunction,
    ReceivedDelivery,
    RecordingProxy,
    complete_all,
    line,
    respond_with,
)
from support.fixtures import Serve, Service, StartService
from support.function_app import SECRET
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually

HOUR = 3600.0


async def add_many(jobs: Jobs, count: int, name: str = "t", payload: str = "{}") -> list[int]:
    """Add jobs in one statement, so that one claim finds all of them."""
    statement = "select (app_jobs.add_job($1, $2::json)).id from generate_series(1, $3)"
    return [row["id"] for row in await jobs.connection.fetch(statement, name, payload, count)]


async def add_payloads(jobs: Jobs, name: str, *payloads: object) -> list[int]:
    """Add a job for each payload, in one statement."""
    statement = """
        select (app_jobs.add_job($1, payload::json)).id
        from unnest($2::text[]) with ordinality as given (payload, position) order by position
    """
    rows = await jobs.connection.fetch(statement, name, [json.dumps(payload) for payload in payloads])
    return [row["id"] for row in rows]


# A function without jobfn, which responds as the test says.

StartFunction = Callable[..., Awaitable[BatchFunction]]


@pytest.fixture
async def function(serve: Serve, start_service: StartService, jobs: Jobs) -> StartFunction:
    """Start a service for a function whose first job has run: up to 16 jobs that are added together share a request."""

    async def start(**settings: object) -> BatchFunction:
        started = BatchFunction(respond=complete_all)
        await start_service(await serve(started), **settings)
        await jobs.until_gone(await jobs.add("t"))
        return started

    return start


async def test_request_has_at_most_50_jobs(jobs: Jobs, function: StartFunction) -> None:
    started = await function(concurrency=200)
    ids = await add_many(jobs, 120)
    await jobs.until_gone()
    assert [len(batch.jobs) for batch in started.batches] == [50, 50, 20]
    assert [job for batch in started.batches for job in batch.job_ids] == ids
    assert len(started.singles) == 1


@pytest.mark.parametrize(
    ("payload", "received"),
    [
        ('{"ü": "日本 🎉 \\u00fc \\n"}', None),
        ('{"a": 1, "a": 2}', None),
        ("[123456789012345678901234567890.10, 1e400, -0.0]", None),
        ('{\n\t"a":\r\n [\n]\n}', '{ \t"a":\r  [ ] }'),
        ('"' + "x" * 90_000 + '"', None),
    ],
)
async def test_payload_arrives_byte_by_byte(
    payload: str, received: str | None, jobs: Jobs, function: StartFunction
) -> None:
    """Except for line feeds between its tokens."""
    started = await function()
    await add_many(jobs, 2, payload=payload)
    await jobs.until_gone()
    [batch] = started.batches
    assert [job.body.decode() for job in batch.jobs] == [received or payload] * 2


async def test_large_payloads_do_not_share_a_request(jobs: Jobs, function: StartFunction) -> None:
    started = await function()
    large = '"' + "ü" * 1_000_000 + '"'
    await add_many(jobs, 3, payload=large)
    await jobs.until_gone()
    assert (started.batches, [single.body.decode() for single in started.singles[1:]]) == ([], [large] * 3)


async def test_headers_are_shared_or_those_of_the_job(jobs: Jobs, function: StartFunction) -> None:
    started = await function(invoke_secrets=SECRET)
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    ids = await add_many(jobs, 3)
    await jobs.until_gone()
    [batch] = started.batches
    base = batch.headers["x-callback-url"].removesuffix("/callback")
    shared = {name: value for name, value in batch.headers.items() if name.startswith("x-")}
    assert shared == {
        "x-worker-id": WORKER,
        "x-callback-url": f"{base}/callback",
        "x-callback-batch": f"{base}/callbacks",
        "x-heartbeat-url": f"{base}/heartbeat",
        "x-lease-seconds": "30",
        "x-settle-on": "response",
        "x-invoke-secret": SECRET,
    }
    assert [job.headers for job in batch.jobs] == [
        {"x-job-id": str(job), "x-job-attempt": "1", "x-database-id": TENANT} for job in ids
    ]


@pytest.mark.parametrize("settle_on", ["auto", "response"])
async def test_signed_urls_are_those_of_the_job(settle_on: str, jobs: Jobs, function: StartFunction) -> None:
    started = await function(callback_secrets="signs-the-urls", settle_on=settle_on)
    await add_many(jobs, 3)
    await jobs.until_gone()
    [batch] = started.batches
    assert not {"x-callback-url", "x-heartbeat-url"} & batch.headers.keys()
    names = {"x-heartbeat-url"} if settle_on == "response" else {"x-callback-url", "x-heartbeat-url"}
    assert ("x-callback-batch" in batch.headers) is (settle_on == "auto")
    for name in names:
        assert len({job.headers[name] for job in batch.jobs}) == 3
    assert all(job.headers.keys() == {"x-job-id", "x-job-attempt"} | names for job in batch.jobs)


@pytest.mark.parametrize("settings", [{"delivery_batch": False}, {"settle_on": "report"}])
async def test_setting_turns_batches_off(settings: dict[str, object], jobs: Jobs, function: StartFunction) -> None:
    started = await function(**settings)
    await add_many(jobs, 10)
    await jobs.until_gone()
    assert (len(started.singles), started.batches) == (11, [])


async def test_batch_goes_below_the_url_of_its_task(jobs: Jobs, serve: Serve, start_service: StartService) -> None:
    started = BatchFunction(respond=complete_all)
    url = await serve(started)
    urls = json.dumps({"own": f"{url}/its/own/?v=1"})
    await start_service(f"{url}/fn/{{task}}/run", function_urls=urls)
    for name in ("own", "a/b"):
        await jobs.until_gone(await jobs.add(name))
        await add_many(jobs, 3, name)
        await jobs.until_gone()
    assert [batch.path for batch in started.batches] == ["/its/own/batch", "/fn/a/b/run/batch"]


async def test_batch_holds_jobs_of_one_task(jobs: Jobs, function: StartFunction) -> None:
    started = await function()
    await jobs.until_gone(await jobs.add("other"))
    names = "select (app_jobs.add_job(case when n % 2 = 0 then 't' else 'other' end)).id from generate_series(1, 8) n"
    ids = [row["id"] for row in await jobs.connection.fetch(names)]
    await jobs.until_gone()
    assert [(batch.path, batch.job_ids) for batch in started.batches] == [
        ("/other/batch", ids[::2]),
        ("/t/batch", ids[1::2]),
    ]


async def test_retries_and_last_attempts_are_delivered_alone(jobs: Jobs, function: StartFunction) -> None:
    """If a request breaks, whichever job broke it must not take others down again."""
    started = await function()
    statement = """
        insert into app_jobs.jobs (task_identifier, attempts, max_attempts)
        select 't', (n % 3 = 0)::int, case when n % 3 = 1 then 1 else 25 end from generate_series(1, 12) n
        returning id
    """
    ids = [row["id"] for row in await jobs.connection.fetch(statement)]
    await jobs.until_gone()
    alone = {int(single.headers["x-job-id"]): single.headers["x-job-attempt"] for single in started.singles[1:]}
    assert alone == dict.fromkeys(ids[::3], "1") | dict.fromkeys(ids[2::3], "2")
    assert [batch.job_ids for batch in started.batches] == [ids[1::3]]


# Functions that refuse batches, break off, or respond with nonsense.


async def run_now(jobs: Jobs, ids: list[int]) -> None:
    """Make failed jobs due, and wake the worker with another job."""
    await jobs.connection.execute("select app_jobs.reschedule_jobs($1, now())", ids)
    await jobs.add("t")


async def rows_of(jobs: Jobs, ids: list[int]) -> dict[int, asyncpg.Record]:
    rows = await jobs.connection.fetch("select * from app_jobs.jobs where id = any ($1)", ids)
    return {row["id"]: row for row in rows}


async def until_settled(jobs: Jobs, ids: list[int]) -> dict[int, asyncpg.Record]:
    """Wait until these jobs are unlocked or completed; return the rows of those that are not completed."""

    async def settled() -> list[dict[int, asyncpg.Record]]:
        rows = await rows_of(jobs, ids)
        is_settled = all(
            row["locked_by"] is None and (row["exhausted"] or row["run_at"] > row["updated_at"])
            for row in rows.values()
        )
        return [rows] if is_settled else []

    return (await eventually(settled))[0]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415])
async def test_function_that_refuses_batches_gets_the_jobs_one_by_one(
    status: int, jobs: Jobs, function: StartFunction
) -> None:
    started = await function()
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
    status: int, retry_after: str | None, jobs: Jobs, function: StartFunction
) -> None:
    started = await function()
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
    function: StartFunction,
) -> None:
    """And none hangs, and the worker goes on."""
    started = await function()

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


async def test_odd_members_of_a_line_concern_its_job_only(jobs: Jobs, function: StartFunction) -> None:
    """Durations beyond float would break the size of the next batch, headers beyond latin-1 the response."""
    started = await function()

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


async def test_each_line_settles_its_job(jobs: Jobs, function: StartFunction) -> None:
    started = await function()
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


# Shutdown.


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


@pytest.fixture
async def service_and_function(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> Callable[..., Awaitable[tuple[Service, BatchFunction]]]:
    async def start(**settings: object) -> tuple[Service, BatchFunction]:
        started = BatchFunction(respond=complete_all)
        service = await start_service(await serve(started), **settings)
        await jobs.until_gone(await jobs.add("t"))
        return service, started

    return start


async def test_jobs_of_a_batch_that_outlasts_the_shutdown_have_lost_an_attempt_and_are_due(
    jobs: Jobs, service_and_function: Callable[..., Awaitable[tuple[Service, BatchFunction]]]
) -> None:
    service, started = await service_and_function(shutdown_timeout_seconds=0.2)
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
    jobs: Jobs, service_and_function: Callable[..., Awaitable[tuple[Service, BatchFunction]]]
) -> None:
    service, started = await service_and_function()
    gate, (first, *others) = await hold_batch(jobs, started, line("{first}"))
    stopping = asyncio.ensure_future(service.stop())
    await asyncio.sleep(0.05)
    gate.set()
    await stopping
    rows = await rows_of(jobs, [first, *others])
    assert sorted(rows) == others
    assert {(row["attempts"], row["locked_by"], row["last_error"]) for row in rows.values()} == {(0, None, None)}


# jobfn's own function.


class Blocking:
    """A task whose jobs wait for ``gate`` if their payload is "block"."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.blocked, self.gate = asyncio.Event(), asyncio.Event()

        @task("t")
        async def handler(payload: str) -> None:
            self.ran.append(payload)
            if payload == "block":
                self.blocked.set()
                await self.gate.wait()

        self.task = handler


StartApp = Callable[..., Awaitable[RecordingProxy]]


@pytest.fixture
async def start_app(serve: Serve, start_service: StartService, jobs: Jobs) -> StartApp:
    """Start a service for an app with one task, whose first job has run."""

    async def start(
        chosen: "Task[..., Any]", payload: object, *, app: Any = None, **settings: object
    ) -> RecordingProxy:
        proxy = RecordingProxy(app=app or create_app(tasks=[chosen]))
        await start_service(await serve(proxy), **settings)
        await jobs.until_gone(await jobs.add(chosen.identifier, payload))
        return proxy

    return start


async def test_jobs_behind_a_slow_one_run_in_another_slot(jobs: Jobs, start_app: StartApp) -> None:
    """And the outcomes of those before it are committed."""
    blocking = Blocking()
    proxy = await start_app(blocking.task, "first")
    ids = await add_payloads(jobs, "t", *["quick"] * 5, "block", *["behind"] * 10)
    await jobs.until_gone(*ids[:5], *ids[6:])
    assert proxy.batches[0].job_ids == ids
    assert (await jobs.row(ids[5]))["locked_by"] == WORKER
    blocking.gate.set()
    await jobs.until_gone()


async def test_jobs_that_were_not_started_are_released_if_no_slot_becomes_free(jobs: Jobs, start_app: StartApp) -> None:
    """Another worker could run them, although this one polls once an hour."""
    blocking = Blocking()
    await start_app(blocking.task, "first", concurrency=1, poll_interval_seconds=HOUR)
    payloads = [*["quick"] * 500, "block", *["behind"] * 500]  # with one slot, jobs share requests once they are quick
    ids = await add_payloads(jobs, "t", *payloads)
    await asyncio.wait_for(blocking.blocked.wait(), 60)

    async def only_the_slow_job_is_held() -> bool:
        held = await jobs.connection.fetch("select id from app_jobs.jobs where locked_by is not null")
        return [row["id"] for row in held] == [ids[500]]

    await eventually(only_the_slow_job_is_held)
    assert blocking.ran == ["first", *["quick"] * 500, "block"]
    assert await jobs.connection.fetchval("select max(attempts) from app_jobs.jobs where id <> $1", ids[500]) == 0
    blocking.gate.set()
    await jobs.until_gone(seconds=60)


@pytest.mark.parametrize("settle_on", ["auto", "response"])
async def test_outcomes_of_a_batch_are_settled_like_those_of_single_jobs(
    settle_on: str, jobs: Jobs, start_app: StartApp, connection: "asyncpg.Connection[Any]"
) -> None:
    @task("mixed", keep_result=True, backoff=Backoff(seconds=HOUR))
    async def mixed(payload: str, ctx: JobContext) -> dict[str, Any]:
        match payload:
            case "raise":
                raise ValueError("no")
            case "permanent":
                raise PermanentError("no such invoice")
            case "later":
                raise RetryLater("the bank is closed", seconds=HOUR)
            case "large":
                return {"text": "x" * 2_000_000}
        return {"ü": payload, "attempt": ctx.attempt}

    proxy = await start_app(mixed, "first", settle_on=settle_on, callback_secrets="signs-the-urls")
    ids = await add_payloads(jobs, "mixed", "a", "raise", "permanent", "later", 7, "large", "b")
    rows = await until_settled(jobs, ids)
    assert proxy.batches[0].job_ids == ids
    errors = {job: (row["attempts"], row["last_error"]) for job, row in rows.items()}
    assert errors.pop(ids[4])[0] == 25
    assert errors == {ids[1]: (1, "no"), ids[2]: (25, "no such invoice"), ids[3]: (1, "the bank is closed")}
    results = await connection.fetch("select job_id, result::text, storage_error as problem from app_jobs.job_results")
    assert {row["job_id"]: row["result"] and json.loads(row["result"]) for row in results if row["result"]} == {
        1: {"ü": "first", "attempt": 1},
        ids[0]: {"ü": "a", "attempt": 1},
        ids[6]: {"ü": "b", "attempt": 1},
    }
    assert {row["job_id"]: row["problem"] for row in results if row["problem"]} == {
        ids[5]: "the result is larger than the 64 KiB limit: store it elsewhere and return a reference"
    }


async def test_invoke_secret_holds_for_a_batch(jobs: Jobs, start_app: StartApp) -> None:
    blocking = Blocking()
    app = create_app(tasks=[blocking.task], settings=FunctionSettings(invoke_secrets=["other", SECRET]))
    proxy = await start_app(blocking.task, "first", app=app, invoke_secrets=SECRET)
    ids = await add_payloads(jobs, "t", *"abcdef")
    await jobs.until_gone()
    assert proxy.batches[0].job_ids == ids
    assert blocking.ran == ["first", *"abcdef"]


async def test_progress_of_a_job_in_a_batch_is_recorded(jobs: Jobs, start_app: StartApp) -> None:
    reported, gate = asyncio.Event(), asyncio.Event()

    @task("long")
    async def long(payload: str, ctx: JobContext) -> None:
        if payload == "slow":
            await ctx.progress(0.5, "half")
            reported.set()
            await gate.wait()

    proxy = await start_app(long, "first", callback_secrets="signs-the-urls")
    ids = await add_payloads(jobs, "long", "a", "slow", "b")
    await asyncio.wait_for(reported.wait(), 10)
    row = await jobs.row(ids[1])
    assert (row["progress"], row["progress_message"]) == (0.5, "half")
    assert proxy.batches[0].job_ids == ids
    gate.set()
    await jobs.until_gone()


async def test_background_jobs_of_a_batch_are_accepted_and_reported(
    jobs: Jobs, serve: Serve, start_service: StartService
) -> None:
    """And the one beyond the function's limit is released."""
    gate = asyncio.Event()
    ran: list[int] = []

    @task("long", background=True)
    async def long(payload: int) -> None:
        ran.append(payload)
        await gate.wait()

    proxy = RecordingProxy(app=create_app(tasks=[long], settings=FunctionSettings(max_background_jobs=2)))
    await start_service(await serve(proxy))
    await jobs.until_failed(await jobs.add("long", "not a number"))  # its response offers batches; that of 202 does not
    ids = await add_payloads(jobs, "long", 1, 2, 3)

    async def two_are_accepted() -> dict[int, asyncpg.Record]:
        rows = await rows_of(jobs, ids)
        return rows if [rows[job]["accepted_attempt"] for job in ids] == [1, 1, None] else {}

    rows = await eventually(two_are_accepted)
    assert proxy.batches[0].job_ids == ids
    assert [rows[job]["locked_by"] for job in ids[:2]] == [WORKER, WORKER]
    gate.set()
    await jobs.until_gone(*ids)
    assert ran == [1, 2, 3]
    attempts = {job.headers["x-job-attempt"] for batch in proxy.batches for job in batch.jobs}
    assert attempts | {single.headers["x-job-attempt"] for single in proxy.singles} == {"1"}
