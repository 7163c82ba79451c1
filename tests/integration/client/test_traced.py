"""A job that is added within a span is a part of its trace, on every driver."""

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from jobfn import EnqueueError, enqueue, enqueue_many
from support.client import User, settled
from support.jobs import TENANT, Jobs

BEFORE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_a_job_is_a_part_of_the_current_spans_trace(user: User, jobs: Jobs) -> None:
    """One, one of a tenant's, and many at once; what is added afterwards in the same transaction is not."""
    with TracerProvider().get_tracer("the user's").start_as_current_span("order placed") as span:
        one = await settled(enqueue(user.connection, "x", {"a": "100 % :p1 $1"}))
        tenants = await settled(enqueue(user.connection, "x", database_id=TENANT, key="k", queue="q"))
        many = await settled(enqueue_many(user.connection, "x", [1, 2], key=lambda n: f"k{n}"))
    after = await settled(enqueue(user.connection, "x"))
    await settled(user.commit())
    context = span.get_span_context()
    for job in (one, tenants, *many):
        row = await jobs.row(job)
        assert row is not None
        assert row["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    row = await jobs.row(one)
    assert row is not None
    assert row["payload"] == '{"a":"100 % :p1 $1"}'
    row = await jobs.row(after)
    assert row is not None
    assert row["traceparent"] is None


async def test_the_sessions_own_setting_is_left_as_it_was(jobs: Jobs) -> None:
    """What triggers add afterwards is of the trace that the transaction named."""
    connection: Any = jobs.connection
    async with connection.transaction():
        await connection.execute("select set_config('jobfn.traceparent', $1, true)", BEFORE)
        with TracerProvider().get_tracer("the user's").start_as_current_span("order placed"):
            await enqueue(connection, "x")
        after = await jobs.add("x")
    row = await jobs.row(after)
    assert row is not None
    assert row["traceparent"] == BEFORE


async def test_what_is_refused_is_refused_within_a_span_too(jobs: Jobs) -> None:
    """With the same words."""
    with (
        TracerProvider().get_tracer("the user's").start_as_current_span("order placed"),
        pytest.raises(EnqueueError, match="priority"),
    ):
        await enqueue(jobs.connection, "x", priority=2**40)
