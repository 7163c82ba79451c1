"""Why a job waits: the reasons in the order in which they block."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from jobfn.operations.statements import Database

if TYPE_CHECKING:
    import asyncpg


@dataclass(frozen=True, slots=True)
class WaitReason:
    """A reason why a job does not run.

    Attributes:
        code: What blocks it, for programs: ``not_due``, ``queue_locked`` and so on. ``ready``: nothing does.
            ``running``: it does not wait.
        text: The reason in one line.
        since: Since when, if it is known.
        until: Until when, if it is known.
        job_ids: The jobs that it waits for, at most ten.
    """

    code: str
    text: str
    since: datetime | None = None
    until: datetime | None = None
    job_ids: tuple[int, ...] = ()


async def explain_wait(database: Database, job_id: int) -> tuple[WaitReason, ...]:
    """See ``Operations.explain_wait``."""
    if not 0 < job_id < 2**63:
        return ()
    async with database.transaction() as connection:
        return await read_wait_reasons(connection, database, job_id)


async def read_wait_reasons(
    connection: "asyncpg.Connection[asyncpg.Record]", database: Database, job_id: int
) -> tuple[WaitReason, ...]:
    """Return the reasons of a job; empty if it has no row."""
    name = "explain_platform_wait" if database.capabilities.is_platform else "explain_wait"
    rows: Sequence[asyncpg.Record] = await connection.fetch(database.statement(name), job_id)
    return tuple(
        WaitReason(row["code"], row["reason"], row["since"], row["until"], tuple(row["job_ids"] or ())) for row in rows
    )
