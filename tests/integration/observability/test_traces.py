"""Traces: one job, one trace, from who enqueues it to who hears its report."""

import asyncio
import itertools
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn import JobContext, task
from jobfn.database.jobs import NewJob, enqueue
from jobfn.errors import DatabaseError
from jobfn.telemetry.tracing import Tracing
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import TENANT, Jobs
from support.network import eventually
from support.observability import Spans, StartPath

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


@task("well")
async def well(payload: dict[str, Any]) -> None: ...


@task("breaks")
async def breaks(payload: dict[str, Any]) -> None:
    raise RuntimeError("s3cret")


@task("long", background=True)
async def long(payload: dict[str, Any], ctx: JobContext) -> None: ...


async def test_one_job_is_one_trace(
    jobs: Jobs, connection: "asyncpg.Connection[Any]", spans: Spans, start_path: StartPath
) -> None:
    """Enqueued within a span of the user's own: deliver, receive, run, report and settle hang together below it."""
    await start_path(well)
    tracer = spans.provider.get_tracer("the user's")
    with tracer.start_as_current_span("order placed"):
        new = NewJob("well", database_id=TENANT)
        job = await enqueue(connection, "app_jobs", new, tracing=Tracing(spans.provider))
    await jobs.until_gone(job)
    found = await spans.until("enqueue well", "deliver well", "receive well", "run well", "report", "settle")
    chain = ["order placed", "enqueue well", "deliver well", "receive well", "report", "settle"]
    for above, below in [*itertools.pairwise(chain), ("receive well", "run well")]:
        inner, outer = found[below].parent, found[above].context
        assert inner is not None
        assert outer is not None
        assert (inner.trace_id, inner.span_id) == (outer.trace_id, outer.span_id), below
    for name in ("deliver well", "receive well", "run well"):
        attributes = dict(found[name].attributes or {})
        assert attributes == {
            "jobfn.task": "well",
            "jobfn.job": job,
            "jobfn.attempt": 1,
            "jobfn.worker": "worker-under-test",
            "jobfn.tenant": TENANT,
        }
    assert all(span.status.is_ok or span.status.status_code.name == "UNSET" for span in found.values())


async def test_a_failure_is_told_by_its_kind(jobs: Jobs, spans: Spans, start_path: StartPath) -> None:
    """What an exception says stays in log and row; no span has it."""
    await start_path(breaks)
    await jobs.until_failed(await jobs.add("breaks", max_attempts=1))
    found = await spans.until("deliver breaks", "receive breaks", "run breaks")
    assert {span.status.description for span in found.values()} == {"failed", None}
    assert "s3cret" not in "".join(span.to_json() for span in found.values())


async def test_a_job_in_the_background_is_a_part_of_its_delivery(
    jobs: Jobs, spans: Spans, start_path: StartPath
) -> None:
    """Its run and its report come after the answer, in the same trace."""
    await start_path(long)
    await jobs.until_gone(await jobs.add("long"))
    found = await spans.until("receive long", "run long", "report")
    received = found["receive long"].context
    assert received is not None
    for name in ("run long", "report"):
        parent = found[name].parent
        assert parent is not None
        assert (parent.trace_id, parent.span_id) == (received.trace_id, received.span_id)


async def test_what_a_stranger_sends_is_a_span_too(spans: Spans, start_path: StartPath) -> None:
    """A task that is not here: refused, and not named."""
    path = await start_path(well)
    async with httpx.AsyncClient() as client:
        await client.post(f"{path.function_url}/other", json={}, headers={"traceparent": PARENT})
        await client.post(path.callback_url, headers={"X-Worker-Id": "worker-x", "X-Job-Id": "7"})
    found = await spans.until("receive", "settle")
    assert found["receive"].status.description == "refused"
    assert found["settle"].status.description == "answered 409"
    assert found["receive"].context is not None
    assert f"{found['receive'].context.trace_id:032x}" == TRACE


