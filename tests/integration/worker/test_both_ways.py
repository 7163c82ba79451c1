"""What a function says of a job means the same, whether its report says it or its response (``JOBS_SETTLE_ON``)."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn import Backoff, JobContext, PermanentError, ResultUnavailable, RetryLater, Task, create_app, task
from jobfn.function.settings import FunctionSettings
from jobfn.wire import MAX_RESULT_BYTES, StoredResult
from support.fixtures import Serve, StartService
from support.jobs import Jobs

HOUR = 3600.0


@task("add_up", keep_result=True)
async def add_up(payload: list[int]) -> dict[str, Any]:
    return {"sum": sum(payload), "ü": None}


@task("nothing", keep_result=timedelta(minutes=1))
async def nothing(payload: None) -> None:
    """Returns None, which is a result too."""


@task("in_the_background", background=True, keep_result=True)
async def in_the_background(payload: None) -> list[str]:
    return ["done"]


@task("unwritable", keep_result=True)
async def unwritable(payload: None) -> object:
    return object()


@task("large", keep_result=True)
async def large(payload: int) -> str:
    return "x" * payload


@task("plain")
async def plain(payload: None) -> int:
    return 1


@task("never", keep_result=True)
async def never(payload: None) -> None:
    raise PermanentError("no such invoice")


@task("later")
async def later(payload: None) -> None:
    raise RetryLater("the bank is closed", seconds=HOUR)


@task("fails")
async def fails(payload: None) -> None:
    raise ValueError("no")


@task("slowly", backoff=Backoff(seconds=HOUR, factor=2, jitter=0))
async def slowly(payload: None) -> None:
    raise ValueError("not yet")


@task("once", max_attempts=1)
async def once(payload: None) -> None:
    raise ValueError("that was it")


@task("hangs", timeout=0.05, max_attempts=1)
async def hangs(payload: None) -> None:
    await asyncio.Event().wait()


TASKS: list[Task[..., Any]] = [
    *(add_up, nothing, in_the_background, unwritable, large, plain),
    *(never, later, fails, slowly, once, hangs),
]


@pytest.fixture(params=["report", "response"])
def way(request: pytest.FixtureRequest) -> str:
    """What settles jobs."""
    return str(request.param)


@pytest.fixture
async def running(way: str, serve: Serve, start_service: StartService) -> None:
    """The tasks, and a platform side that settles in this way; the other one would come an hour later."""
    await start_service(await serve(create_app(tasks=TASKS)), settle_on=way, report_grace_seconds=HOUR)


async def test_results_are_kept(running: None, connection: "asyncpg.Connection[Any]") -> None:
    """What the handler returned, for as long as its task says; also of a background task, and None."""
    result = await (await add_up.enqueue(connection, [1, 2, 39])).result(timeout=20)
    assert (result.outcome, result.value) == ("completed", {"sum": 42, "ü": None})
    assert (await (await in_the_background.enqueue(connection, None)).result(timeout=20)).value == ["done"]
    job = await nothing.enqueue(connection, None)
    assert (await job.result(timeout=20)).value is None
    kept = "select extract(epoch from expires_at - ended_at)::int from app_jobs.job_results where job_id = $1"
    assert await connection.fetchval(kept, job) == 60


@pytest.mark.parametrize(
    ("chosen", "payload", "told"),
    [
        (unwritable, None, "is not JSON-serializable"),
        (large, MAX_RESULT_BYTES, "larger than the 64 KiB"),
        (large, 2_000_000, "larger than the 64 KiB"),  # which a worker does not even read to its end
    ],
)
async def test_a_result_that_cannot_be_kept_is_told(
    running: None, connection: "asyncpg.Connection[Any]", chosen: Any, payload: object, told: str
) -> None:
    """The job has completed all the same; its value says why it is not there."""
    result = await (await chosen.enqueue(connection, payload)).result(timeout=20)
    assert result.outcome == "completed"
    with pytest.raises(ResultUnavailable, match=told):
        _ = result.value


async def test_other_tasks_results_are_not_kept(
    running: None, connection: "asyncpg.Connection[Any]", jobs: Jobs
) -> None:
    """Without keep_result nothing of what was returned is written down."""
    await jobs.until_gone(await plain.enqueue(connection, None))
    assert await connection.fetchval("select count(*) from app_jobs.job_results") == 0


@pytest.mark.parametrize(
    ("name", "error", "seconds"),
    [
        ("fails", "no", 2.718),  # the contract's exp(attempts)
        ("slowly", "not yet", HOUR),
        ("later", "the bank is closed", HOUR),
    ],
)
async def test_a_failed_job_is_tried_again_when_its_task_says(
    running: None, jobs: Jobs, name: str, error: str, seconds: float
) -> None:
    """The contract's backoff, the task's own, or what RetryLater asks for."""
    row = await jobs.until_failed(await jobs.add(name))
    assert (row["last_error"], row["attempts"]) == (error, 1)
    waits = (row["run_at"] - row["updated_at"]).total_seconds()
    assert waits == pytest.approx(seconds, abs=0.1)


@pytest.mark.parametrize(
    ("name", "payload", "error"),
    [
        ("never", None, "no such invoice"),
        ("once", None, "that was it"),
        ("hangs", None, "hangs did not finish within its timeout of 0.05 seconds"),
        ("add_up", {"no": "list"}, "Input should be a valid array"),
    ],
)
async def test_what_has_failed_for_good_is_not_tried_again(
    running: None, jobs: Jobs, name: str, payload: object, error: str
) -> None:
    """PermanentError, the task's last attempt, and a payload that does not fit: no attempt is left."""
    row = await jobs.until_failed(await jobs.add(name, payload))
    assert error in row["last_error"]
    assert row["attempts"] == row["max_attempts"]


