# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Types of the public API. `make lint` checks this file with mypy and pyright; it never runs."""

from collections.abc import Coroutine
from typing import Any, assert_type
from uuid import UUID

from structlog.typing import FilteringBoundLogger

from jobfn import FunctionApp, FunctionSettings, JobContext, Requirement, Task, create_app, task
from jobfn.payloads import Meta, RowChange, RowId


@task("async")
async def asynchronous(payload: RowId, ctx: JobContext) -> dict[str, bool]:
    assert_type(payload.id, str | int)
    assert_type(payload.meta, Meta | None)
    assert_type(ctx.job_id, int | None)
    assert_type(ctx.database_id, UUID | None)
    assert_type(ctx.attempt, int | None)
    assert_type(ctx.organization_id, UUID | None)
    assert_type(ctx.invocation_id, UUID | None)
    assert_type(ctx.execution_id, UUID | None)
    assert_type(ctx.node_name, str | None)
    assert_type(await ctx.agent.embed("text"), dict[str, Any])
    assert_type(ctx.log, FilteringBoundLogger)
    assert_type(ctx.env["HOME"], str)
    return {"charged": True}


@task("sync", timeout=2.5, secrets=["STRIPE_KEY", Requirement("SENTRY_DSN", required=False)], configs=("REGION",))
def synchronous(payload: RowChange[int]) -> int:
    return payload.new - payload.old


first: Task[[RowId, JobContext], Coroutine[Any, Any, dict[str, bool]]] = asynchronous
second: Task[[RowChange[int]], int] = synchronous
wrong: Task[[RowId], int] = synchronous  # type: ignore[assignment]
assert_type(synchronous(RowChange(new=2, old=1)), int)
assert_type(synchronous.identifier, str)
assert_type(synchronous.timeout, float | None)
assert_type(create_app(tasks=[asynchronous, synchronous]), FunctionApp)
assert_type(create_app(tasks=(synchronous,), settings=FunctionSettings(max_threads=2)), FunctionApp)


async def call_tasks() -> None:
    assert_type(await asynchronous(RowId(id=1), JobContext("async")), dict[str, bool])
    await asynchronous(payload=RowId(id="a"), ctx=JobContext("async", job_id=1))
    synchronous("text")  # type: ignore[arg-type]
    await asynchronous(RowId(id=1))  # type: ignore[call-arg]
    create_app(tasks=[call_tasks])  # type: ignore[list-item]
    task(5)  # type: ignore[arg-type]
