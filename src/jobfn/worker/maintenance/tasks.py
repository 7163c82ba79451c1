"""What a service runs beside jobs, on jobfn's own schema: that it is there, history swept, the table vacuumed."""

import asyncio
import importlib.metadata
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from jobfn.database.jobs import JobStore, NativeJobStore
from jobfn.database.vacuum_table import JobsTable
from jobfn.database.worker_registry import History, Process, Processes
from jobfn.telemetry import logs
from jobfn.worker.maintenance.heartbeat import HistoryPruner, WorkerHeartbeat
from jobfn.worker.maintenance.vacuum import Vacuumer
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.worker import Worker

#: A part that runs until the event is set, and then winds down.
Role = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def maintenance_tasks(
    settings: ServiceSettings,
    parts: frozenset[ServiceRole],
    *,
    connections: "asyncpg.Pool[Any]",
    store: JobStore,
    measures: WorkerMetrics,
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
    if not isinstance(store, NativeJobStore):
        logs.get_logger("jobfn.service").info(
            "the schema is the platform's own: no history of attempts, no list of workers", schema=settings.schema_name
        )
        return []
    process = Process(
        worker_id=settings.scheduler_id if set(parts) == {ServiceRole.SCHEDULER} else settings.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=importlib.metadata.version("jobfn"),
        parts=[part.value for part in ServiceRole if part in parts],
        concurrency=settings.concurrency if worker is not None else 0,
    )
    processes = Processes(connections, settings.schema_name)
    presence = WorkerHeartbeat(processes, process, in_flight=lambda: worker.in_flight if worker is not None else 0)
    await presence.begin()
    roles: list[Role] = [presence.run]
    if worker is not None:
        sweeper = HistoryPruner(History(connections, settings.schema_name), days=settings.history_days)
        await sweeper.begin()
        roles.append(sweeper.run)
    if settings.vacuum and parts & {ServiceRole.WORKER, ServiceRole.CALLBACKS}:
        table = JobsTable(connections, settings.schema_name, dsn=settings.database_url)
        roles.append(Vacuumer(table, settled=lambda: measures.settled).run)
    return roles
