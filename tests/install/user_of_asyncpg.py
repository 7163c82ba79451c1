# pyright: strict
"""Code of a user of asyncpg. A test checks it with mypy and pyright; it never runs."""

from typing import Any, assert_type

import asyncpg

from jobfn import enqueue, task
from jobfn.client import EnqueuedJob


@task("mail")
async def mail(payload: dict[str, str]) -> int:
    return len(payload)


async def add_with_a_connection(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        assert_type(await enqueue(connection, "mail", {"to": "ada"}), EnqueuedJob[Any])
        assert_type(await mail.enqueue(connection, {"to": "ada"}), EnqueuedJob[int])
    finally:
        await connection.close()


async def add_with_a_pool(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    await mail.enqueue(pool, {"to": "ada"})
    async with pool.acquire() as connection, connection.transaction():
        row = await connection.fetchrow("select 1 as one")
        assert_type(row, asyncpg.Record | None)
        await mail.enqueue(connection, {"to": "ada"})
        await mail.enqueue(connection, {"to": 1})  # type: ignore[dict-item]
        await connection.fetchrow(7)  # type: ignore[call-overload]
