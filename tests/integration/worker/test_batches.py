"""Several jobs of a quick task in one request: which jobs, what reaches the function, and their outcomes."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from jobfn import Backoff, FunctionSettings, JobContext, PermanentError, RetryLater, Task, create_app, task
from support.batch_function import (
    BatchFunction,
    RecordingProxy,
    add_many,
    add_payloads,
    complete_all,
    rows_of,
    until_settled,
)
from support.fixtures import Serve, StartBatchFunction, StartService
from support.function_app import SECRET
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually
from support.secrets import CALLBACK_SECRET, OTHER_INVOKE_SECRET

HOUR = 3600.0


async def test_request_has_at_most_50_jobs(jobs: Jobs, start_function: StartBatchFunction) -> None:
    started, _ = await start_function(concurrency=200)
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
    payload: str, received: str | None, jobs: Jobs, start_function: StartBatchFunction
) -> None:
    """Except for line feeds between its tokens."""
    started, _ = await start_function()
    await add_many(jobs, 2, payload=payload)
    await jobs.until_gone()
    [batch] = started.batches
    assert [job.body.decode() for job in batch.jobs] == [received or payload] * 2


async def test_large_payloads_do_not_share_a_request(jobs: Jobs, start_function: StartBatchFunction) -> None:
    started, _ = await start_function()
    large = '"' + "ü" * 1_000_000 + '"'
    await add_many(jobs, 3, payload=large)
    await jobs.until_gone()
    assert (started.batches, [single.body.decode() for single in started.singles[1:]]) == ([], [large] * 3)


async def test_headers_are_shared_or_those_of_the_job(jobs: Jobs, start_function: StartBatchFunction) -> None:
    started, _ = await start_function(invoke_secrets=SECRET)
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    async with jobs.connection.transaction():
        ids = await add_many(jobs, 3)
        created_at = await jobs.connection.fetchval("select date_part('epoch', now())")
    await jobs.until_gone()
    [batch] = started.batches
    base, _, token = batch.headers["x-callback-url"].removesuffix("&/callback").partition("/callback?token=")
    parts = token.split(".")[1].split("_")
    assert parts[:3] == [f"{job}-1" for job in ids]
    assert parts[3:] == [parts[3]] * 3  # the tags of rows that were added at the same time
    assert re.fullmatch("r[0-9a-f]{1,8}", parts[3])
    shared = {name: value for name, value in batch.headers.items() if name.startswith("x-")}
    assert shared == {
        "x-worker-id": WORKER,
        "x-callback-url": f"{base}/callback?token={token}&/callback",
        "x-callback-batch": started.singles[0].headers["x-callback-batch"],
        "x-heartbeat-url": f"{base}/heartbeat?token={token}",
        "x-lease-seconds": "30",
        "x-settle-on": "response",
        "x-invoke-secret": SECRET,
        "x-installation-id": await jobs.connection.fetchval("select app_jobs.installation_id()::text"),
        "x-durable": "steps",
    }
    assert [job.headers for job in batch.jobs] == [
        {"x-job-id": str(job), "x-job-attempt": "1", "x-job-created-at": str(created_at), "x-database-id": TENANT}
        for job in ids
    ]


@pytest.mark.parametrize("settings", [{"delivery_batch": False}, {"settle_on": "report"}])
async def test_setting_turns_batches_off(
    settings: dict[str, object], jobs: Jobs, start_function: StartBatchFunction
) -> None:
    started, _ = await start_function(**settings)
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


async def test_batch_holds_jobs_of_one_task(jobs: Jobs, start_function: StartBatchFunction) -> None:
    started, _ = await start_function()
    await jobs.until_gone(await jobs.add("other"))
    names = "select (app_jobs.add_job(case when n % 2 = 0 then 't' else 'other' end)).id from generate_series(1, 8) n"
    ids = [row["id"] for row in await jobs.connection.fetch(names)]
    await jobs.until_gone()
    assert [(batch.path, batch.job_ids) for batch in started.batches] == [
        ("/other/batch", ids[::2]),
        ("/t/batch", ids[1::2]),
    ]


async def test_retries_and_last_attempts_are_delivered_alone(jobs: Jobs, start_function: StartBatchFunction) -> None:
    """If a request breaks, whichever job broke it must not take others down again."""
    started, _ = await start_function()
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

    proxy = await start_app(mixed, "first", settle_on=settle_on, callback_secrets=CALLBACK_SECRET)
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
    app = create_app(tasks=[blocking.task], settings=FunctionSettings(invoke_secrets=[OTHER_INVOKE_SECRET, SECRET]))
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

    proxy = await start_app(long, "first", callback_secrets=CALLBACK_SECRET)
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
