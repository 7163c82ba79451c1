"""A service outlasts the errors of its database: it waits, logs the reason, and goes on."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from jobfn.http.server import bind
from jobfn.wire import JOB_ATTEMPT, JOB_ID, WORKER_ID
from jobfn.worker.settings import ServiceSettings
from support.fixtures import Serve, StartWorker
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import LOOPBACK, eventually, until_logged
from support.service import start_in_loop

#: A fault of the test's database, for as long as the block runs.
Fault = contextlib.AbstractAsyncContextManager[None]
MakeFault = Callable[["asyncpg.Connection[Any]", "asyncpg.Connection[Any]"], Fault]
#: Sessions begin again, so that they have the settings of the database.
RESTART_SESSIONS = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name like 'jobfn-%'
"""


@contextlib.asynccontextmanager
async def session_setting(admin: "asyncpg.Connection[Any]", setting: str) -> AsyncIterator[None]:
    """Set a parameter for all new sessions of the database."""
    name = await admin.fetchval("select current_database()")
    await admin.execute(f"alter database {name} set {setting}")
    await admin.execute(RESTART_SESSIONS)
    try:
        yield
    finally:
        await admin.execute(f"alter database {name} reset all")
        await admin.execute(RESTART_SESSIONS)


@contextlib.asynccontextmanager
async def locked_jobs(blocker: "asyncpg.Connection[Any]") -> AsyncIterator[None]:
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("lock table app_jobs.jobs in access exclusive mode")
    try:
        yield
    finally:
        await transaction.rollback()


@contextlib.asynccontextmanager
async def read_only(admin: "asyncpg.Connection[Any]", blocker: "asyncpg.Connection[Any]") -> AsyncIterator[None]:
    async with session_setting(admin, "default_transaction_read_only = on"):
        yield


@contextlib.asynccontextmanager
async def lock_timeout(admin: "asyncpg.Connection[Any]", blocker: "asyncpg.Connection[Any]") -> AsyncIterator[None]:
    async with session_setting(admin, "lock_timeout = '100ms'"), locked_jobs(blocker):
        yield


@contextlib.asynccontextmanager
async def statement_timeout(
    admin: "asyncpg.Connection[Any]", blocker: "asyncpg.Connection[Any]"
) -> AsyncIterator[None]:
    async with session_setting(admin, "statement_timeout = '200ms'"), locked_jobs(blocker):
        yield


FAULTS = [read_only, lock_timeout, statement_timeout]


