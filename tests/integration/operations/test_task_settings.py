"""``jobfn sync`` and ``jobfn tasks``: the options of tasks in code, and the overrides of operators."""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.operations.task_settings import Change, DeclaredTask, plan_sync, read_settings, sync
from jobfn.task_defaults import parse_defaults
from support.commands import Command
from support.jobs import Jobs
from support.roles import login_role

FUNCTIONS = """
from datetime import timedelta

from jobfn import task

@task("sync_customer", queue="syncs", priority=5, unique="until_started", unique_by=["customer"])
def sync_customer(payload: dict) -> None: ...

@task("call_partner", concurrency=2, rate="10/minute", per="tenant", max_attempts=4)
def call_partner(payload: dict) -> None: ...

@task("plain")
def plain(payload: dict) -> None: ...
"""
#: Adds a job by its name, in a process that has not loaded the code of its task.
ENQUEUER = """
import sys
import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    added = connection.execute("select (app_jobs.add_job('sync_customer', '{\\"customer\\": 7}'::json)).id")
    print(added.fetchone()[0])
"""


def declared(task: str, **options: Any) -> DeclaredTask:
    return DeclaredTask(task, f"functions.py:{len(task)}", parse_defaults(**options))


async def changes(connection: "asyncpg.Connection[Any]", *tasks: DeclaredTask, prune: bool = False) -> Any:
    planned = await plan_sync(connection, "app_jobs", tasks, prune=prune)
    assert await sync(connection, "app_jobs", tasks, prune=prune) == planned
    return [(change.task, change.change.value) for change in planned]


async def limits(connection: "asyncpg.Connection[Any]") -> list[tuple[Any, ...]]:
    rows = await connection.fetch(
        "select name, task_identifier, concurrency, rate_count, rate_interval, per, set_by "
        "from app_jobs.limits order by 1"
    )
    return [tuple(row) for row in rows]


async def test_options_are_added_changed_and_removed(connection: "asyncpg.Connection[Any]") -> None:
    first = [declared("a", queue="q"), declared("b", unique=timedelta(minutes=5), unique_by=["x"]), declared("c")]
    assert await changes(connection, *first) == [("a", "add"), ("b", "add")]
    assert await changes(connection, *first) == [("a", "unchanged"), ("b", "unchanged")]
    assert await read_settings(connection, "app_jobs") == [
        ("a", {"queue": "q"}, {}),
        ("b", {"unique_for": timedelta(minutes=5), "unique_by": ["x"], "on_conflict": "keep"}, {}),
    ]
    second = [declared("a", priority=3), declared("b"), declared("c", max_attempts=2)]
    assert await changes(connection, *second) == [("a", "change"), ("b", "remove"), ("c", "add")]
    assert await read_settings(connection, "app_jobs") == [("a", {"priority": 3}, {}), ("c", {"max_attempts": 2}, {})]


async def test_options_of_other_code_are_removed_only_with_prune(connection: "asyncpg.Connection[Any]") -> None:
    await changes(connection, declared("a", queue="q"), declared("b", concurrency=3))
    assert await changes(connection, declared("c", priority=1)) == [("c", "add"), ("a", "keep"), ("b", "keep")]
    assert [entry[0] for entry in await read_settings(connection, "app_jobs")] == ["a", "b", "c"]
    assert await changes(connection, declared("c", priority=1), prune=True) == [
        ("c", "unchanged"),
        ("a", "remove"),
        ("b", "remove"),
    ]
    assert await read_settings(connection, "app_jobs") == [("c", {"priority": 1}, {})]
    assert await limits(connection) == []


async def test_limits_are_rows(connection: "asyncpg.Connection[Any]") -> None:
    task = declared("a", concurrency=2, rate="10/minute", per="tenant")
    assert await changes(connection, task) == [("a", "add")]
    assert await limits(connection) == [("a", "a", 2, 10, timedelta(minutes=1), "tenant", "code")]
    assert await changes(connection, task) == [("a", "unchanged")]
    assert await changes(connection, declared("a", concurrency=3)) == [("a", "change")]
    assert await limits(connection) == [("a", "a", 3, None, None, None, "code")]
    assert await changes(connection, declared("a")) == [("a", "remove")]
    assert await limits(connection) == []
    assert await connection.fetchval("select app_jobs.has_task_settings()") is False


