"""Operators and migrations change or rebuild tables, or keep a transaction open, while jobs run.

No job may be lost, stuck or run twice, and no statement of an operator may be ended to resolve a deadlock.
"""

import asyncio
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import asyncpg
import pytest

from chaos.single_fault import Installation, run_fault
from chaos.test_database_faults import FAULT_SECONDS, check

REPOSITORY = Path(__file__).parents[2]
#: The version that landed before this one. Its schema ends with migration 19.
PREVIOUS_COMMIT = "b09987c861bf9072f81d3197010eeca1aed66644"
TABLES = """
    select c.relname, i.relname as index
    from pg_class c
    left join pg_index x on x.indrelid = c.oid and x.indisprimary
    left join pg_class i on i.oid = x.indexrelid
    where c.relnamespace = 'app_jobs'::regnamespace and c.relkind = 'r'
    order by c.relname
"""
REBUILDS = (
    "reindex table app_jobs.{table}",
    "reindex table concurrently app_jobs.{table}",
    "vacuum full app_jobs.{table}",
    "cluster app_jobs.{table} using {index}",
    "analyze app_jobs.{table}",
)
ROUNDS = 2


@pytest.mark.long
async def test_tables_are_rebuilt(tmp_path: Path) -> None:
    async def rebuild(installation: Installation) -> None:
        admin = installation.admin
        await admin.execute("set deadlock_timeout = '100ms'")  # so that PostgreSQL would end this session's statement
        for table, index in (await admin.fetch(TABLES)) * ROUNDS:
            for statement in REBUILDS:
                if index is not None or "{index}" not in statement:
                    await admin.execute(statement.format(table=table, index=index))
        deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
        assert await admin.fetchval(deadlocks) == 0

    check(await run_fault("each table rebuilt: REINDEX, VACUUM FULL, CLUSTER", rebuild, tmp_path))


async def test_transaction_is_held(tmp_path: Path) -> None:
    async def hold(installation: Installation) -> None:
        connection = await asyncpg.connect(installation.dsn)
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from app_jobs.jobs")
            await asyncio.sleep(FAULT_SECONDS)
        await connection.close()

    check(await run_fault("a transaction held for 3 s", hold, tmp_path))


@pytest.mark.long
async def test_schema_is_migrated_below_the_version_before(tmp_path: Path) -> None:
    """Worker, callback server and function of the version before go on while the schema is migrated, and afterwards."""
    source = extract(PREVIOUS_COMMIT, tmp_path)

    async def migrate(installation: Installation) -> None:
        await run_command(
            sys.executable, "-c", "from jobfn.cli import main; main()", "db", "migrate", DATABASE_URL=installation.dsn
        )
        await asyncio.sleep(FAULT_SECONDS)

    outcome = await run_fault("jobfn db migrate from the version before", migrate, tmp_path, source=source)
    check(outcome)


def extract(commit: str, folder: Path) -> Path:
    """Return the folder of the sources of a commit, which it extracts."""
    command = ["git", "archive", commit, "src"]
    archive = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=False)
    if archive.returncode:
        pytest.skip(f"needs the commit {commit} in this clone: git fetch --unshallow")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder / "src"


async def run_command(*command: str, **variables: str) -> None:
    """Run a command to its end. It must succeed."""
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
