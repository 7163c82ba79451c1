"""Log lines about a job: whoever writes them, they say which."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from jobfn import JobContext, create_app, task
from jobfn.function.settings import FunctionSettings
from jobfn.worker.settings import ServiceRole
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs
from support.observability import Lines, Spans, StartPath

LIBRARY = logging.getLogger("a.library")


@task("async")
async def asynchronous(payload: dict[str, Any], ctx: JobContext) -> None:
    ctx.log.info("by ctx.log")
    LIBRARY.warning("by a library")
    await asyncio.create_task(deeper())


@task("thread")
def in_a_thread(payload: dict[str, Any], ctx: JobContext) -> None:
    ctx.log.info("by ctx.log")
    LIBRARY.warning("by a library")


@task("background", background=True)
async def in_the_background(payload: dict[str, Any], ctx: JobContext) -> None:
    await asynchronous(payload, ctx)


async def deeper() -> None:
    """A task of the handler's own."""
    LIBRARY.error("by a task that the handler started")


def ids(job: int, task: str, attempt: int = 1) -> dict[str, object]:
    """What each line about this job says."""
    return {"job": job, "task": task, "attempt": attempt, "worker": WORKER, "tenant": TENANT}


async def add(jobs: Jobs, name: str, **options: object) -> int:
    """A job of a tenant's."""
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    return await jobs.add(name, **options)


@pytest.mark.parametrize("name", ["async", "thread", "background"])
async def test_every_line_of_a_job_says_which(name: str, jobs: Jobs, lines: Lines, start_path: StartPath) -> None:
    """The handler's, a library's, those of tasks and threads, and the callback server's, which says how it ended."""
    await start_path(asynchronous, in_a_thread, in_the_background)
    job = await add(jobs, name)
    await jobs.until_gone(job)
    await lines.until("job done")
    about = [line for line in lines.all() if line["event"].startswith(("by ", "job "))]
    assert len(about) == (3 if name == "thread" else 4)
    for line in about:
        assert {field: line.get(field) for field in ids(job, name)} == ids(job, name), line


async def test_a_callback_server_alone_says_how_jobs_end(jobs: Jobs, lines: Lines, start_path: StartPath) -> None:
    """It knows neither task nor tenant from a report; the row that it settles does."""
    path = await start_path(asynchronous, only=(ServiceRole.CALLBACKS,))
    job = await add(jobs, "theirs")
    await jobs.claim()
    async with httpx.AsyncClient() as client:
        headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
        assert (await client.post(path.callback_url, headers=headers, json={"error": "boom"})).status_code == 200
    line = await lines.until("job failed")
    assert {field: line.get(field) for field in ids(job, "theirs")} == ids(job, "theirs")
    assert line["error"] == "boom"


@pytest.mark.parametrize(
    ("status", "event"),
    [(200, "job done, without a report"), (500, "job failed, without a report"), (429, "function busy, job released")],
)
async def test_the_worker_s_lines_say_which_job(
    status: int,
    event: str,
    jobs: Jobs,
    lines: Lines,
    function: RecordingFunction,
    serve: Serve,
    start_service: StartService,
) -> None:
    """Of a function that reports nothing, and of one that takes no more."""
    function.respond(status)
    await start_service(await serve(function.app))
    job = await add(jobs, "plain")
    line = await lines.until(event)
    assert {field: line.get(field) for field in ids(job, "plain")} == ids(job, "plain")


async def test_a_lost_job_is_named(
    jobs: Jobs, lines: Lines, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """A job that somebody else took while it ran: one line for each such job."""
    gate = function.hold()
    await start_service(await serve(function.app), lease_seconds=1.0)
    job = await add(jobs, "taken")
    await function.arrived.wait()
    await jobs.connection.execute("update app_jobs.jobs set locked_by = 'another'")
    line = await lines.until("lease lost: the job was settled elsewhere or claimed by another worker")
    assert {field: line.get(field) for field in ids(job, "taken")} == ids(job, "taken")
    gate.set()


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [
        ("/async", "POST", {"Content-Type": "text/plain"}),
        ("/async", "PUT", {}),
        ("/unknown", "POST", {}),
        ("/async", "POST", {"X-Actor-Id": "no uuid"}),
    ],
)
async def test_a_refused_delivery_is_named(
    path: str, method: str, headers: dict[str, str], lines: Lines, serve: Serve
) -> None:
    """Its ids are in the line that says why it was refused, and in that of a report that cannot be sent."""
    url = await serve(
        create_app(tasks=[asynchronous, in_a_thread], settings=FunctionSettings(report_timeout_seconds=0.1))
    )
    sent = {
        "X-Worker-Id": WORKER,
        "X-Job-Id": "7",
        "X-Job-Attempt": "3",
        "X-Database-Id": TENANT,
        "X-Callback-Url": "no URL",
    }
    async with httpx.AsyncClient() as client:
        assert (await client.request(method, f"{url}{path}", headers=sent | headers, content="{}")).status_code >= 400
    for event in ("request refused", "report not sent"):
        line = await lines.until(event)
        assert {field: line.get(field) for field in ids(7, path[1:], 3)} == ids(7, path[1:], 3)


async def test_by_hand_there_is_only_the_task(lines: Lines, serve: Serve) -> None:
    """No job, no ids; and outside of a delivery a library's lines carry nothing."""
    url = await serve(create_app(tasks=[asynchronous], settings=FunctionSettings()))
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/async", json={})).status_code == 200
    LIBRARY.warning("afterwards")
    line = await lines.until("by a library")
    assert {field: line.get(field) for field in ids(0, "")} == dict.fromkeys(ids(0, "")) | {"task": "async"}
    assert set(await lines.until("afterwards")) == {"event", "level", "logger", "timestamp"}


@pytest.mark.parametrize("name", ["async", "thread"])
async def test_a_line_within_a_span_says_which(
    name: str, jobs: Jobs, lines: Lines, spans: Spans, start_path: StartPath
) -> None:
    """Trace and span of the handler's run, so that one leads to the other."""
    await start_path(asynchronous, in_a_thread)
    await jobs.until_gone(await add(jobs, name))
    context = (await spans.until(f"run {name}"))[f"run {name}"].context
    assert context is not None
    for event in ("by ctx.log", "by a library"):
        line = await lines.until(event)
        assert (line["trace_id"], line["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


async def test_a_server_s_own_lines_have_the_same_form(lines: Lines, serve: Serve) -> None:
    """The server tells of an app that broke, in JSON as everybody else."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise RuntimeError("broken")

    url = await serve(broken)
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).status_code == 500
    line = await lines.until("ASGI app raised")
    assert (line["logger"], line["level"]) == ("jobfn.http", "error")
    assert "RuntimeError: broken" in line["exception"]