async def test_progress_is_heard(
    way: str, serve: Serve, start_service: StartService, connection: "asyncpg.Connection[Any]", jobs: Jobs
) -> None:
    """While the handler runs, share and note stand in the job's row."""
    told, go_on = asyncio.Event(), asyncio.Event()

    @task("long")
    async def long(payload: None, ctx: JobContext) -> None:
        await ctx.progress(0.5, "half")
        told.set()
        await go_on.wait()

    await start_service(await serve(create_app(tasks=[long])), settle_on=way, callback_secrets="signs-the-urls")
    job = await long.enqueue(connection, None)
    await asyncio.wait_for(told.wait(), 20)
    row = await jobs.row(job)
    assert row is not None
    assert (row["progress"], row["progress_note"]) == (0.5, "half")
    go_on.set()
    await jobs.until_gone(job)


async def test_a_result_survives_a_report_that_never_came(
    serve: Serve, start_service: StartService, connection: "asyncpg.Connection[Any]"
) -> None:
    """Where the response has to settle in a report's stead, what it says is kept as well."""
    gateway = await serve(
        create_app(tasks=TASKS, settings=FunctionSettings(callback_allowed_hosts=["nowhere.example"]))
    )
    await start_service(gateway, settle_on="report", report_grace_seconds=0.05)
    assert (await (await add_up.enqueue(connection, [1])).result(timeout=20)).value == {"sum": 1, "ü": None}


async def test_a_response_is_the_result_and_its_headers_say_for_how_long(serve: Serve) -> None:
    """The body is the handler's result and nothing else; only a task that keeps results says so."""
    url = await serve(create_app(tasks=TASKS))
    async with httpx.AsyncClient(base_url=url) as client:
        kept = await client.post("/add_up", json=[1])
        plain_answer = await client.post("/plain")
    assert kept.json() == {"sum": 1, "ü": None}
    assert kept.headers["x-keep-result-seconds"] == "86400"
    assert "x-keep-result-seconds" not in plain_answer.headers


@pytest.mark.parametrize(
    ("headers", "body", "kept"),
    [
        ({}, b"1", None),
        ({"X-Keep-Result-Seconds": "no"}, b"1", None),
        ({"X-Keep-Result-Seconds": "0"}, b"1", None),
        ({"X-Keep-Result-Seconds": "nan"}, b"1", None),
        ({"X-Keep-Result-Seconds": "5"}, b"[1]", StoredResult(5.0, result="[1]")),
        (
            {"X-Keep-Result-Seconds": "5"},
            b"<p>",
            StoredResult(5.0, problem="the function's response is not valid JSON"),
        ),
        ({"X-Keep-Result-Seconds": "5", "X-Result-Problem": "why"}, b"nul", StoredResult(5.0, problem="why")),
    ],
)
def test_what_a_response_says_to_keep(headers: dict[str, str], body: bytes, kept: StoredResult | None) -> None:
    """A header that cannot be read says nothing; a body that is no JSON is told, and harms nothing."""
    assert StoredResult.from_response(headers, body) == kept
