"""Create the maintenance tasks of a service, on jobfn's own schema."""

import asyncio
import importlib.metadata
import os
import socket
from collections.abc import Callable, Coroutine
from dataclasses import replace
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
from jobfn.worker.maintenance.heartbeat import HEARTBEAT_INTERVAL_SECONDS, WorkerHeartbeat
from jobfn.worker.maintenance.job_pruner import JobPruner
from jobfn.worker.maintenance.limits import SWEEP_INTERVAL_SECONDS, LimitSweeper
from jobfn.worker.maintenance.periodic import PRUNE_INTERVAL_SECONDS
from jobfn.worker.maintenance.pruner import HistoryPruner
from jobfn.worker.maintenance.unique_pruner import UniqueJobsPruner
from jobfn.worker.maintenance.vacuum import Vacuumer, VacuumPlan
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
    interval_factor: float = 1.0,
) -> list[MaintenanceTask]:
    """Start the maintenance of a service with these roles. The platform's schema has no tables for it: no tasks.

    Args:
        settings: The settings.
        roles: The roles.
        connections: Connections to the database.
        store: The jobs.
        metrics: The metrics of the service.
        worker: The worker, if the roles include one.
        interval_factor: Factor of the intervals; half of it applies to heartbeats, which show what is in flight.
    """
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
    heartbeat = WorkerHeartbeat(
        registry,
        process,
        in_flight=lambda: worker.in_flight if worker is not None else 0,
        interval_seconds=HEARTBEAT_INTERVAL_SECONDS * max(1.0, interval_factor / 2),
    )
    await heartbeat.start()
    tasks: list[MaintenanceTask] = [heartbeat.run]
    if worker is not None:
        prune_interval_seconds = PRUNE_INTERVAL_SECONDS * interval_factor
        pruner = HistoryPruner(
            History(connections, settings.schema_name),
            days=settings.history_days,
            interval_seconds=prune_interval_seconds,
        )
        await pruner.start()
        tasks.append(pruner.run)
        job_pruner = JobPruner(
            JobRetention(connections, settings.schema_name),
            failed_days=settings.failed_days,
            completed_days=settings.completed_payload_days,
            metrics=metrics,
            interval_seconds=prune_interval_seconds,
        )
        unique_pruner = UniqueJobsPruner(connections, settings.schema_name, interval_seconds=prune_interval_seconds)
        sweeper = LimitSweeper(
            Limits(connections, settings.schema_name), interval_seconds=SWEEP_INTERVAL_SECONDS * interval_factor
        )
        tasks += [job_pruner.run, unique_pruner.run, sweeper.run]
    if settings.vacuum and roles & {ServiceRole.WORKER, ServiceRole.CALLBACKS}:
        table = JobsTable(connections, settings.schema_name, dsn=listen_url(settings))
        plan = VacuumPlan()
        plan = replace(plan, poll_interval_seconds=plan.poll_interval_seconds * interval_factor)
        tasks.append(Vacuumer(table, settlements=lambda: metrics.settlements, plan=plan).run)
    return tasks
