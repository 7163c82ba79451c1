"""Failures carry their tracebacks from the function, by response or report, to the history."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from jobfn import FunctionSettings, PermanentError, RetryLater, Task, create_app, task
from jobfn.cli.render_jobs import detail_lines
from jobfn.database.history import History
from jobfn.database.native_store import NativeJobStore
from jobfn.database.records import Settlement
from jobfn.operations import JobDetail, open_operations
from jobfn.wire import StoredResult
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs


@task("explode")
async def explode(payload: dict[str, Any]) -> None:
    card = payload["card"]
    raise ValueError(f"declined after {len(card)} digits")


@task("refuse")
def refuse(_payload: dict[str, Any]) -> None:
    raise PermanentError("no such customer")


@task("hang", timeout=0.05)
async def hang(_payload: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@task("later")
async def later(_payload: dict[str, Any]) -> None:
    raise RetryLater("bank closed", seconds=3600)


TASKS: list[Task[..., Any]] = [explode, refuse, hang, later]
PAYLOAD = {"card": "4111-1111"}


async def detail_of(pool: Any, job: int) -> JobDetail:
    detail = await (await open_operations(pool, "app_jobs")).get_job(job)
    assert detail is not None
    return detail


@pytest.mark.parametrize("settle_on", ["report", "response"])
async def test_traceback_is_stored_with_the_attempt(
    settle_on: str, jobs: Jobs, serve: Serve, start_service: StartService, pool: Any
) -> None:
    url = await serve(create_app(tasks=TASKS, settings=FunctionSettings(tracebacks=True)))
    await start_service(url, settle_on=settle_on)
    ids = [await jobs.add(each.identifier, PAYLOAD) for each in TASKS]
    for job in ids:
        await jobs.until_failed(job)
    exploded, refused, hung, snoozed = [await detail_of(pool, job) for job in ids]
    [run] = exploded.runs
    assert (run.attempt, run.error) == (1, "declined after 9 digits")
    assert run.traceback is not None
    lines = run.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith(", in explode")
    assert lines[2:] == [
        '    raise ValueError(f"declined after {len(card)} digits")',
        "ValueError: declined after 9 digits",
    ]
    shown = detail_lines(exploded, datetime.now(UTC))
    start = shown.index("    traceback of attempt 1")
    assert shown[start + 1 : start + 5] == [f"        {line}" for line in lines]
    assert (refused.runs[0].traceback or "").endswith("jobfn.errors.PermanentError: no such customer")
    assert ", in hang\n" in (hung.runs[0].traceback or "")
    assert snoozed.runs[0].traceback is None
    assert not any("4111" in (each.runs[0].traceback or "") for each in (exploded, refused, hung))


async def test_failures_and_results_of_one_batch_are_stored(jobs: Jobs, pool: Any) -> None:
    store = NativeJobStore(pool, "app_jobs")
    failed, failed_again, completed = [await jobs.add("t") for _ in range(3)]
    await store.claim(WORKER, tasks=None, limit=3)
    settlements = [
        Settlement(WORKER, failed, 1, error="a", traceback="x" * 20_000 + "\0\ud800end", permanent=True),
        Settlement(WORKER, failed_again, 1, error="b"),
        Settlement(WORKER, completed, 1, result=StoredResult(60.0, "[1]")),
        Settlement("another-worker", 10_000, 1, error="c", traceback="not stored"),
    ]
    assert await store.settle(settlements) == {failed, failed_again, completed}
    assert [tuple(row) for row in await pool.fetch("select job_id, traceback from app_jobs.job_tracebacks")] == [
        (failed, "x" * (16_384 - 4) + "?end")
    ]
    assert await pool.fetchval("select result::text from app_jobs.job_results where job_id = $1", completed) == "[1]"


async def test_tracebacks_have_the_retention_of_the_history(jobs: Jobs, pool: Any) -> None:
    store, history = NativeJobStore(pool, "app_jobs"), History(pool, "app_jobs")
    job = await jobs.add("t", max_attempts=9)

    async def fail_with_traceback() -> None:
        await jobs.update("run_at = now()")
        [claimed] = await store.claim(WORKER, tasks=None, limit=1)
        await store.settle([Settlement(WORKER, job, claimed.attempt, error="a", traceback="t")])

    for _ in range(3):
        await fail_with_traceback()
    await pool.execute("update app_jobs.job_tracebacks set ended_at = ended_at - interval '31 days'")
    await fail_with_traceback()
    await history.set_retention(30)
    assert [await history.prune(limit=2) for _ in range(3)] == [2, 1, 0]
    assert await pool.fetchval("select count(*) from app_jobs.job_tracebacks") == 1
    await history.set_retention(0)
    await fail_with_traceback()
    assert await history.prune(limit=1000) >= 1
    assert await pool.fetchval("select count(*) from app_jobs.job_tracebacks") == 0
