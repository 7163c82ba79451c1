# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""Types of enqueueing, results and resources. `make lint` checks this file with mypy and pyright; it never runs."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, assert_type

import psycopg
from pydantic import BaseModel
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
from sqlalchemy.orm import Session

from jobfn import JobContext, JobOptions, JobResult, Resource, create_app, enqueue, enqueue_many, task
from jobfn.client import EnqueuedJob, EnqueuedJobs, SyncEnqueuedJob


class Invoice(BaseModel):
    id: int


class Receipt(BaseModel):
    number: int


async def pool() -> AsyncIterator[int]:
    yield 1


@task("process_invoice", keep_result=True)
async def process_invoice(
    payload: Invoice, ctx: JobContext, db: Annotated[int, Resource(pool, scope="job")]
) -> Receipt:
    return Receipt(number=payload.id + db)


@task("add")
def add(payload: list[int]) -> int:
    return sum(payload)


@task("tidy")
async def tidy(payload: None) -> None:
    return


async def on_async_connections(
    psycopg_: "psycopg.AsyncConnection[Any]", alchemy: AsyncConnection, session: AsyncSession
) -> None:
    job = await process_invoice.enqueue(psycopg_, Invoice(id=1), key="invoice-1")
    assert_type(job, EnqueuedJob[Receipt])
    assert_type(await job.result(timeout=5), JobResult[Receipt])
    assert_type((await job.result()).value, Receipt)
    assert_type(await add.enqueue(alchemy, [1]), EnqueuedJob[int])
    assert_type(await tidy.enqueue(session, None), EnqueuedJob[None])
    many = await process_invoice.enqueue_many(session, [Invoice(id=1)], key=lambda each: str(each.id))
    assert_type(many, EnqueuedJobs)
    assert_type(many.are_duplicates, list[bool])
    assert_type((await enqueue(alchemy, "elsewhere", unique="until_done")).is_duplicate, bool)
    assert_type(await enqueue(alchemy, "elsewhere", {"id": 1}), EnqueuedJob[Any])
    assert_type(await enqueue_many(alchemy, "elsewhere", [{}]), EnqueuedJobs)
    await process_invoice.enqueue(psycopg_, {"id": 1})  # type: ignore[call-overload]
    await add.enqueue(alchemy, ["1"])  # type: ignore[list-item]
    await tidy.enqueue(alchemy, 5)  # type: ignore[call-overload]


def on_sync_connections(psycopg_: "psycopg.Connection[Any]", alchemy: Connection, session: Session) -> None:
    job = process_invoice.enqueue(psycopg_, Invoice(id=1))
    assert_type(job, SyncEnqueuedJob[Receipt])
    assert_type(job.result(timeout=5).value, Receipt)
    assert_type(add.enqueue(alchemy, [1]), SyncEnqueuedJob[int])
    assert_type(add.enqueue_many(session, [[1], [2]]), EnqueuedJobs)
    assert_type(enqueue(session, "elsewhere"), SyncEnqueuedJob[Any])
    add.enqueue(session, Invoice(id=1))  # type: ignore[call-overload]
    options: JobOptions = {"key": "sum", "max_attempts": 3}
    add.enqueue(session, [1], **options)
    add.enqueue(session, [1], priority="high")  # type: ignore[call-overload]
    add.enqueue(session, [1], delay=5)  # type: ignore[call-overload]
    add.enqueue_many(session, [[1]], key="sum")  # type: ignore[call-overload]
    enqueue(session, "elsewhere", run_at="tomorrow")  # type: ignore[call-overload]
    add.enqueue("postgresql://localhost", [1])  # type: ignore[call-overload]


create_app(tasks=[process_invoice], resources={"db": pool, "other": Resource(pool)})
