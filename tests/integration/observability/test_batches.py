"""Spans, metrics and log lines of jobs that share a request, or a slot of a worker that runs tasks itself."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan

from jobfn import FunctionSettings, JobContext, create_app, task
from jobfn.in_process import local_settings, local_tasks
from jobfn.telemetry.tracing import Tracing
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.batch_function import RecordingProxy
from support.function_app import AsgiRequest
from support.jobs import TENANT, WORKER, Jobs
from support.network import LOOPBACK, eventually
from support.observability import Deploy, LogLines, Samples, Spans
from support.service import start_in_loop

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class QuickTask:
    """A task that logs, and records for each job the asyncio task that ran it.

    Attributes:
        total: Number of jobs that were added.
    """

    def __init__(self) -> None:
        self.total = 0
        self.ran: dict[int, object] = {}
        self.blocked, self.gate = asyncio.Event(), asyncio.Event()

        @task("quick")
        async def quick(payload: str, ctx: JobContext) -> None:
            assert ctx.job_id is not None
            self.ran[ctx.job_id] = asyncio.current_task()
            structlog.get_logger().info("handler", expected=ctx.job_id)
            if payload == "block":
                self.blocked.set()
                await self.gate.wait()

        self.task = quick

    async def add(self, jobs: Jobs, *payloads: str) -> list[int]:
        """Add jobs of ``TENANT`` in one statement."""
        self.total += len(payloads)
        statement = """
            select (app_jobs.add_job($1::uuid, 'quick', to_json(payload))).id
            from unnest($2::text[]) with ordinality as given (payload, position) order by position
        """
        return [row["id"] for row in await jobs.connection.fetch(statement, TENANT, payloads)]

    async def run_together(self, jobs: Jobs) -> list[int]:
        """Run two jobs or more that share a request, after others if the worker must see first that they are quick."""
        async with asyncio.timeout(60):
            while True:
                ids = await self.add(jobs, *["x"] * 6)
                await jobs.until_gone()
                by_task: dict[object, list[int]] = {}
                for job in ids:
                    by_task.setdefault(self.ran[job], []).append(job)
                largest = max(by_task.values(), key=len)
                if len(largest) > 1:
                    return largest


@pytest.fixture
async def quick() -> QuickTask:
    return QuickTask()


def by_name_and_job(spans: Spans) -> dict[tuple[str, object], list[ReadableSpan]]:
    """Return the spans that ended."""
    grouped: dict[tuple[str, object], list[ReadableSpan]] = {}
    for span in spans.exporter.get_finished_spans():
        grouped.setdefault((span.name, (span.attributes or {}).get("jobfn.job")), []).append(span)
    return grouped


def is_child(child: ReadableSpan, parent: ReadableSpan) -> bool:
    link, context = child.parent, parent.context
    return bool(link and context and (link.trace_id, link.span_id) == (context.trace_id, context.span_id))


async def until_ended(spans: Spans, name: str, ids: list[int]) -> dict[tuple[str, object], list[ReadableSpan]]:
    """Wait until these jobs have such a span, and return all."""

    async def ended() -> dict[tuple[str, object], list[ReadableSpan]]:
        grouped = by_name_and_job(spans)
        return grouped if all((name, job) in grouped for job in ids) else {}

    return await eventually(ended)


def trace_ids(grouped: dict[tuple[str, object], list[ReadableSpan]], ids: list[int]) -> set[int]:
    contexts = [grouped["deliver quick", job][0].context for job in ids]
    return {context.trace_id for context in contexts if context is not None}


async def test_each_job_has_its_own_trace(jobs: Jobs, spans: Spans, deploy: Deploy, quick: QuickTask) -> None:
    await deploy(quick.task, proxy=RecordingProxy())
    ids = await quick.run_together(jobs)
    grouped = await until_ended(spans, "deliver quick", ids)
    for job in ids:
        [delivery], [received], [ran] = (grouped[f"{name} quick", job] for name in ("deliver", "receive", "run"))
        assert is_child(received, delivery)
        assert is_child(ran, received)
        assert delivery.parent is None
        for span in (delivery, received, ran):
            assert dict(span.attributes or {}) == {
                "jobfn.task": "quick",
                "jobfn.job": job,
                "jobfn.attempt": 1,
                "jobfn.worker": WORKER,
                "jobfn.tenant": TENANT,
            }
            assert span.status.status_code.name == "UNSET"
    assert len(trace_ids(grouped, ids)) == len(ids)


async def test_trace_of_the_enqueuer_is_continued(jobs: Jobs, spans: Spans, deploy: Deploy, quick: QuickTask) -> None:
    await deploy(quick.task, proxy=RecordingProxy())
    await quick.run_together(jobs)
    await jobs.connection.execute("select set_config('jobfn.traceparent', $1, false)", PARENT)
    ids = await quick.run_together(jobs)
    grouped = await until_ended(spans, "deliver quick", ids)
    assert trace_ids(grouped, ids) == {int(TRACE, 16)}
    for job in ids:
        assert is_child(grouped["receive quick", job][0], grouped["deliver quick", job][0])


async def test_failure_and_return_are_the_status_of_the_job_s_delivery(
    jobs: Jobs, spans: Spans, deploy: Deploy, quick: QuickTask
) -> None:
    await deploy(quick.task, proxy=RecordingProxy())
    await quick.run_together(jobs)
    ids = await quick.add(jobs, "x", "block", "x")
    await jobs.until_gone(ids[0], ids[2])
    quick.gate.set()
    await jobs.until_gone()
    grouped = await until_ended(spans, "deliver quick", ids)
    statuses = [[span.status.description for span in grouped["deliver quick", job]] for job in ids]
    assert statuses == [[None], [None], ["not_started", None]]
    assert [len(grouped["receive quick", job]) for job in ids] == [1, 1, 1]


async def test_report_after_a_disconnect_is_in_the_trace_of_its_job(spans: Spans, quick: QuickTask) -> None:
    app = create_app(
        tasks=[quick.task],
        settings=FunctionSettings(report_timeout_seconds=0.1),
        tracer_provider=spans.provider,
    )
    body = b'{"X-Job-Id": "1", "X-Job-Attempt": "1"}\n"x"\n{"X-Job-Id": "2", "X-Job-Attempt": "1"}\n"x"\n'
    request = AsgiRequest([{"type": "http.request", "body": body}, {"type": "http.disconnect"}])
    headers = {
        "Content-Type": "application/x-ndjson",
        "X-Worker-Id": WORKER,
        "X-Settle-On": "response",
        "X-Callback-Url": f"http://{LOOPBACK}:1/callback",
    }
    async with app.lifespan_context():
        await app(request.scope("/quick/batch", headers), request.receive, request.send)
    grouped = await until_ended(spans, "report", [1, 2])
    for job in (1, 2):
        assert is_child(grouped["report", job][0], grouped["receive quick", job][0])


def value(samples: Samples, name: str, **labels: str) -> float:
    """Return a sample by its labels; 0 if there is none."""
    return samples.get((name, tuple(sorted(labels.items()))), 0.0)


async def test_every_job_is_counted_once_on_both_sides(jobs: Jobs, deploy: Deploy, quick: QuickTask) -> None:
    deployment = await deploy(quick.task, proxy=RecordingProxy())
    await quick.run_together(jobs)
    ids = await quick.add(jobs, "x", "block", "x")
    await jobs.until_gone(ids[0], ids[2])
    service, function = await deployment.service_metrics(), await deployment.function_metrics()
    assert value(service, "jobfn_in_flight") == 1
    assert value(function, "jobfn_function_in_flight", task="quick") == 1
    quick.gate.set()
    await jobs.until_gone()

    async def is_idle() -> Samples:
        samples = await deployment.service_metrics()
        return samples if value(samples, "jobfn_in_flight") == 0 else {}

    service, function = await eventually(is_idle), await deployment.function_metrics()
    assert value(service, "jobfn_jobs_total", task="quick", outcome="completed") == quick.total
    assert value(service, "jobfn_deliveries_total", task="quick", result="succeeded") == quick.total
    assert value(service, "jobfn_deliveries_total", task="quick", result="not_started") >= 1, "more on a slow machine"
    assert value(service, "jobfn_job_queue_latency_seconds_count", task="quick") == quick.total
    assert value(service, "jobfn_reports_total", result="settled") == 0
    assert value(function, "jobfn_function_jobs_total", task="quick", outcome="succeeded") == quick.total
    assert value(function, "jobfn_function_duration_seconds_count", task="quick") == quick.total
    assert value(function, "jobfn_function_in_flight", task="quick") == 0


async def test_every_line_has_the_ids_of_its_job(jobs: Jobs, lines: LogLines, deploy: Deploy, quick: QuickTask) -> None:
    await deploy(quick.task, proxy=RecordingProxy())
    ids = await quick.run_together(jobs)
    await lines.until("job done", times=quick.total)
    for event in ("handler", "job done"):
        of_batch = [line for line in lines.all() if line["event"] == event and line["job"] in ids]
        assert sorted(line["job"] for line in of_batch) == ids
        assert {(line["task"], line["attempt"], line["worker"], line["tenant"]) for line in of_batch} == {
            ("quick", 1, WORKER, TENANT)
        }
    handler_lines = [line for line in lines.all() if line["event"] == "handler"]
    assert [line["job"] for line in handler_lines] == [line["expected"] for line in handler_lines]
    traces = {line["trace_id"] for line in handler_lines if line["job"] in ids}
    assert len(traces) == len(ids)


# Tasks in the worker's process.


@pytest.fixture
async def local(database: str, spans: Spans, quick: QuickTask) -> AsyncIterator[None]:
    """Run a worker with the task."""
    app = create_app(tasks=[quick.task], tracer_provider=spans.provider)
    settings = ServiceSettings.from_environ({}, database_url=database, worker_id=WORKER)
    async with contextlib.AsyncExitStack() as stack:
        await start_in_loop(
            stack,
            local_settings(settings, app),
            roles=[ServiceRole.WORKER],
            deliverer_factory=functools.partial(local_tasks, app),
            tracing=Tracing(spans.provider),
        )
        yield


@pytest.mark.usefixtures("local")
async def test_local_job_has_its_own_trace(jobs: Jobs, spans: Spans, quick: QuickTask) -> None:
    ids = await quick.run_together(jobs)
    grouped = await until_ended(spans, "deliver quick", ids)
    for job in ids:
        [delivery], [ran] = (grouped[f"{name} quick", job] for name in ("deliver", "run"))
        assert is_child(ran, delivery)
        assert delivery.parent is None
    assert len(trace_ids(grouped, ids)) == len(ids)
    await jobs.connection.execute("select set_config('jobfn.traceparent', $1, false)", PARENT)
    traced = await quick.run_together(jobs)
    assert trace_ids(await until_ended(spans, "deliver quick", traced), traced) == {int(TRACE, 16)}


@pytest.mark.usefixtures("local")
async def test_every_line_of_a_local_job_has_its_ids(jobs: Jobs, lines: LogLines, quick: QuickTask) -> None:
    ids = await quick.run_together(jobs)
    await lines.until("handler", times=quick.total)
    handler_lines = [line for line in lines.all() if line["event"] == "handler"]
    assert [line["job"] for line in handler_lines] == [line["expected"] for line in handler_lines]
    assert len({line["trace_id"] for line in handler_lines if line["job"] in ids}) == len(ids)
