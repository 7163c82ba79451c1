"""Traces, metrics and log lines of durable functions."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from jobfn import JobContext, task
from jobfn.errors import StepFailed
from support.jobs import Jobs
from support.network import eventually
from support.observability import Deploy, LogLines, Spans, value

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def charge(order: int) -> int:
    return order


async def declined(order: int) -> None:
    raise ValueError("s3cret")


@task("label")
async def label(item: int) -> None: ...


@task("fulfil")
async def fulfil(order: int, ctx: JobContext) -> None:
    await ctx.step("charge", charge, order)
    await ctx.sleep(0.01)
    with pytest.raises(StepFailed):
        await ctx.step("charge", declined, order)
    await ctx.gather(ctx.call(label, 1), ctx.call(label, 2))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_steps_are_spans_and_waits_are_events(jobs: Jobs, spans: Spans, deploy: Deploy) -> None:
    await deploy(fulfil, label)
    await jobs.connection.execute(
        "select set_config('jobfn.traceparent', $1, false)", f"00-{TRACE}-00f067aa0ba902b7-01"
    )
    await jobs.until_gone(await jobs.add("fulfil", 7))

    async def runs() -> list[ReadableSpan]:
        ended = [span for span in spans.exporter.get_finished_spans() if span.name == "run fulfil"]
        return ended if len(ended) == 3 else []

    first, second, third = sorted(await eventually(runs), key=lambda span: span.start_time or 0)
    steps = [span for span in spans.exporter.get_finished_spans() if span.name == "step charge"]
    assert [attributes(step) for step in sorted(steps, key=lambda span: span.start_time or 0)] == [
        {"jobfn.step": "charge", "jobfn.attempt": 1, "jobfn.recorded": False},
        {"jobfn.step": "charge", "jobfn.attempt": 2, "jobfn.recorded": True},
        {"jobfn.step": "charge#2", "jobfn.attempt": 2, "jobfn.recorded": False},
        {"jobfn.step": "charge", "jobfn.attempt": 3, "jobfn.recorded": True},
        {"jobfn.step": "charge#2", "jobfn.attempt": 3, "jobfn.recorded": True},
    ]
    parents = {span.context.span_id for span in (first, second, third) if span.context}
    assert {step.parent.span_id for step in steps if step.parent} == parents
    assert [step.status.description for step in steps if attributes(step)["jobfn.step"] == "charge#2"] == [
        "StepFailed",
        "PermanentStepFailure",
    ]
    events = [(event.name, dict(event.attributes or {})) for span in (first, second, third) for event in span.events]
    assert events == [
        ("sleep", {"jobfn.step": "sleep", "jobfn.state": "waiting", "jobfn.attempt": 1}),
        ("sleep", {"jobfn.step": "sleep", "jobfn.state": "completed", "jobfn.attempt": 2}),
        ("call", {"jobfn.step": "call:label", "jobfn.children": 2, "jobfn.waiting": 2, "jobfn.attempt": 2}),
        ("sleep", {"jobfn.step": "sleep", "jobfn.state": "completed", "jobfn.attempt": 3}),
        ("call", {"jobfn.step": "call:label", "jobfn.children": 2, "jobfn.waiting": 0, "jobfn.attempt": 3}),
    ]
    ended = await spans.until("run label")
    assert {f"{span.context.trace_id:032x}" for span in ended.values() if span.context} == {TRACE}
    assert "s3cret" not in "".join(span.to_json() for span in spans.exporter.get_finished_spans())


async def test_steps_and_parks_are_counted_by_task(jobs: Jobs, deploy: Deploy, lines: LogLines) -> None:
    deployment = await deploy(fulfil, label)
    await jobs.until_gone(await jobs.add("fulfil", 7))
    function, service = await deployment.function_metrics(), await deployment.service_metrics()
    assert value(function, "jobfn_function_steps_total", task="fulfil", result="executed") == 2
    assert value(function, "jobfn_function_steps_total", task="fulfil", result="replayed") == 3
    assert value(function, "jobfn_function_jobs_total", task="fulfil", outcome="parked") == 2
    assert value(function, "jobfn_function_jobs_total", task="fulfil", outcome="succeeded") == 1
    assert value(service, "jobfn_jobs_total", task="fulfil", outcome="parked") == 2
    events = [line["event"] for line in lines.all() if line.get("task") == "fulfil"]
    assert [event for event in events if event.startswith("job ")] == ["job parked", "job parked", "job done"]
