"""Commands and the dashboard through PgBouncer in transaction mode."""

from pathlib import Path

import pytest

from support.commands import Command
from support.dashboard import site
from support.pgbouncer import pgbouncer

COMMANDS = [
    ("db", "status"),
    ("enqueue", "x", "{}"),
    ("jobs", "list"),
    ("jobs", "stats"),
    ("jobs", "show", "1"),
    ("jobs", "cancel", "1", "--yes"),
    ("jobs", "retry", "1", "--yes"),
    ("schedules", "list"),
    ("workers",),
]


@pytest.mark.parametrize("max_prepared_statements", [0, 200])
async def test_commands_work(
    max_prepared_statements: int, empty_database: str, command: Command, tmp_path: Path
) -> None:
    async with pgbouncer(tmp_path, empty_database, max_prepared_statements=max_prepared_statements) as pooler:
        migrated = await command("jobfn", "db", "migrate", DATABASE_URL=pooler.dsn)
        assert migrated.code == 0, migrated.output
        for arguments in COMMANDS:
            result = await command("jobfn", *arguments, DATABASE_URL=pooler.dsn)
            assert result.code == 0, result.output


async def test_doctor_says_what_to_set(database: str, command: Command, tmp_path: Path) -> None:
    async with pgbouncer(tmp_path, database) as pooler:
        without = (await command("jobfn", "doctor", DATABASE_URL=pooler.dsn)).output
        assert "notifications: no notifications through a connection pooler in transaction mode" in without
        assert "-> set JOBS_LISTEN_URL to PostgreSQL's own address, or to a pooler in session mode" in without
        same = (await command("jobfn", "doctor", DATABASE_URL=pooler.dsn, JOBS_LISTEN_URL=pooler.dsn)).output
        assert "warning  notifications" in same
        direct = (await command("jobfn", "doctor", DATABASE_URL=pooler.dsn, JOBS_LISTEN_URL=database)).output
        assert "ok       notifications: JOBS_LISTEN_URL has a session" in direct
        wrong = (
            await command("jobfn", "doctor", DATABASE_URL=pooler.dsn, JOBS_LISTEN_URL="postgresql://127.0.0.1:9/x")
        ).output
        assert "error    notifications: JOBS_LISTEN_URL: postgresql://127.0.0.1:9/x cannot be reached" in wrong
    assert "notifications" not in (await command("jobfn", "doctor", DATABASE_URL=database)).output


@pytest.mark.parametrize("arguments", [("service",), ("doctor",), ("jobs", "list")], ids=" ".join)
async def test_statement_mode_is_refused_in_one_line(
    arguments: tuple[str, ...], database: str, command: Command, tmp_path: Path
) -> None:
    async with pgbouncer(tmp_path, database, mode="statement") as pooler:
        result = await command("jobfn", *arguments, DATABASE_URL=pooler.dsn, INTERNAL_JOBS_CALLBACK_PORT="0")
    assert result.code == 2
    errors = [line for line in result.output.splitlines() if "statement mode" in line]
    assert len(errors) == 1, result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize("max_prepared_statements", [0, 200])
async def test_pages_of_the_dashboard_are_shown(
    max_prepared_statements: int, database: str, command: Command, tmp_path: Path
) -> None:
    async with pgbouncer(tmp_path, database, max_prepared_statements=max_prepared_statements) as pooler:
        await command("jobfn", "enqueue", "x", "{}", DATABASE_URL=pooler.dsn)
        async with site(pooler.dsn) as dashboard:
            for path in ("/", "/jobs", "/jobs/1", "/schedules", "/triggers", "/workers", "/enqueue"):
                for _ in range(2):
                    response = await dashboard.get(path)
                    assert response.status_code == 200, response.text
