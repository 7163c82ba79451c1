"""Traces: one job is one trace, from its enqueueing to its settlement."""

import asyncio
import itertools
from typing import Any

import asyncpg
import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan

from jobfn import JobContext, task
from jobfn.database.enqueue import enqueue
from jobfn.database.records import NewJob
from jobfn.errors import DatabaseError
from jobfn.telemetry.tracing import Tracing
from support.fixtures import StartWorker
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually
from support.observability import Deploy, Spans

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@task("succeeds")
async def succeeds(payload: dict[str, Any]) -> None: ...


@task("breaks")
async def breaks(payload: dict[str, Any]) -> None:
    raise RuntimeError("s3cret")


@task("long", background=True)
async def long(payload: dict[str, Any], ctx: JobContext) -> None: ...


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    link, context = child.parent, parent.context
    return bool(link and context and (link.trace_id, link.span_id) == (context.trace_id, context.span_id))


@pytest.mark.parametrize("settle_on", ["auto", "report"])
async def test_spans_of_a_job_are_below_the_span_that_enqueued_it(
    settle_on: str, jobs: Jobs, connection: "asyncpg.Connection[Any]", spans: Spans, deploy: Deploy
) -> None:
    await deploy(succeeds, settle_on=settle_on)
    with spans.provider.get_tracer("user").start_as_current_span("order placed"):
        new = NewJob("succeeds", database_id=TENANT)
        job = await enqueue(connection, "app_jobs", new, tracing=Tracing(spans.provider))
    await jobs.until_gone(job)
    chain = ["order placed", "enqueue succeeds", "deliver succeeds", "receive succeeds"]
    if settle_on == "report":
        chain += ["report", "settle"]
    ended = await spans.until(*chain, "run succeeds")
    for parent, child in [*itertools.pairwise(chain), ("receive succeeds", "run succeeds")]:
        assert is_child(ended[child], ended[parent]), child
    for name in ("deliver succeeds", "receive succeeds", "run succeeds"):
        assert dict(ended[name].attributes or {}) == {
            "jobfn.task": "succeeds",
            "jobfn.job": job,
            "jobfn.attempt": 1,
            "jobfn.worker": WORKER,
            "jobfn.tenant": TENANT,
        }
    assert {span.status.status_code.name for span in ended.values()} <= {"OK", "UNSET"}


async def test_failure_has_no_exception_text(jobs: Jobs, spans: Spans, deploy: Deploy) -> None:
    await deploy(breaks)
    await jobs.until_failed(await jobs.add("breaks", max_attempts=1))
    ended = await spans.until("deliver breaks", "receive breaks", "run breaks")
    assert {span.status.description for span in ended.values()} == {"failed"}
    assert "s3cret" not in "".join(span.to_json() for span in ended.values())


async def test_background_job_is_in_the_trace_of_its_delivery(jobs: Jobs, spans: Spans, deploy: Deploy) -> None:
    await deploy(long)
    await jobs.until_gone(await jobs.add("long"))
    ended = await spans.until("receive long", "run long", "report")
    assert is_child(ended["run long"], ended["receive long"])
    assert is_child(ended["report"], ended["receive long"])


async def test_refused_requests_have_spans_without_a_task(spans: Spans, deploy: Deploy) -> None:
    deployment = await deploy(succeeds)
    async with httpx.AsyncClient() as client:
        await client.post(f"{deployment.function_url}/other", json={}, headers={"traceparent": PARENT})
        await client.post(deployment.callback_url, headers={"X-Worker-Id": "worker-x", "X-Job-Id": "7"})
    ended = await spans.until("receive", "settle")
    assert ended["receive"].status.description == "refused"
    assert ended["settle"].status.description == "responded with 409"
    assert ended["receive"].context is not None
    assert f"{ended['receive'].context.trace_id:032x}" == TRACE


