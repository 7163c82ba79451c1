"""Functions that run with the rights of their owner cannot be misused by their callers."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.jobs import Jobs
from support.roles import temporary_role


@pytest.fixture
async def role(connection: asyncpg.Connection) -> AsyncIterator[str]:
    """A role without privileges, which ``connection`` can act as."""
    async with temporary_role(connection) as name:
        yield name


#: Parts of ``add_job``, for which setting it again would take longer than the rest, and some that PostgreSQL inlines.
WITHOUT_SEARCH_PATH = {
    *("has_task_settings", "insert_job", "jwt_claim", "limit_key", "limit_room", "payload_value", "tg_notify"),
    "to_job_row",
}


async def test_functions_set_their_search_path(connection: asyncpg.Connection) -> None:
    rows = await connection.fetch(
        "select proname, prosecdef, proconfig from pg_proc where pronamespace = 'app_jobs'::regnamespace"
    )
    definer_functions = {row["proname"] for row in rows if row["prosecdef"]}
    assert definer_functions >= {"add_job", "add_scheduled_job", "claim_jobs", "complete_job"}
    assert not definer_functions & WITHOUT_SEARCH_PATH
    for row in rows:
        is_set = "search_path=pg_catalog, pg_temp" in (row["proconfig"] or [])
        assert is_set is (row["proname"] not in WITHOUT_SEARCH_PATH), row["proname"]


async def test_role_without_usage_cannot_enqueue(connection: asyncpg.Connection, role: str) -> None:
    await connection.execute(f"set role {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("select app_jobs.add_job('x')")


async def test_functions_do_not_use_objects_of_the_caller(jobs: Jobs, role: str) -> None:
    connection = jobs.connection
    await connection.execute(f"create schema trap authorization {role}")
    await migrate(connection, "app_jobs", grants=Grants(enqueue=(role,), worker=(role,)))
    await connection.execute(f"set role {role}")
    await connection.execute(
        """
        create function trap.now() returns timestamptz language plpgsql as $$ begin raise 'trapped'; end $$;
        create function trap.pg_notify(text, text) returns void language plpgsql as $$ begin raise 'trapped'; end $$;
        create function trap.current_setting(text, boolean) returns text language plpgsql
            as $$ begin raise 'trapped'; end $$;
        create function trap.unnest(bigint[], int[]) returns table (job_id bigint, attempt int) language plpgsql
            as $$ begin raise 'trapped'; end $$;
        create function trap.length(text) returns int language plpgsql as $$ begin raise 'trapped'; end $$;
        create function trap.is_less(int, int) returns boolean language plpgsql as $$ begin raise 'trapped'; end $$;
        create operator trap.< (function = trap.is_less, leftarg = int, rightarg = int);
        create temporary table jobs (id bigint);
        create temporary table queue_locks (queue_name text);
        """
    )
    await connection.execute("set search_path = trap, pg_temp, app_jobs, pg_catalog")
    for call in (
        "add_job('x', '{}', 'k', 'q')",
        "get_job('worker')",
        "renew_leases('worker', '{1}', '{1}', '1 hour')",
        "fail_job('worker', 1, 'boom')",
    ):
        await connection.execute(f"select app_jobs.{call}")
    await connection.execute("reset role")
    await connection.execute("reset search_path")
    assert await jobs.count() == 1


async def test_deletion_of_a_running_job_unlocks_its_queue_for_every_role(jobs: Jobs, role: str) -> None:
    await jobs.add("x", queue_name="q")
    following = await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute(f"grant usage on schema app_jobs to {role}")
    await jobs.connection.execute(f"grant select, delete on app_jobs.jobs to {role}")
    await jobs.connection.execute(f"set role {role}")
    await jobs.connection.execute("delete from app_jobs.jobs where locked_by is not null")
    await jobs.connection.execute("reset role")
    assert await jobs.claim_id() == following