async def test_limit_of_an_operator_stays(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute("select app_jobs.set_limit('a', task_identifier => 'a', concurrency => 1)")
    task = declared("a", concurrency=9, queue="q")
    [change] = await plan_sync(connection, "app_jobs", [task])
    assert (change.change, change.has_own_limit) == (Change.ADDED, True)
    await changes(connection, task)
    await changes(connection, declared("a"), prune=True)
    assert await limits(connection) == [("a", "a", 1, None, None, None, "operator")]


async def test_commands(command: Command, database: str, jobs: Jobs, tmp_path: Path) -> None:
    functions = tmp_path / "functions.py"
    functions.write_text(FUNCTIONS)

    async def run(*arguments: str) -> tuple[int, str]:
        result = await command("jobfn", *arguments, DATABASE_URL=database)
        return result.code, result.output

    declared_values = "queue=syncs priority=5 unique_until=started unique_by=[customer] on_conflict=keep"
    plan = (
        "  + add       call_partner  max_attempts=4 concurrency=2 per=tenant rate=10/minute\n"
        f"  + add       sync_customer  {declared_values}\n"
        "2 to add"
    )
    assert await run("sync", str(functions), "--plan") == (3, plan)
    code, output = await run("sync", str(functions))
    assert (code, output.startswith(plan)) == (2, True)
    assert "Apply these changes? Confirm with --yes: there is no terminal to ask in" in output
    assert await run("tasks", "list") == (0, "no task has settings")
    assert await run("sync", str(functions), "--yes") == (0, plan + "\napplied")
    assert await run("sync", str(functions)) == (0, "no changes")

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ENQUEUER, database, stdout=asyncio.subprocess.PIPE
    )
    job_id = int((await process.communicate())[0])
    assert await jobs.values(job_id, "queue_name", "priority", "max_attempts") == ("syncs", 5, 25)
    assert await jobs.add("sync_customer", {"customer": 7, "n": 2}) == job_id

    assert await run("tasks", "set", "sync_customer", "--queue", "slow", "--priority", "9") == (
        0,
        "set sync_customer",
    )
    other = await jobs.add("sync_customer", {"customer": 8}, queue_name="own", priority=1)
    assert await jobs.values(other, "queue_name", "priority") == ("slow", 9)
    code, output = await run("sync", str(functions))
    assert (code, output.splitlines()) == (
        0,
        [
            f"  = unchanged sync_customer  {declared_values}",
            "      an operator has set queue=slow priority=9, which comes first",
            "no changes",
        ],
    )
    functions.write_text(FUNCTIONS.replace('queue="syncs", ', "").replace("priority=5", "priority=6"))
    code, output = await run("sync", str(functions), "--yes")
    assert (code, output.splitlines()[0]) == (0, "  ~ change    sync_customer  queue syncs -> none, priority 5 -> 6")
    code, output = await run("tasks", "list", "--json")
    assert json.loads(output)[1] == {
        "task": "sync_customer",
        "declared": {"priority": 6, "unique_until": "started", "unique_by": ["customer"], "on_conflict": "keep"},
        "overrides": {"queue": "slow", "priority": 9},
    }
    functions.write_text("from jobfn import task\n\n@task('other')\ndef other(payload: dict) -> None: ...\n")
    code, output = await run("sync", str(functions), "--prune", "--yes", "--json")
    assert [entry["change"] for entry in json.loads(output)] == ["remove", "remove"]
    assert await run("tasks", "list") == (
        0,
        "sync_customer  -  (an operator has set queue=slow priority=9)",
    )
    assert await run("tasks", "reset", "sync_customer") == (0, "reset sync_customer")
    assert await run("tasks", "reset", "sync_customer") == (0, "sync_customer has no overrides")
    assert await jobs.connection.fetchval("select not exists (select from app_jobs.task_settings)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tasks", "set", "x"], "nothing to set: give --queue, --priority or --max-attempts"),
        (["tasks", "set", "x", "--queue", ""], "--queue must have 1 to 126 characters"),
        (["tasks", "set", "", "--priority", "1"], "the task must have 1 to 126 characters"),
        (["tasks", "set", "x", "--priority", str(2**31)], "Invalid value for '--priority'"),
        (["tasks", "set", "x", "--max-attempts", str(2**31)], "Invalid value for '--max-attempts'"),
        (["sync", "missing.py"], "missing.py"),
    ],
)
async def test_invalid_arguments(invoke: Command, database: str, arguments: list[str], message: str) -> None:
    result = await invoke("jobfn", *arguments, DATABASE_URL=database)
    assert result.code == 2
    assert message in result.output


async def test_role_needs_the_grant(
    invoke: Command, connection: "asyncpg.Connection[Any]", database: str, tmp_path: Path
) -> None:
    async with login_role(connection, database) as role:
        await connection.execute(f"grant usage on schema app_jobs to {role.name}")
        result = await invoke("jobfn", "tasks", "set", "x", "--priority", "1", DATABASE_URL=role.dsn)
        assert result.code == 1
        assert f"run `jobfn db migrate --grant-operator {role.name}`" in result.output
