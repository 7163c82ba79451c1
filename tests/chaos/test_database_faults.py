"""The database refuses statements, or a part is suspended, while jobs run. No job may be lost, stuck or run twice.

Jobs may run twice only if their worker was suspended for longer than their lease.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chaos.single_fault import LEASE_SECONDS, Installation, Outcome, run_fault
from chaos.table import add_outcome
from support.network import free_port
from support.pgbouncer import PgBouncer, start_pgbouncer
from support.small_disk import fill_disk, small_disk

FAULT_SECONDS = 3.0
MAX_RECOVERY_SECONDS = 30.0
SUSPENDED_SECONDS = 1.5 * LEASE_SECONDS


def check(outcome: Outcome, *, may_double: bool = False) -> None:
    add_outcome(outcome)
    assert outcome.lost == []
    assert outcome.stuck == []
    assert len(outcome.doubled) <= (outcome.in_flight if may_double else 0), outcome.causes
    assert outcome.recovery_seconds < MAX_RECOVERY_SECONDS
    foreign = [line for line in outcome.output.splitlines() if not line.startswith('{"logger":"jobfn.')]
    assert foreign == []


async def lock_jobs(installation: Installation) -> None:
    """Lock the table for some seconds."""
    connection = await asyncpg.connect(
        installation.dsn, server_settings={"lock_timeout": "0", "statement_timeout": "0"}
    )
    async with connection.transaction():
        await connection.execute("lock table app_jobs.jobs in access exclusive mode")
        await asyncio.sleep(FAULT_SECONDS)
    await connection.close()


@pytest.mark.long
@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
async def test_timeouts_of_the_role_while_jobs_are_locked(setting: str, tmp_path: Path) -> None:
    async def limit(installation: Installation) -> None:
        await installation.admin.execute(f"alter role current_user set {setting} = '200ms'")

    check(await run_fault(setting, lock_jobs, tmp_path, prepare=limit))


@pytest.mark.long
async def test_changes_of_the_tables_under_load(tmp_path: Path) -> None:
    async def change(installation: Installation) -> None:
        for statement in (
            "alter table app_jobs.jobs add column note text",
            "reindex table app_jobs.jobs",
            "alter table app_jobs.jobs alter column note type varchar(9)",
            "vacuum full app_jobs.jobs",
            "reindex table concurrently app_jobs.jobs",
            "alter table app_jobs.job_runs add column note text",
            "create index on app_jobs.job_runs (ended_at)",
            "alter table app_jobs.jobs drop column note",
        ):
            await installation.admin.execute(statement)

    check(await run_fault("DDL under load", change, tmp_path))


@pytest.fixture
def disk() -> Iterator[Path]:
    with small_disk("chaos-disk", megabytes=4) as folder:
        yield folder


async def test_disk_of_the_history_is_full(disk: Path, tmp_path: Path) -> None:
    """Claims need no more space and settlements do: the worker must stop claiming."""

    async def move_history(installation: Installation) -> None:
        space = disk / "space"
        space.mkdir()
        shutil.chown(space, user=installation.folder.owner())
        await installation.admin.execute(f"create tablespace small location '{space}'")
        for kind, name in await installation.admin.fetch(
            "select 'table', relname from pg_class where relname ~ '^job_runs' and relkind in ('r', 'p')"
            " union all select 'index', indexname from pg_indexes where tablename ~ '^job_runs'"
        ):
            await installation.admin.execute(f'alter {kind} app_jobs."{name}" set tablespace small')

    async def fill(installation: Installation) -> None:
        ballast = fill_disk(disk)
        await installation.until_logged("No space left on device")
        await asyncio.sleep(FAULT_SECONDS)
        ballast.unlink()

    check(await run_fault("disk full", fill, tmp_path, prepare=move_history, JOBS_SETTLE_ON="response"))


async def test_pgbouncer_is_restarted(tmp_path: Path) -> None:
    """The second time, leases end meanwhile: the worker must not claim its own jobs."""
    port = free_port()

    async def restart(installation: Installation) -> None:
        for seconds in (1.0, SUSPENDED_SECONDS):
            await poolers.pop().stop()
            await asyncio.sleep(seconds)
            poolers.append(await start_pgbouncer(tmp_path, installation.dsn, port=port))
            await asyncio.sleep(1)

    async def start(installation: Installation) -> None:
        poolers.append(await start_pgbouncer(tmp_path, installation.dsn, port=port))

    poolers: list[PgBouncer] = []
    try:
        outcome = await run_fault(
            "PgBouncer restarted",
            restart,
            tmp_path,
            prepare=start,
            database_url=lambda _dsn: f"postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable",
        )
    finally:
        for pooler in poolers:
            await pooler.stop()
    check(outcome)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("worker", "auto"),
        pytest.param("callbacks", "report", marks=pytest.mark.long),
        pytest.param("function", "auto", marks=pytest.mark.long),
    ],
)
async def test_process_is_suspended(name: str, mode: str, tmp_path: Path) -> None:
    async def suspend(installation: Installation) -> None:
        await installation.suspend(name, SUSPENDED_SECONDS)

    outcome = await run_fault(f"SIGSTOP of the {name}", suspend, tmp_path, JOBS_SETTLE_ON=mode)
    check(outcome, may_double=name == "worker")


@pytest.mark.long
async def test_sessions_of_postgresql_are_suspended(tmp_path: Path) -> None:
    async def suspend(installation: Installation) -> None:
        rows = await installation.admin.fetch(
            "select pid from pg_stat_activity where application_name = 'jobfn-service'"
        )
        for row in rows:
            os.kill(row["pid"], signal.SIGSTOP)
        await asyncio.sleep(SUSPENDED_SECONDS)
        for row in rows:
            os.kill(row["pid"], signal.SIGCONT)

    check(await run_fault("SIGSTOP of PostgreSQL's sessions", suspend, tmp_path))
