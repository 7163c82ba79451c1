"""Which agenda a database wants: jobfn's own, or the one for a schema of the platform's."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from jobfn.database.due_schedules import DueSchedules, has_due_times
from jobfn.database.platform_due_schedules import PlatformSchedules
from jobfn.scheduler.platform_poller import PlatformSchedulePoller
from jobfn.scheduler.poller import NativeSchedulePoller, SchedulePoller


async def open_poller(
    pool: "asyncpg.Pool[Any]",
    schema: str,
    *,
    scheduler_id: str,
    tasks: Sequence[str] | None = None,
    takeover_seconds: float = 60.0,
    clock: Callable[[], datetime] | None = None,
) -> SchedulePoller:
    """The agenda for the schema that this database carries.

    Args:
        pool: Connections; one at a time is used.
        schema: The jobs schema.
        scheduler_id: Who this scheduler is, 4 characters or more.
        tasks: Only schedules of these; None for all.
        takeover_seconds: How far past its due time a schedule is left to a scheduler that has locked it.
        clock: What time it is; None for the database's own clock, which all schedulers and workers share.

    Raises:
        SchemaError: It carries no schedules, or a schema of jobfn's that is out of date.
    """
    takeover = timedelta(seconds=takeover_seconds)
    if await has_due_times(pool, schema):
        ours = DueSchedules(pool, schema, tasks=tasks, takeover=takeover, clock=clock)
        return NativeSchedulePoller(ours, takeover=takeover, scheduler_id=scheduler_id)
    theirs = PlatformSchedules(pool, schema, scheduler_id=scheduler_id, tasks=tasks, clock=clock)
    return PlatformSchedulePoller(theirs, takeover=takeover, scheduler_id=scheduler_id)
