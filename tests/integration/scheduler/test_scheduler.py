"""The scheduler in real time: it wakes by itself when something is due, and at once when schedules change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime
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

#: So that only a notification, or a due time, can have woken it.
NEVER_POLLS = 3600.0


@contextlib.asynccontextmanager
async def running(dsn: str, *only: ServiceRole, **settings: object) -> AsyncIterator["asyncio.Task[None]"]:
    """A service that runs for as long as the block, and then ends cleanly."""
    stop, started = asyncio.Event(), asyncio.Event()
    values = {"database_url": dsn, "scheduler_id": "scheduler-a", "poll_interval_seconds": NEVER_POLLS} | settings
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


async def listening(connection: "asyncpg.Connection[Any]") -> None:
    """Wait until the scheduler hears notifications."""
    await eventually(
        lambda: connection.fetchval("select count(*) from pg_stat_activity where application_name = 'jobfn-listener'")
    )


async def test_changes_take_effect_at_once(schedules: Schedules, jobs: Jobs, database: str) -> None:
    """Added, changed and removed while it runs, without a poll and without a restart."""
    await schedules.finish_jobs_at_once()
    async with running(database, ServiceRole.SCHEDULER):
        await listening(schedules.connection)
        schedule = await schedules.add({"rule": "* * * * * *"}, rule_since=await now(schedules))
        await eventually(schedules.made)
        await schedules.change(schedule, schedule_info='{"rule": "0 0 1 1 *"}')

        async def planned_for_new_year() -> bool:
            due: datetime | None = (await schedules.row(schedule))["due_at"]
            return due is not None and (due.month, due.day, due.hour) == (1, 1, 0)

        await eventually(planned_for_new_year)
        made = await schedules.made()
        await schedules.connection.execute("delete from app_jobs.scheduled_jobs")
        await schedules.add({"rule": "* * * * * *"}, task_identifier="other", rule_since=await now(schedules))
        await eventually(lambda: schedules.made("other"))
        assert await schedules.made() == made


async def test_a_job_is_made_when_it_is_due_and_not_sooner(schedules: Schedules, database: str) -> None:
    """Within a quarter of a second after each full second, on an idle machine far less."""
    await schedules.finish_jobs_at_once()
    async with running(database, ServiceRole.SCHEDULER):
        await schedules.add({"rule": "* * * * * *"}, rule_since=await now(schedules))

        async def three() -> bool:
            return await schedules.made() >= 3

        await eventually(three)
    moments = await schedules.connection.fetch("select at from public.made")
    parts = [row["at"].microsecond / 1e6 for row in moments]
    assert sorted(parts)[len(parts) // 2] < 0.25


async def test_a_database_restart_is_survived() -> None:
    """The scheduler waits, listens again, and serves what came due meanwhile."""
    postgres = EmbeddedPostgres()
    postgres.start()
    try:
        connection = await asyncpg.connect(postgres.dsn())
        await migrate(connection, "app_jobs")
        schedules = Schedules(connection)
        await schedules.finish_jobs_at_once()
        await schedules.add({"rule": "* * * * * *", "catch_up": "all"}, rule_since=await now(schedules))
        async with running(postgres.dsn(), ServiceRole.SCHEDULER):
            await eventually(schedules.made)
            await connection.close()
            await asyncio.to_thread(postgres.restart)
            connection = await asyncpg.connect(postgres.dsn())
            schedules = Schedules(connection)
            made = await schedules.made()

            async def goes_on() -> bool:
                return await schedules.made() >= made + 2

            await eventually(goes_on, seconds=20)
            await schedules.add({"rule": "* * * * * *"}, task_identifier="new", rule_since=await now(schedules))
            await eventually(lambda: schedules.made("new"))
        row = await connection.fetchrow(
            "select skipped, extract(epoch from due_at - rule_since) as span from app_jobs.scheduled_jobs "
            "where task_identifier = 'sweep'"
        )
        assert row is not None
        # every second between the first due time and the next one has its job, the restart's too
        assert (row["skipped"], await schedules.made()) == (0, int(row["span"]))
        await connection.close()
    finally:
        postgres.stop()


async def test_a_scheduler_on_an_outdated_schema_says_what_to_do(empty_database: str) -> None:
    """No schedules at all, or jobfn's schema without what the scheduler needs: run `jobfn db migrate`."""
    with pytest.raises(SchemaError, match="jobfn db migrate"):
        async with running(empty_database, ServiceRole.SCHEDULER):
            pass
    connection = await asyncpg.connect(empty_database)
    await migrate(connection, "app_jobs")
    await connection.execute("alter function app_jobs.advance_schedule rename to before_there_was_one")
    await connection.close()
    with pytest.raises(SchemaError, match="jobfn db migrate"):
        async with running(empty_database, ServiceRole.SCHEDULER):
            pass


async def test_trouble_of_the_servers_is_waited_out(schedules: Schedules, database: str) -> None:
    """A statement is cancelled in the middle of a look: it is logged, and the next look does it all."""
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute(
        """
        create sequence public.tries;
        create function public.fail_once() returns trigger language plpgsql as $$
        begin
            if nextval('public.tries') = 1 then raise exception sqlstate '57014'; end if;
            return new;
        end $$;
        create trigger fail_once before insert on app_jobs.jobs for each row execute function public.fail_once();
        """
    )
    await schedules.add({"rule": "0 0 1 1 *", "catch_up": "one"})
    await schedules.connection.execute("update app_jobs.scheduled_jobs set due_at = now()")
    async with running(database, ServiceRole.SCHEDULER, poll_interval_seconds=0.2):
        await eventually(schedules.made)
    assert await schedules.made() == 1


async def test_a_failure_that_is_ours_ends_the_process(schedules: Schedules, database: str) -> None:
    """A schema that no longer fits is no trouble that passes: the service ends with the error."""

    async def run_until_it_fails() -> None:
        async with running(database, ServiceRole.SCHEDULER, poll_interval_seconds=0.1) as service:
            await schedules.connection.execute("alter table app_jobs.scheduled_jobs rename to elsewhere")
            async with asyncio.timeout(10):
                await service

    with pytest.raises(asyncpg.UndefinedTableError):
        await run_until_it_fails()


@pytest.mark.parametrize(
    "only",
    [
        [ServiceRole.WORKER],
        [ServiceRole.CALLBACKS],
        [ServiceRole.SCHEDULER],
        [ServiceRole.WORKER, ServiceRole.SCHEDULER],
        list(ServiceRole),
        [],
    ],
)
async def test_any_parts_start_and_stop_cleanly(only: list[ServiceRole], database: str, jobs: Jobs) -> None:
    """Each part alone, two, all of them: at work, and then gone without a lock or a connection."""
    urls = {"gateway_url": "http://127.0.0.1:9", "own_callback_url": "http://127.0.0.1:9/callback"}
    async with running(database, *only, callback_port=0, **urls) as service:
        assert not service.done()
        job = await jobs.add("nobody_there")
        if not only or ServiceRole.WORKER in only:
            await jobs.until_failed(job)
    row = await jobs.row(job)
    assert row is not None
    assert row["locked_by"] is None
    left = (
        "select count(*) from pg_stat_activity where application_name like 'jobfn-%' and datname = current_database()"
    )
    await eventually(lambda: no_more(jobs.connection, left))


async def no_more(connection: "asyncpg.Connection[Any]", count: str) -> bool:
    return bool(await connection.fetchval(count) == 0)


async def now(schedules: Schedules) -> datetime:
    found: datetime = await schedules.connection.fetchval("select clock_timestamp()")
    return found
