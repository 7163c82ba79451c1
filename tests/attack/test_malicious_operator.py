"""An operator who wants somebody else to be blamed, or no entry at all in the audit list."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.commands import Command
from support.dashboard import OpenSite
from support.fixtures import ConnectTo
from support.jobs import Jobs
from support.roles import Role, login_role

HOSTILE = "<script>alert(1)</script>\x1b[2J\x07\r\nbob\u202e"
#: What is stored of it.
CLEANED = "<script>alert(1)</script>?[2J???bob?"


@contextlib.asynccontextmanager
async def role_of(jobs: Jobs, database: str, group: str) -> AsyncIterator[Role]:
    async with login_role(jobs.connection, database) as role:
        await migrate(jobs.connection, "app_jobs", grants=Grants(**{group: (role.name,)}))
        yield role


@pytest.mark.parametrize(
    ("group", "may_read"), [("operator", True), ("viewer", True), ("enqueue", False), ("worker", False)]
)
async def test_no_role_writes_or_deletes_entries(
    jobs: Jobs, database: str, connect_to: ConnectTo, group: str, *, may_read: bool
) -> None:
    await jobs.connection.execute("select app_jobs.pause(everything := true)")
    async with role_of(jobs, database, group) as role:
        connection = await connect_to(role.dsn)
        for statement in (
            "insert into app_jobs.audit_log (actor, role, source, action, target) values ('b', 'b', 'sql', 'x', '')",
            "update app_jobs.audit_log set actor = 'bob'",
            "delete from app_jobs.audit_log",
            "truncate app_jobs.audit_log",
            "alter table app_jobs.pauses disable trigger all",
            "select app_jobs.record_action('pause', 'x', null, null)",
            "select app_jobs.record_action_on_jobs('cancel', '{1}')",
            "select app_jobs.set_audit_retention(0)",
            "select app_jobs.cancel_jobs_unrecorded('{1}', 'x', true)",
            "select app_jobs.retry_jobs_unrecorded('{1}')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
        if may_read:
            assert await connection.fetchval("select count(*) from app_jobs.audit_log") == 1
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetchval("select count(*) from app_jobs.audit_log")
        await connection.close()
    assert await jobs.connection.fetchval("select count(*) from app_jobs.audit_log") == 1


async def test_worker_prunes_no_entry_before_its_time(jobs: Jobs, database: str, connect_to: ConnectTo) -> None:
    await jobs.connection.execute("select app_jobs.pause(everything := true)")
    async with role_of(jobs, database, "worker") as role:
        connection = await connect_to(role.dsn)
        await connection.execute("select app_jobs.set_history_retention(0)")
        assert await connection.fetchval("select app_jobs.prune_audit_log(1000)") == 0
        await connection.close()
    assert await jobs.connection.fetchval("select count(*) from app_jobs.audit_log") == 1


async def test_a_false_name_stands_beside_the_true_role(jobs: Jobs, database: str, connect_to: ConnectTo) -> None:
    job = await jobs.add("x")
    async with role_of(jobs, database, "operator") as role:
        connection = await connect_to(role.dsn)
        for setting, value in (("actor", "bob"), ("source", "the moon"), ("operation", "x"), ("filter", "task y")):
            await connection.execute(f"select set_config('jobfn.{setting}', $1, false)", value)
        await connection.execute("select app_jobs.cancel_jobs($1, 'x', true)", [job])
        await connection.execute(
            "insert into app_jobs.task_settings (task_identifier, override_priority) values ('x', 1)"
        )
        rows = await connection.fetch("select actor, role, source, target, job_count from app_jobs.audit_log")
        await connection.close()
        assert [tuple(row) for row in rows] == [
            ("bob", role.name, "sql", "jobs", 1),
            ("bob", role.name, "sql", "task x", None),
        ]


async def test_an_operation_of_another_hides_nothing(jobs: Jobs, database: str, connect_to: ConnectTo) -> None:
    """The list joins the entries of one operation of one person only."""
    first, second = await jobs.add("x"), await jobs.add("x")
    operation = "5b720132-17d5-424d-9bcb-ee7b17c13d43"
    await jobs.connection.execute(f"set jobfn.operation = '{operation}'; set jobfn.filter = 'task x'")
    await jobs.connection.execute("select app_jobs.cancel_jobs($1, 'x', true)", [first])
    async with role_of(jobs, database, "operator") as role:
        connection = await connect_to(role.dsn)
        await connection.execute(f"set jobfn.operation = '{operation}'; set jobfn.filter = 'task x'")
        await connection.execute("select app_jobs.cancel_jobs($1, 'x', true)", [second])
        await connection.close()
        rows = await jobs.connection.fetch("select role, job_count from app_jobs.audit_log order by id")
        assert [row["job_count"] for row in rows] == [1, 1]
        assert rows[0]["role"] != rows[1]["role"] == role.name


@pytest.mark.parametrize("name", [HOSTILE, "x" * 10_000_000], ids=["html", "10MB"])
async def test_a_hostile_name_is_cut_and_steers_nothing(
    jobs: Jobs, database: str, connect_to: ConnectTo, open_site: OpenSite, invoke: Command, name: str
) -> None:
    async with role_of(jobs, database, "operator") as role:
        connection = await connect_to(role.dsn)
        await connection.execute("select set_config('jobfn.actor', $1, false)", name)
        await connection.execute("select app_jobs.pause(task := $1, reason := $1)", name[:100])
        await connection.close()
    stored = await jobs.connection.fetchval("select actor from app_jobs.audit_log")
    assert stored == (CLEANED if name == HOSTILE else "x" * 200)
    page = (await (await open_site()).get("/audit")).text
    assert "<script>alert" not in page
    assert len(page) < 100_000
    output = (await invoke("jobfn", "audit", DATABASE_URL=database)).output
    assert {each for each in output if not each.isprintable()} <= {"\n"}
    assert len(output) < 10_000
