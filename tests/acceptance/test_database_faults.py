"""Commands say in one line what is wrong with the database."""

from typing import Any

import asyncpg
import pytest

from support.commands import Command

COMMANDS = [
    ("jobs", "list"),
    ("jobs", "retry", "1"),
    ("jobs", "stats"),
    ("enqueue", "x"),
    ("db", "status"),
    ("db", "migrate"),
    ("schedules", "list"),
    ("workers",),
    ("doctor",),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_locked_tables_give_one_line_and_no_traceback(
    arguments: tuple[str, ...], database: str, connection: "asyncpg.Connection[Any]", command: Command
) -> None:
    name = await connection.fetchval("select current_database()")
    await connection.execute(f"alter database {name} set lock_timeout = '100ms'")
    async with connection.transaction():
        await connection.execute(
            "lock table app_jobs.jobs, app_jobs.workers, app_jobs.job_runs, app_jobs.jobfn_migrations,"
            " app_jobs.scheduled_jobs, app_jobs.queue_locks in access exclusive mode"
        )
        result = await command("jobfn", *arguments, DATABASE_URL=database)
    assert "Traceback" not in result.output
    assert "canceling statement due to lock timeout" in result.output
