"""The ids in log lines about jobs."""

import asyncio
import logging
from typing import Any

import httpx
import pytest

from jobfn import JobContext, create_app, task
from jobfn.function.settings import FunctionSettings
from jobfn.worker.settings import ServiceRole
from support.fixtures import Serve, StartWorker
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs
from support.observability import JOB_IDS, Deploy, LogLines, Spans, add_for_tenant, ids_of, job_ids

LIBRARY = logging.getLogger("a.library")


@task("async")
async def asynchronous(payload: dict[str, Any], ctx: JobContext) -> None:
    ctx.log.info("by ctx.log")
    LIBRARY.warning("by a library")
    await asyncio.create_task(log_in_a_task())


@task("thread")
def in_a_thread(payload: dict[str, Any], ctx: JobContext) -> None:
    ctx.log.info("by ctx.log")
    LIBRARY.warning("by a library")


@task("background", background=True)
async def in_the_background(payload: dict[str, Any], ctx: JobContext) -> None:
    await asynchronous(payload, ctx)


async def log_in_a_task() -> None:
    LIBRARY.error("by a task of the handler")


@pytest.mark.parametrize("settle_on", ["auto", "report", "response"])
async def test_function_and_service_log_the_same_ids(
    settle_on: str, jobs: Jobs, lines: LogLines, deploy: Deploy
) -> None:
    await deploy(asynchronous, in_a_thread, in_the_background, settle_on=settle_on)
    ids = {name: await add_for_tenant(jobs, name) for name in ("async", "thread", "background")}
    await lines.until("job done", times=3)
    for name, count in (("async", 4), ("thread", 3), ("background", 4)):
        about_job = [line for line in lines.all() if line.get("job") == ids[name]]
        logged = [ids_of(line) for line in about_job if line["event"].startswith(("by ", "job "))]
        assert logged == [job_ids(ids[name], name)] * count


async def test_callback_server_without_a_worker_logs_all_ids(jobs: Jobs, lines: LogLines, deploy: Deploy) -> None:
    """The report has neither task nor tenant; the settled row has."""
    deployment = await deploy(asynchronous, roles=(ServiceRole.CALLBACKS,))
    job = await add_for_tenant(jobs, "theirs")
    await jobs.claim()
    async with httpx.AsyncClient() as client:
        headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Error": "true"}
        response = await client.post(deployment.callback_url, headers=headers, json={"error": "boom"})
    assert response.status_code == 200
    line = await lines.until("job failed")
    assert (ids_of(line), line["error"]) == (job_ids(job, "theirs"), "boom")


@pytest.mark.parametrize(
    ("settings", "tasks", "warnings"),
    [
        ({}, "all", 0),
        ({"support_any": False, "supported": ["a", "b"]}, ["a", "b"], 0),
        ({"support_any": False}, [], 1),
    ],
)
async def test_worker_logs_the_tasks_that_it_runs(
    settings: dict[str, Any], tasks: object, warnings: int, lines: LogLines, start_worker: StartWorker
) -> None:
    await start_worker(**settings)
    assert (await lines.until("looking for jobs"))["tasks"] == tasks
    warned = [line for line in lines.all() if line["level"] == "warning" and "JOBS_SUPPORTED" in line["event"]]
    assert len(warned) == warnings


@pytest.mark.parametrize(
    ("status", "level", "event"),
    [
        (200, "info", "job done"),
        (500, "warning", "job failed"),
        (429, "warning", "function busy, job released"),
    ],
)
async def test_worker_logs_the_ids_of_a_job_without_a_report(
    status: int,
    level: str,
    event: str,
    jobs: Jobs,
    lines: LogLines,
    function: RecordingFunction,
    start_worker: StartWorker,
) -> None:
    function.respond(status)
    await start_worker()
    job = await add_for_tenant(jobs, "plain")
    line = await lines.until(event)
    assert (line["level"], ids_of(line)) == (level, job_ids(job, "plain"))


async def test_permanent_failure_is_logged_as_an_error(
    jobs: Jobs, lines: LogLines, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(500, {"error": "no such invoice", "permanent": True})
    await start_worker()
    job = await add_for_tenant(jobs, "plain")
    line = await lines.until("job permanently failed")
    assert (line["level"], line["error"], ids_of(line)) == ("error", "no such invoice", job_ids(job, "plain"))


async def test_worker_logs_a_lost_lease(
    jobs: Jobs, lines: LogLines, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    await start_worker(lease_seconds=1.0)
    job = await add_for_tenant(jobs, "lost")
    await function.arrived.wait()
    await jobs.connection.execute("update app_jobs.jobs set locked_by = 'another'")
    line = await lines.until("lease lost: the job was settled elsewhere or claimed by another worker")
    assert ids_of(line) == job_ids(job, "lost")
    gate.set()


@pytest.mark.parametrize(
    ("path", "method", "headers"),
    [("/async", "PUT", {}), ("/unknown", "POST", {}), ("/async", "POST", {"X-Actor-Id": "x"})],
)
async def test_function_logs_the_ids_of_a_refused_delivery_and_its_unsent_report(
    path: str, method: str, headers: dict[str, str], lines: LogLines, serve: Serve
) -> None:
    settings = FunctionSettings(report_timeout_seconds=0.1)
    url = await serve(create_app(tasks=[asynchronous, in_a_thread], settings=settings))
    delivery = {
        "X-Worker-Id": WORKER,
        "X-Job-Id": "7",
        "X-Job-Attempt": "3",
        "X-Database-Id": TENANT,
        "X-Callback-Url": "not a URL",
    }
    async with httpx.AsyncClient() as client:
        response = await client.request(method, f"{url}{path}", headers=delivery | headers, content="{}")
    assert response.status_code >= 400
    for event in ("request refused", "report not sent"):
        assert ids_of(await lines.until(event)) == job_ids(7, path[1:], 3)


async def test_call_without_a_job_logs_only_the_task(lines: LogLines, serve: Serve) -> None:
    url = await serve(create_app(tasks=[asynchronous], settings=FunctionSettings()))
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/async", json={})).status_code == 200
    LIBRARY.warning("outside of a delivery")
    line = await lines.until("by a library")
    assert {name: line[name] for name in JOB_IDS & line.keys()} == {"task": "async"}
    assert set(await lines.until("outside of a delivery")) == {"event", "level", "logger", "timestamp"}


@pytest.mark.parametrize("name", ["async", "thread"])
async def test_line_within_a_span_has_its_ids(
    name: str, jobs: Jobs, lines: LogLines, spans: Spans, deploy: Deploy
) -> None:
    await deploy(asynchronous, in_a_thread)
    await jobs.until_gone(await add_for_tenant(jobs, name))
    context = (await spans.until(f"run {name}"))[f"run {name}"].context
    assert context is not None
    for event in ("by ctx.log", "by a library"):
        line = await lines.until(event)
        assert (line["trace_id"], line["span_id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")


async def test_http_server_logs_in_the_same_format(lines: LogLines, serve: Serve) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            raise RuntimeError("broken")

    url = await serve(broken)
    async with httpx.AsyncClient() as client:
        assert (await client.get(url)).status_code == 500
    line = await lines.until("Exception in ASGI application\n")
    assert (line["logger"], line["level"]) == ("uvicorn.error", "error")
    assert "RuntimeError: broken" in line["exception"]
