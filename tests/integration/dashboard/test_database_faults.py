"""A page says what is wrong with the database."""

import asyncio
from typing import Any

import asyncpg
import pytest

from support.dashboard import OpenSite, Site
from support.network import until_logged

PAGES = ["/", "/jobs", "/jobs/1", "/schedules", "/workers", "/enqueue"]


@pytest.fixture
async def blocker(database: str) -> Any:
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


async def set_for_sessions(connection: "asyncpg.Connection[Any]", setting: str) -> None:
    name = await connection.fetchval("select current_database()")
    await connection.execute(f"alter database {name} set {setting}")
    await connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'jobfn-dashboard'"
    )


async def lock_tables(blocker: "asyncpg.Connection[Any]") -> None:
    await blocker.execute("begin")
    await blocker.execute(
        "lock table app_jobs.jobs, app_jobs.workers, app_jobs.job_runs, app_jobs.scheduled_jobs,"
        " app_jobs.history_settings in access exclusive mode"
    )


@pytest.mark.parametrize("path", PAGES)
async def test_page_with_locked_tables_is_503_with_the_reason(
    path: str, dashboard: Site, connection: "asyncpg.Connection[Any]", blocker: "asyncpg.Connection[Any]"
) -> None:
    await connection.execute("select app_jobs.add_job('x')")
    await set_for_sessions(connection, "lock_timeout = '100ms'")
    await lock_tables(blocker)
    for _ in range(6):  # the connections of the pool were closed
        response = await dashboard.get(path)
        if "lock timeout" in response.text:
            break
    assert "canceling statement due to lock timeout" in response.text
    assert response.status_code == 503


async def test_job_is_not_enqueued_in_a_read_only_database(
    dashboard: Site, connection: "asyncpg.Connection[Any]"
) -> None:
    await set_for_sessions(connection, "default_transaction_read_only = on")
    for _ in range(6):  # the connections of the pool were closed
        response = await dashboard.post("/enqueue", {"task": "x", "payload": "{}", "as": "json"})
        if "read-only" in response.text:
            break
    # the form stays filled in
    assert (response.status_code, "in a read-only transaction" in response.text) == (422, True)


async def test_dashboard_waits_for_a_database_that_is_locked(
    open_site: OpenSite,
    connection: "asyncpg.Connection[Any]",
    blocker: "asyncpg.Connection[Any]",
    capsys: pytest.CaptureFixture[str],
) -> None:
    await set_for_sessions(connection, "lock_timeout = '100ms'")
    await lock_tables(blocker)
    opening = asyncio.ensure_future(open_site())
    output = await until_logged(capsys, "dashboard not started", seconds=10)
    assert "canceling statement due to lock timeout" in output
    await blocker.execute("rollback")
    site = await asyncio.wait_for(opening, 30)
    assert (await site.get("/")).status_code == 200