@pytest.fixture
async def blocker(database: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    connection = await asyncpg.connect(database)
    yield connection
    await connection.close()


@pytest.fixture
async def admin(database: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    """A connection without limits."""
    settings = {"default_transaction_read_only": "off", "lock_timeout": "0", "statement_timeout": "0"}
    connection = await asyncpg.connect(database, server_settings=settings)
    yield connection
    await connection.close()


@pytest.mark.parametrize("fault", FAULTS)
async def test_service_outlasts_a_fault_while_it_works(
    fault: MakeFault,
    admin: "asyncpg.Connection[Any]",
    blocker: "asyncpg.Connection[Any]",
    function: RecordingFunction,
    start_worker: StartWorker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Settlements, the scheduler and reports meet the fault, which ends before the lease does."""
    jobs = Jobs(admin)
    gate = function.hold()
    service = await start_worker(poll_interval_seconds=0.2, lease_seconds=300.0)
    await admin.execute("select app_jobs.add_scheduled_job('s', '* * * * * *')")
    running = await jobs.add("x")
    await jobs.until_claimed(running, seconds=30)
    async with fault(admin, blocker):
        gate.set()
        # A schedule that meets a lock timeout is tried again by the next poll, so that it does not delay the others.
        scheduler = () if fault is lock_timeout else ("schedules not polled",)
        output = await until_logged(capsys, "jobs not settled", *scheduler)
        headers = {WORKER_ID: WORKER, JOB_ID: str(running), JOB_ATTEMPT: "1"}
        async with httpx.AsyncClient() as http:
            response = await http.post(function.received[-1].headers["x-callback-url"], headers=headers, json={})
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    await jobs.until_gone(running, await jobs.add("y"), seconds=30)
    await eventually(
        lambda: admin.fetchval("select exists (select from app_jobs.job_runs where task_identifier = 's')")
    )
    assert "Traceback" not in output
    await service.stop()
    assert [each.path for each in function.received if each.path in {"/x", "/y"}] == ["/x", "/y"]


@pytest.mark.parametrize("fault", [read_only, lock_timeout])
async def test_leases_are_renewed_when_a_fault_ends(
    fault: MakeFault,
    admin: "asyncpg.Connection[Any]",
    blocker: "asyncpg.Connection[Any]",
    function: RecordingFunction,
    start_worker: StartWorker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """After a fault that is longer than the lease, the worker does not claim its own job again."""
    jobs = Jobs(admin)
    gate = function.hold()
    lease_seconds = 3.0  # a claim has a third of it after a renewal, also on a busy machine
    await start_worker(poll_interval_seconds=0.2, lease_seconds=lease_seconds)
    job = await jobs.add("x")
    await jobs.until_claimed(job, seconds=30)
    async with fault(admin, blocker):
        output = await until_logged(capsys, "leases not renewed")
        await asyncio.sleep(lease_seconds)
    has_lease = "select lease_expires_at > now() from app_jobs.jobs"
    await eventually(lambda: admin.fetchval(has_lease), seconds=30)
    gate.set()
    await jobs.until_gone(job, seconds=30)
    assert "Traceback" not in output
    assert [each.headers["x-job-attempt"] for each in function.received] == ["1"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_service_starts_when_a_fault_ends(
    fault: MakeFault,
    admin: "asyncpg.Connection[Any]",
    blocker: "asyncpg.Connection[Any]",
    function: RecordingFunction,
    start_worker: StartWorker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    jobs = Jobs(admin)
    job = await jobs.add("x")
    async with fault(admin, blocker):
        starting = asyncio.ensure_future(start_worker())
        output = await until_logged(capsys, "retried automatically")
    service = await asyncio.wait_for(starting, 30)
    await jobs.until_gone(job)
    await service.stop()
    assert "Traceback" not in output


async def test_settlements_and_claims_wait_for_functions_that_are_missing(
    admin: "asyncpg.Connection[Any]",
    function: RecordingFunction,
    start_worker: StartWorker,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Not transient, and still a person's mistake that is corrected: no job runs twice for it."""
    jobs = Jobs(admin)
    gate = function.hold()
    service = await start_worker(poll_interval_seconds=0.2)
    first = await jobs.add("x")
    await jobs.until_claimed(first)
    await admin.execute("alter function app_jobs.settle_jobs rename to settle_later")
    gate.set()
    output = await until_logged(capsys, "jobs not settled")
    second = await jobs.add("y")
    await admin.execute("alter function app_jobs.claim_jobs rename to claim_later")
    await admin.execute("alter function app_jobs.settle_later rename to settle_jobs")
    output += await until_logged(capsys, "no jobs claimed")
    assert "jobfn db migrate" in output
    await admin.execute("alter function app_jobs.claim_later rename to claim_jobs")
    await jobs.until_gone(first, second, seconds=30)
    await service.stop()
    assert [each.path for each in function.received] == ["/x", "/y"]


async def test_service_outlasts_a_change_of_the_jobs_table_behind_a_reader(
    admin: "asyncpg.Connection[Any]",
    blocker: "asyncpg.Connection[Any]",
    function: RecordingFunction,
    start_worker: StartWorker,
) -> None:
    """Everything waits behind ALTER TABLE, which waits for a reader; then the table has another column."""
    jobs = Jobs(admin)
    gate = function.hold()
    service = await start_worker(poll_interval_seconds=0.2, lease_seconds=1.0)
    running = await jobs.add("x")
    await jobs.until_claimed(running, seconds=30)
    reading = blocker.transaction()
    await reading.start()
    await blocker.execute("select from app_jobs.jobs")
    altering = asyncio.create_task(admin.execute("alter table app_jobs.jobs add column note text"))
    gate.set()
    waiting = (
        "select count(*) >= 2 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    )
    await eventually(lambda: blocker.fetchval(waiting), seconds=30)
    await reading.rollback()
    await altering
    await admin.execute("alter table app_jobs.jobs alter column note type varchar(9)")
    await jobs.until_gone(running, await jobs.add("y"), seconds=30)
    await service.stop()


async def test_service_outlasts_a_switch_to_a_standby_and_its_promotion(
    function: RecordingFunction, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """A proxy may lead to the standby before it is promoted, which the service does not use."""
    folder = Path(tempfile.mkdtemp(prefix="jobfn-standby-"))
    postgres = EmbeddedPostgres(folder)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        await asyncio.to_thread(postgres.start)
        stack.callback(postgres.stop)
        dsn = postgres.dsn()
        connection = await asyncpg.connect(dsn)
        await migrate(connection, "app_jobs")
        first = await Jobs(connection).add("x")
        settings = ServiceSettings.from_environ(
            {},
            database_url=dsn,
            gateway_url=await serve(function.app),
            own_callback_url=f"http://{LOOPBACK}:9/callback",
            worker_id=WORKER,
            poll_interval_seconds=0.2,
        )
        await start_in_loop(stack, settings, listener=bind(LOOPBACK, 0))
        await Jobs(connection).until_gone(first)
        second = await Jobs(connection).add("y", run_at=datetime.now(UTC) + timedelta(seconds=2))
        await connection.close()
        signal_file = folder / "standby.signal"
        signal_file.touch()
        await asyncio.to_thread(postgres.restart)
        output = await until_logged(capsys, "the server is a standby")
        connection = await asyncpg.connect(dsn)
        stack.push_async_callback(connection.close)
        await connection.execute("select pg_promote()")
        await Jobs(connection).until_gone(second, seconds=30)
    output += capsys.readouterr().out
    assert [line for line in output.splitlines() if "[jobfn." not in line] == [], "lines of other libraries"
    assert [each.path for each in function.received] == ["/x", "/y"]
