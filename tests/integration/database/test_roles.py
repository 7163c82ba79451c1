"""Who may do what: definer functions are closed to a caller's search_path, and add_job needs no more than USAGE."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from support import Jobs

ENQUEUES = {"add_job", "add_scheduled_job"}


@pytest.fixture
async def role(connection: "asyncpg.Connection[Any]") -> AsyncIterator[str]:
    """A role that owns nothing and is granted nothing."""
    name = f"jobfn_test_{uuid.uuid4().hex[:12]}"
    await connection.execute(f"create role {name}")
    yield name
    await connection.execute("reset role")
    await connection.execute(f"drop owned by {name}")
    await connection.execute(f"drop role {name}")


async def test_every_function_sets_its_search_path(connection: "asyncpg.Connection[Any]") -> None:
    """Definer or not: what a name means in a function is decided here, with pg_temp last."""
    rows = await connection.fetch(
        "select proname, prosecdef, proconfig from pg_proc where pronamespace = 'app_jobs'::regnamespace"
    )
    assert {row["proname"] for row in rows if row["prosecdef"]} >= ENQUEUES
    for row in rows:
        assert "search_path=pg_catalog, pg_temp" in (row["proconfig"] or []), row["proname"]


@pytest.mark.parametrize(
    "call",
    [
        "add_job('x', '{}', 'k', 'q')",
        "add_job('x', '{}'::json)",
        "add_job(gen_random_uuid(), 'x')",
        "add_scheduled_job('x', '0 9 * * *')",
        "add_scheduled_job('x', '{}'::json, '{\"hour\": 9}'::json)",
        "add_scheduled_job(gen_random_uuid(), 'x', '{}', '{\"hour\": 9}')",
    ],
)
async def test_usage_is_enough_to_enqueue(connection: "asyncpg.Connection[Any]", role: str, call: str) -> None:
    """A role with USAGE on the schema, and EXECUTE as everybody has it, enqueues without any right on the tables."""
    await connection.execute(f"grant usage on schema app_jobs to {role}")
    await connection.execute(f"set role {role}")
    row = await connection.fetchrow(f"select * from app_jobs.{call}")
    assert row is not None
    assert row["task_identifier"] == "x"
    for statement in ("select from app_jobs.jobs", "select app_jobs.get_job('worker')", "delete from app_jobs.jobs"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)


async def test_without_usage_nothing_is_enqueued(connection: "asyncpg.Connection[Any]", role: str) -> None:
    """The schema itself is the door."""
    await connection.execute(f"set role {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("select app_jobs.add_job('x')")


async def test_a_callers_own_objects_do_not_stand_in_for_ours(jobs: Jobs, role: str) -> None:
    """Functions and tables of the caller's, first in its search_path or temporary, are never used by the definer."""
    connection = jobs.connection
    await connection.execute(f"create schema trap authorization {role}")
    await connection.execute(f"grant usage on schema app_jobs to {role}")
    await connection.execute(f"set role {role}")
    await connection.execute(
        """
        create function trap.now() returns timestamptz language plpgsql as $$ begin raise 'trapped'; end $$;
        create function trap.pg_notify(text, text) returns void language plpgsql as $$ begin raise 'trapped'; end $$;
        create function trap.current_setting(text, boolean) returns text language plpgsql
            as $$ begin raise 'trapped'; end $$;
        create temporary table jobs (id bigint);
        """
    )
    await connection.execute("set search_path = trap, pg_temp, app_jobs, pg_catalog")
    await connection.execute("select app_jobs.add_job('x', '{}', 'k', 'q')")
    await connection.execute("reset role")
    await connection.execute("reset search_path")
    assert await jobs.count() == 1


async def test_a_worker_needs_rights_on_the_tables_only(connection: "asyncpg.Connection[Any]", role: str) -> None:
    """With the usual grants on all tables and sequences of the schema a role can do all that a worker does."""
    await connection.execute(
        f"""
        grant usage on schema app_jobs to {role};
        grant select, insert, update, delete on all tables in schema app_jobs to {role};
        grant usage on all sequences in schema app_jobs to {role};
        """
    )
    await connection.execute("select app_jobs.add_job('x', queue_name := 'q')")
    await connection.execute("select app_jobs.add_scheduled_job('x', '0 9 * * *')")
    await connection.execute(f"set role {role}")
    for call in (
        "get_job('worker')",
        "fail_job('worker', 1, 'boom')",
        "reschedule_jobs('{1}', run_at := now())",
        "get_job('worker')",
        "release_jobs('worker')",
        "get_job('worker')",
        "complete_job('worker', 1)",
        "get_scheduled_job('scheduler')",
        "run_scheduled_job(1)",
        "release_scheduled_jobs('scheduler')",
    ):
        await connection.execute(f"select app_jobs.{call}")
    assert await connection.fetchval("select count(*) from app_jobs.job_queues where locked_by is not null") == 0


async def test_rights_on_jobs_alone_free_a_queue(jobs: Jobs, role: str) -> None:
    """Who may delete a running job need know nothing of queue_locks: its queue is free all the same."""
    await jobs.add("x", queue_name="q")
    following = await jobs.add("x", queue_name="q")
    await jobs.claim()
    await jobs.connection.execute(f"grant usage on schema app_jobs to {role}")
    await jobs.connection.execute(f"grant select, delete on app_jobs.jobs to {role}")
    await jobs.connection.execute(f"set role {role}")
    await jobs.connection.execute("delete from app_jobs.jobs where locked_by is not null")
    await jobs.connection.execute("reset role")
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == following
