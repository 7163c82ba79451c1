"""Run, pause, resume and remove a schedule, by its id, its key or its task."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from jobfn.database.schedules import ScheduleRow, ScheduleTable
from jobfn.errors import DatabaseError
from jobfn.operations.statements import Database

T = TypeVar("T")


async def run_schedule(database: Database, name: str) -> int:
    """See ``Operations.run_schedule``."""
    row, job_id = await _apply(database, name, lambda table, schedule_id: table.run(schedule_id))
    if job_id is None:
        raise DatabaseError(f"schedule {row.id} has just been removed: no job was enqueued")
    return job_id


async def pause_schedule(
    database: Database, name: str, reason: str | None, *, seconds: float | None, until: datetime | None
) -> ScheduleRow:
    """See ``Operations.pause_schedule``."""
    row, _ = await _apply(
        database, name, lambda table, schedule_id: table.pause(schedule_id, reason, seconds=seconds, until=until)
    )
    return row


async def resume_schedule(database: Database, name: str) -> ScheduleRow:
    """See ``Operations.resume_schedule``."""
    row, _ = await _apply(database, name, lambda table, schedule_id: table.resume(schedule_id))
    row.require_pause()
    return row


async def remove_schedule(database: Database, name: str) -> ScheduleRow:
    """See ``Operations.remove_schedule``."""
    return (await _apply(database, name, lambda table, schedule_id: table.remove(schedule_id)))[0]


async def _apply(
    database: Database, name: str, action: Callable[[ScheduleTable, int], Awaitable[T]]
) -> tuple[ScheduleRow, T]:
    async with database.transaction() as connection:
        table = ScheduleTable(connection, database.schema)
        row = await table.find(name)
        return row, await action(table, row.id)
