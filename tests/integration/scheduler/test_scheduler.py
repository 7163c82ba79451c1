"""The scheduler as a part of the service: notifications, restarts, and errors at the start."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from jobfn.errors import SchemaError
from jobfn.service import run_service
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.jobs import Jobs
from support.network import eventually
from support.schedules import Schedules

#: Added then, it is due at once, and then not before the next year.
EVERY_YEAR = {"rule": "0 0 1 1 *"}
LONG_AGO = datetime(2020, 6, 1, tzinfo=UTC)


@contextlib.asynccontextmanager
async def running_service(dsn: str, *only: ServiceRole, **settings: object) -> AsyncIterator["asyncio.Task[None]"]:
    """Run a service, without polling by interval, until the block ends."""
    stop, started = asyncio.Event(), asyncio.Event()
    values = {"database_url": dsn, "scheduler_id": "scheduler-a", "poll_interval_seconds": 3600.0} | settings
    service = asyncio.create_task(
        run_service(ServiceSettings.from_environ({}, **values), stop, roles=only, on_ready=started.set)
    )
    starting = asyncio.create_task(started.wait())
    await asyncio.wait({service, starting}, return_when=asyncio.FIRST_COMPLETED)
    starting.cancel()
    if service.done():
        service.result()
    try:
        yield service
    finally:
        stop.set()
        await service


async def until_listening(connection: "asyncpg.Connection[Any]") -> None:
    """Wait until the scheduler receives notifications."""
    listeners = (
        "select count(*) from pg_stat_activity"
        " where datname = current_database() and application_name = 'jobfn-listener'"
    )
    await eventually(lambda: connection.fetchval(listeners))


async def test_changed_schedules_take_effect_without_a_poll(schedules: Schedules, database: str) -> None:
    await schedules.complete_jobs_immediately()
    async with running_service(database, ServiceRole.SCHEDULER):
        await until_listening(schedules.connection)
        schedule = await schedules.add(EVERY_YEAR, added_at=LONG_AGO)
        await eventually(schedules.completed_jobs)
        await schedules.update(schedule, schedule_info='{"rule": "0 0 1 7 *"}')

        async def is_planned_for_july() -> bool:
            due_at = (await schedules.row(schedule))["due_at"]
            return due_at is not None and due_at.month == 7

        await eventually(is_planned_for_july)
        await schedules.connection.execute("delete from app_jobs.scheduled_jobs")
        await schedules.add(EVERY_YEAR, task_identifier="other", added_at=LONG_AGO)
        await eventually(lambda: schedules.completed_jobs("other"))
        assert await schedules.completed_jobs() == 1


async def test_database_restart_is_survived() -> None:
    postgres = EmbeddedPostgres()
    postgres.start()
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await migrate(connection, "app_jobs")
        schedules = Schedules(connection)
        await schedules.complete_jobs_immediately()
        async with running_service(postgres.dsn(), ServiceRole.SCHEDULER):
            await until_listening(connection)
            await connection.close()
            await asyncio.to_thread(postgres.restart)
            connection = await asyncpg.connect(postgres.dsn())
            schedules = Schedules(connection)
            await until_listening(connection)
            await schedules.add(EVERY_YEAR, added_at=LONG_AGO)
            await eventually(schedules.completed_jobs, seconds=20)
        await connection.close()
    finally:
        postgres.stop()


async def test_error_on_an_outdated_schema_names_the_command(empty_database: str) -> None:
    with pytest.raises(SchemaError, match="jobfn db migrate"):
        async with running_service(empty_database, ServiceRole.SCHEDULER):
            pass
    connection = await asyncpg.connect(empty_database)
    await migrate(connection, "app_jobs")
    await connection.execute("alter function app_jobs.advance_schedule rename to not_there_yet")
    await connection.close()
    with pytest.raises(SchemaError, match="jobfn db migrate"):
        async with running_service(empty_database, ServiceRole.SCHEDULER):
            pass


@pytest.mark.parametrize("only", [[ServiceRole.WORKER], [ServiceRole.CALLBACKS], [ServiceRole.SCHEDULER], []])
async def test_service_roles_stop_without_locks_and_connections(
    only: list[ServiceRole], database: str, jobs: Jobs
) -> None:
    urls = {"gateway_url": "http://127.0.0.1:9", "own_callback_url": "http://127.0.0.1:9/callback"}
    async with running_service(database, *only, callback_port=0, **urls) as service:
        assert not service.done()
        job = await jobs.add("unreachable")
        if not only or ServiceRole.WORKER in only:
            await jobs.until_failed(job)
    row = await jobs.row(job)
    assert row["locked_by"] is None
    closed = "select count(*) = 0 from pg_stat_activity where application_name like 'jobfn-%' and datname = $1"
    name = await jobs.connection.fetchval("select current_database()")
    await eventually(lambda: jobs.connection.fetchval(closed, name))
