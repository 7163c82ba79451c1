"""Definer functions are closed to a caller's search_path, and the schema to who was granted nothing."""

import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.jobs import Jobs

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
    assert {row["proname"] for row in rows if row["prosecdef"]} >= {*ENQUEUES, "claim_jobs", "complete_job"}
    for row in rows:
        assert "search_path=pg_catalog, pg_temp" in (row["proconfig"] or []), row["proname"]


async def test_without_usage_nothing_is_enqueued(connection: "asyncpg.Connection[Any]", role: str) -> None:
    """The schema itself is the door."""
    await connection.execute(f"set role {role}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("select app_jobs.add_job('x')")


async def test_a_callers_own_objects_do_not_stand_in_for_ours(jobs: Jobs, role: str) -> None:
    """Functions and tables of the caller's, first in its search_path or temporary, are never used by the definer."""
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
        create temporary table jobs (id bigint);
        create temporary table queue_locks (queue_name text);
        """
    )
    await connection.execute("set search_path = trap, pg_temp, app_jobs, pg_catalog")
    await connection.execute("select app_jobs.add_job('x', '{}', 'k', 'q')")
    await connection.execute("select app_jobs.get_job('worker')")
    await connection.execute("select app_jobs.renew_leases('worker', '{1}', '{1}', '1 hour')")
    await connection.execute("select app_jobs.fail_job('worker', 1, 'boom')")
    await connection.execute("reset role")
    await connection.execute("reset search_path")
    assert await jobs.count() == 1


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