async def test_trigger_takes_the_trace_from_the_session_s_settings(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """A service without a tracer provider passes it on unchanged."""
    await jobs.connection.execute(
        """
        create table orders (id int);
        create function ordered() returns trigger language plpgsql as $$
        begin perform app_jobs.add_job('ordered', '{}'::json); return null; end $$;
        create trigger ordered after insert on orders for each row execute function ordered();
        """
    )
    async with jobs.connection.transaction():
        await jobs.connection.execute("select set_config('jobfn.traceparent', $1, true)", PARENT)
        await jobs.connection.execute("select set_config('jobfn.tracestate', 'vendor=1', true)")
        await jobs.connection.execute("insert into orders values (1)")
    await jobs.connection.execute("insert into orders values (2)")
    await start_worker(concurrency=1)
    await jobs.until_gone()
    first, second = function.received
    assert (first.headers["traceparent"], first.headers["tracestate"]) == (PARENT, "vendor=1")
    assert "traceparent" not in second.headers


async def test_malformed_trace_setting_is_ignored(jobs: Jobs) -> None:
    for parent, state, stored in (
        ("nonsense", "vendor=1", (None, "vendor=1")),
        ("", "", (None, None)),
        (PARENT + "0", "a", (None, "a")),
        (PARENT, "x" * 513, (PARENT, None)),
        (PARENT, "a\nb", (PARENT, None)),
        (PARENT, "é", (PARENT, None)),
    ):
        async with jobs.connection.transaction():
            await jobs.connection.execute("select set_config('jobfn.traceparent', $1, true)", parent)
            await jobs.connection.execute("select set_config('jobfn.tracestate', $1, true)", state)
            row = await jobs.row(await jobs.add("x"))
        assert (row["traceparent"], row["tracestate"]) == stored


async def test_replaced_job_has_the_trace_of_its_replacement(jobs: Jobs) -> None:
    await jobs.connection.execute("select set_config('jobfn.traceparent', $1, false)", PARENT)
    job = await jobs.add("x", job_key="k")
    row = await jobs.row(job)
    assert row["traceparent"] == PARENT
    await jobs.connection.execute("select set_config('jobfn.traceparent', '', false)")
    assert await jobs.add("x", job_key="k") == job
    row = await jobs.row(job)
    assert row["traceparent"] is None


async def test_enqueue_restores_the_session_s_settings(
    connection: "asyncpg.Connection[Any]", jobs: Jobs, spans: Spans
) -> None:
    async with connection.transaction():
        await connection.execute("select set_config('jobfn.traceparent', $1, true)", PARENT)
        traced = await jobs.row(await enqueue(connection, "app_jobs", NewJob("x"), tracing=Tracing(spans.provider)))
        later = await jobs.row(await jobs.add("x"))
    (span,) = spans.exporter.get_finished_spans()
    assert span.context is not None
    assert traced["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert later["traceparent"] == PARENT


async def test_failed_enqueue_leaves_the_transaction_usable(
    connection: "asyncpg.Connection[Any]", spans: Spans
) -> None:
    async with connection.transaction():
        with pytest.raises(DatabaseError, match="the job was not added"):
            await enqueue(connection, "app_jobs", NewJob("x", payload="not json"), tracing=Tracing(spans.provider))
        assert await connection.fetchval("select 1") == 1
    (span,) = spans.exporter.get_finished_spans()
    assert span.status.description == "DatabaseError"


async def test_reports_of_a_batch_are_settled_in_their_own_traces(jobs: Jobs, spans: Spans, deploy: Deploy) -> None:
    all_running, gate = asyncio.Event(), asyncio.Event()
    running = 0

    @task("together")
    async def together(payload: dict[str, Any]) -> None:
        nonlocal running
        running += 1
        if running == 8:
            all_running.set()
        await gate.wait()

    await deploy(together, settle_on="report")
    ids = [await jobs.add("together") for _ in range(8)]
    await all_running.wait()
    gate.set()
    await jobs.until_gone(*ids)

    async def all_have_ended() -> bool:  # a report's span ends after that of its settlement
        names = [span.name for span in spans.exporter.get_finished_spans()]
        return min(names.count("settle"), names.count("report")) >= 8

    await eventually(all_have_ended)
    ended = spans.exporter.get_finished_spans()
    reports = {span.context.span_id: span for span in ended if span.name == "report" and span.context is not None}
    settlements = [span for span in ended if span.name == "settle"]
    assert len({span.context.trace_id for span in settlements if span.context is not None}) == 8
    for span in settlements:
        assert span.parent is not None
        report = reports[span.parent.span_id]
        assert (report.attributes or {})["jobfn.job"] == (span.attributes or {})["jobfn.job"]
