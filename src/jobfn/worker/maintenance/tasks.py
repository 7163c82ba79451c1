"""Create the maintenance tasks of a service, on jobfn's own schema."""

import asyncio
import importlib.metadata
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import asyncpg

from jobfn.database.history import History
from jobfn.database.job_retention import JobRetention
from jobfn.database.limits import Limits
from jobfn.database.native_store import NativeJobStore
from jobfn.database.store import JobStore
from jobfn.database.vacuum_table import JobsTable
from jobfn.database.worker_registry import WorkerProcess, WorkerRegistry
from jobfn.telemetry import logs
from jobfn.worker.listen_url import listen_url
from jobfn.worker.maintenance.heartbeat import WorkerHeartbeat
from jobfn.worker.maintenance.job_pruner import JobPruner
from jobfn.worker.maintenance.limits import LimitSweeper
from jobfn.worker.maintenance.pruner import HistoryPruner
from jobfn.worker.maintenance.unique_pruner import UniqueJobsPruner
from jobfn.worker.maintenance.vacuum import Vacuumer
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.worker import Worker

#: Runs until the event is set, then shuts down.
MaintenanceTask = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


async def maintenance_tasks(
    settings: ServiceSettings,
    roles: frozenset[ServiceRole],
    *,
    connections: "asyncpg.Pool[Any]",
    store: JobStore,
    metrics: WorkerMetrics,
    worker: Worker | None,
) -> list[MaintenanceTask]:
    """Start the maintenance of a service with these roles. The platform's schema has no tables for it: no tasks."""
    if not isinstance(store, NativeJobStore):
        logs.get_logger("jobfn.service").info(
            "platform schema: no history of attempts, no list of workers and no retention of ended jobs",
            schema=settings.schema_name,
        )
        return []
    process = WorkerProcess(
        worker_id=settings.scheduler_id if roles == {ServiceRole.SCHEDULER} else settings.worker_id,
        host=socket.gethostname(),
        pid=os.getpid(),
        version=importlib.metadata.version("jobfn"),
        roles=[role.value for role in ServiceRole if role in roles],
        concurrency=settings.concurrency if worker is not None else 0,
        tasks=settings.tasks,
        queues=settings.queue_names,
        max_in_flight_bytes=settings.max_in_flight_bytes,
    )
    registry = WorkerRegistry(connections, settings.schema_name)
    heartbeat = WorkerHeartbeat(registry, process, in_flight=lambda: worker.in_flight if worker is not None else 0)
    await heartbeat.start()
    tasks: list[MaintenanceTask] = [heartbeat.run]
    if worker is not None:
        pruner = HistoryPruner(History(connections, settings.schema_name), days=settings.history_days)
        await pruner.start()
        tasks.append(pruner.run)
        job_pruner = JobPruner(
            JobRetention(connections, settings.schema_name),
            failed_days=settings.failed_days,
            completed_days=settings.completed_payload_days,
            metrics=metrics,
        )
        tasks += [job_pruner.run, UniqueJobsPruner(connections, settings.schema_name).run]
        tasks.append(LimitSweeper(Limits(connections, settings.schema_name)).run)
    if settings.vacuum and roles & {ServiceRole.WORKER, ServiceRole.CALLBACKS}:
        table = JobsTable(connections, settings.schema_name, dsn=listen_url(settings))
        tasks.append(Vacuumer(table, settlements=lambda: metrics.settlements).run)
    return tasks
