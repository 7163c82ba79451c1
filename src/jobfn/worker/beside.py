"""What a service runs beside jobs, on jobfn's own schema: that it is there, history swept, the table vacuumed."""

import asyncio
import importlib.metadata
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from jobfn import logs
from jobfn.database.history import History, Process, Processes
from jobfn.database.jobs import BatchStore, JobStore
from jobfn.database.vacuum import JobsTable
from jobfn.worker.housekeeping import Presence, Sweeper
from jobfn.worker.measures import WorkerMeasures
from jobfn.worker.settings import Part, ServiceSettings
from jobfn.worker.vacuuming import Vacuumer
from jobfn.worker.worker import Worker

#: A part that runs until the event is set, and then winds down.
Role = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def beside_jobs(
    settings: ServiceSettings,
    parts: frozenset[Part],
    *,
    connections: "asyncpg.Pool[Any]",
    store: JobStore,
    measures: WorkerMeasures,
    worker: Worker | None,
) -> list[Role]:
    """What a service with these parts runs; on the platform's schema nothing, as there is no place for it.

    Args:
        settings: How.
        parts: Which parts the service has.
        connections: To the database.
        store: Of which kind the schema is.
        measures: How many jobs were settled.
        worker: The worker, if it is one of the parts.
    """
    if not isinstance(store, BatchStore):
        logs.get_logger("jobfn.service").info(
            "the schema is the platform's own: no history of attempts, no list of workers", schema=settings.schema_name
        )
        return []
    process = Process(
        worker_id=settings.scheduler_id if set(parts) == {Part.SCHEDULER} else settings.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=importlib.metadata.version("jobfn"),
        parts=[part.value for part in Part if part in parts],
        concurrency=settings.concurrency if worker is not None else 0,
    )
    processes = Processes(connections, settings.schema_name)
    presence = Presence(processes, process, in_flight=lambda: worker.in_flight if worker is not None else 0)
    await presence.begin()
    roles: list[Role] = [presence.run]
    if worker is not None:
        sweeper = Sweeper(History(connections, settings.schema_name), days=settings.history_days)
        await sweeper.begin()
        roles.append(sweeper.run)
    if settings.vacuum and parts & {Part.WORKER, Part.CALLBACKS}:
        table = JobsTable(connections, settings.schema_name, dsn=settings.database_url)
        roles.append(Vacuumer(table, settled=lambda: measures.settled).run)
    return roles
