"""A job that is added within a span continues its trace, on every kind of connection."""

from typing import Any

from opentelemetry.sdk.trace import TracerProvider

from jobfn import enqueue, enqueue_many
from support.client import OpenTransaction, maybe_await
from support.jobs import TENANT, Jobs

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def test_jobs_added_in_a_span_continue_its_trace(transaction: OpenTransaction, jobs: Jobs) -> None:
    connection = transaction.connection
    with TracerProvider().get_tracer("user").start_as_current_span("order placed") as span:
        one = await maybe_await(enqueue(connection, "x", {"a": "100 % :p1 $1"}))
        of_tenant = await maybe_await(enqueue(connection, "x", database_id=TENANT, key="k", queue="q"))
        many = await maybe_await(enqueue_many(connection, "x", [1, 2], key=lambda number: f"k{number}"))
    after_span = await maybe_await(enqueue(connection, "x"))
    await transaction.commit()
    context = span.get_span_context()
    for job in (one, of_tenant, *many):
        traceparent = (await jobs.row(job))["traceparent"]
        assert traceparent.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert (await jobs.row(one))["payload"] == '{"a":"100 % :p1 $1"}'
    assert (await jobs.row(after_span))["traceparent"] is None


async def test_trace_of_the_transaction_is_restored(jobs: Jobs) -> None:
    connection: Any = jobs.connection
    async with connection.transaction():
        await connection.execute("select set_config('jobfn.traceparent', $1, true)", TRACEPARENT)
        with TracerProvider().get_tracer("user").start_as_current_span("order placed"):
            await enqueue(connection, "x")
        after_span = await jobs.add("x")
    assert (await jobs.row(after_span))["traceparent"] == TRACEPARENT