async def test_sql_passes_the_trace_by_settings(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Triggers inherit them; a service without a provider hands both on as they are."""
    await jobs.connection.execute("create table orders (id int)")
    await jobs.connection.execute(
        """
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
    await start_service(await serve(function.app), concurrency=1)
    await jobs.until_gone()
    first, second = function.received
    assert (first.headers["traceparent"], first.headers["tracestate"]) == (PARENT, "vendor=1")
    assert "traceparent" not in second.headers


@pytest.mark.parametrize(
    ("parent", "state"),
    [("nonsense", "vendor=1"), ("", ""), (PARENT + "0", "a"), (PARENT, "x" * 513), (PARENT, "a\nb"), (PARENT, "é")],
)
async def test_a_malformed_setting_fails_nobodys_write(jobs: Jobs, parent: str, state: str) -> None:
    """It counts as not said."""
    async with jobs.connection.transaction():
        await jobs.connection.execute("select set_config('jobfn.traceparent', $1, true)", parent)
        await jobs.connection.execute("select set_config('jobfn.tracestate', $1, true)", state)
        row = await jobs.row(await jobs.add("x"))
    assert row is not None
    assert row["traceparent"] == (PARENT if parent == PARENT else None)
    assert row["tracestate"] in {None, "vendor=1", "a"}
    assert (row["tracestate"] is None) is (state not in {"vendor=1", "a"})


async def test_a_replaced_job_is_of_the_later_trace(jobs: Jobs) -> None:
    """A job of the same key takes the waiting one's place, its trace too; without one, it has none."""
    await jobs.connection.execute("select set_config('jobfn.traceparent', $1, false)", PARENT)
    job = await jobs.add("x", job_key="k")
    row = await jobs.row(job)
    assert row is not None
    assert row["traceparent"] == PARENT
    await jobs.connection.execute("select set_config('jobfn.traceparent', '', false)")
    assert await jobs.add("x", job_key="k") == job
    row = await jobs.row(job)
    assert row is not None
    assert row["traceparent"] is None


async def test_enqueueing_leaves_the_settings_as_they_were(
    connection: "asyncpg.Connection[Any]", jobs: Jobs, spans: Spans
) -> None:
    """In a transaction of the caller's: what it enqueues afterwards is not of the trace of that one job."""
    async with connection.transaction():
        await connection.execute("select set_config('jobfn.traceparent', $1, true)", PARENT)
        traced = await enqueue(connection, "app_jobs", NewJob("x"), tracing=Tracing(spans.provider))
        after = await jobs.add("x")
    row, later = await jobs.row(traced), await jobs.row(after)
    assert row is not None
    assert later is not None
    (span,) = spans.exporter.get_finished_spans()
    assert span.context is not None
    assert row["traceparent"].startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert later["traceparent"] == PARENT


async def test_a_refused_job_leaves_the_transaction_as_it_was(
    connection: "asyncpg.Connection[Any]", spans: Spans
) -> None:
    """The error is the same as without traces, and the span says that there was one."""
    async with connection.transaction():
        with pytest.raises(DatabaseError, match="the job was not added"):
            await enqueue(connection, "app_jobs", NewJob("x", payload="no json"), tracing=Tracing(spans.provider))
        assert await connection.fetchval("select 1") == 1
    (span,) = spans.exporter.get_finished_spans()
    assert span.status.description == "DatabaseError"


async def test_jobs_of_one_batch_keep_their_own_traces(jobs: Jobs, spans: Spans, start_path: StartPath) -> None:
    """Reports that travel together are settled each in its own trace."""
    ready, go = asyncio.Event(), asyncio.Event()
    running = 0

    @task("together")
    async def together(payload: dict[str, Any]) -> None:
        nonlocal running
        running += 1
        if running == 8:
            ready.set()
        await go.wait()

    await start_path(together)
    added = [await jobs.add("together") for _ in range(8)]
    await ready.wait()
    go.set()
    await jobs.until_gone(*added)

    async def ended_all() -> bool:  # a report's span ends after its settlement's, with the answer
        names = [span.name for span in spans.exporter.get_finished_spans()]
        return min(names.count("settle"), names.count("report")) >= 8

    await eventually(ended_all)
    ended = spans.exporter.get_finished_spans()
    reports = {span.context.span_id: span for span in ended if span.name == "report" and span.context is not None}
    settlements = [span for span in ended if span.name == "settle"]
    assert len({span.context.trace_id for span in settlements if span.context is not None}) == 8
    for span in settlements:
        assert span.parent is not None
        report = reports[span.parent.span_id]
        assert (report.attributes or {})["jobfn.job"] == (span.attributes or {})["jobfn.job"]
