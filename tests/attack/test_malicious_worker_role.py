"""A role that may run a worker (``--grant-worker``), and wants more than that.

It is trusted with the progress of all jobs: it may claim and settle any. It must not read payloads without claiming,
add jobs, write to tables, or get the rights of the schema's owner.
"""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.attack import ATTACKERS, StartProduction
from support.fixtures import ConnectTo
from support.jobs import WORKER, Jobs
from support.roles import Role, login_role

SECRET = "the-secret"
#: Functions that the role may execute, with the types of their arguments.
EXECUTABLE = """
    select p.proname::text as name, p.prosecdef as is_definer, array_to_string(p.proconfig, ';') as settings,
        array(select format_type(type, null) from unnest(p.proargtypes) with ordinality as t (type, n) order by n)
            as arguments
    from pg_proc p
    where p.pronamespace = 'app_jobs'::regnamespace and has_function_privilege($1::text, p.oid, 'execute')
"""
#: A value of each type of argument.
VALUES = {
    "text": "'nobody'",
    "text[]": "'{nobody}'",
    "bigint": "1",
    "bigint[]": "'{1}'",
    "integer": "1",
    "integer[]": "'{1}'",
    "interval": "'1 second'",
    "interval[]": "'{1 second}'",
    "boolean": "true",
    "real": "0.5",
    "double precision": "1",
    "double precision[]": "'{1}'",
    "json[]": "'{null}'",
    "timestamp with time zone": "'2030-01-01'",
}
#: Statements that read payloads, add jobs, or write, by any way but claims.
FORBIDDEN = (
    "select payload from app_jobs.jobs",
    "select task_identifier, last_error, key, locked_by from app_jobs.jobs",
    "select * from app_jobs.jobs",
    "select j from app_jobs.jobs j",
    "select count(*) from app_jobs.jobs where payload::text like '%secret%'",
    "copy app_jobs.jobs to stdout",
    "copy app_jobs.jobs (payload) to stdout",
    "select payload from app_jobs.scheduled_jobs",
    "select * from app_jobs.job_results",
    "select * from app_jobs.job_runs",
    "select app_jobs.job_result(1)",
    "select app_jobs.add_job('x')",
    "select app_jobs.add_jobs('x', array['{}'::json])",
    "select app_jobs.add_scheduled_job('x', '* * * * *')",
    "select app_jobs.retry_jobs('{1}')",
    "select app_jobs.remove_job('k')",
    "select app_jobs.force_unlock_workers('{w}')",
    "insert into app_jobs.jobs (task_identifier) values ('x')",
    "insert into app_jobs.scheduled_jobs (task_identifier, schedule_info) values ('x', '{}')",
    "update app_jobs.jobs set run_at = now()",
    "update app_jobs.scheduled_jobs set payload = '{}'",
    "update app_jobs.scheduled_jobs set due_at = now()",
    "delete from app_jobs.jobs",
    "delete from app_jobs.scheduled_jobs",
    "delete from app_jobs.job_runs",
    "insert into app_jobs.job_results (job_id, expires_at) values (1, now())",
    "update app_jobs.history_settings set retention = '0'",
    "insert into app_jobs.jobfn_migrations select 9999",
    "delete from app_jobs.workers",
    "truncate app_jobs.jobs",
    "alter table app_jobs.jobs disable trigger all",
    "create trigger t after insert on app_jobs.jobs execute function app_jobs.tg_notify('x')",
    "create index on app_jobs.jobs ((payload::text))",
    "create rule r as on select to app_jobs.jobs do instead nothing",
    "create policy p on app_jobs.jobs",
    "comment on table app_jobs.jobs is 'x'",
    "create statistics app_jobs.s on id, payload from app_jobs.jobs",
    "grant select on app_jobs.job_runs to public",
    "alter function app_jobs.get_job(text, text[], interval) security invoker",
    "create function app_jobs.now() returns timestamptz language sql as 'select null::timestamptz'",
    "set session authorization postgres",
    "set role postgres",
    "create role x superuser",
    "select pg_read_file('/etc/passwd')",
    "copy (select 1) to program 'id'",
    "load '/tmp/x.so'",
    "alter system set fsync = off",
)


@pytest.fixture
async def worker(jobs: Jobs, database: str) -> AsyncIterator[Role]:
    async with login_role(jobs.connection, database) as role:
        await migrate(jobs.connection, "app_jobs", grants=Grants(worker=(role.name,)))
        yield role


async def test_only_claims_show_payloads_and_nothing_writes(worker: Role, jobs: Jobs, connect_to: ConnectTo) -> None:
    await jobs.add("t", {"text": SECRET}, job_key="k")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('t', '0 9 * * *', '{\"text\": \"the-secret\"}')")
    before = await jobs.connection.fetch("select * from app_jobs.jobs")
    connection = await connect_to(worker.dsn)
    for statement in FORBIDDEN:
        with pytest.raises(asyncpg.InsufficientPrivilegeError) as caught:
            await connection.execute(statement)
        assert SECRET not in str(caught.value)
    assert await jobs.connection.fetch("select * from app_jobs.jobs") == before
    assert (await connection.fetchrow("select payload from app_jobs.get_job($1)", WORKER))[
        0
    ] == '{"text": "the-secret"}'


#: Objects that unqualified names in the schema's functions would mean, if the search path were the caller's.
TRAPS = """
    create function evil.spring() returns boolean language plpgsql as
        $$ begin raise notice 'evil as %', current_user; return true; end $$;
    create function evil.now() returns timestamptz language sql as
        $$ select clock_timestamp() where evil.spring() $$;
    create function evil.length(text) returns int language sql as $$ select 9 where evil.spring() $$;
    create function evil.pg_notify(text, text) returns void language sql as $$ select evil.spring() $$;
    create function evil.hashtextextended(text, bigint) returns bigint language sql as
        $$ select 1::bigint where evil.spring() $$;
    create function evil.text_equals(text, text) returns boolean language sql as $$ select evil.spring() $$;
    create function evil.bigint_equals(bigint, bigint) returns boolean language sql as $$ select evil.spring() $$;
    create function evil.time_less(timestamptz, timestamptz) returns boolean language sql as $$ select evil.spring() $$;
    create operator evil.= (function = evil.text_equals, leftarg = text, rightarg = text);
    create operator evil.= (function = evil.bigint_equals, leftarg = bigint, rightarg = bigint);
    create operator evil.< (function = evil.time_less, leftarg = timestamptz, rightarg = timestamptz);
    create temp table jobs (id bigint, queue_name text, payload json);
    create temp table queue_locks (queue_name text, locked_by text);
"""


async def test_functions_run_no_code_of_the_role(worker: Role, jobs: Jobs, connect_to: ConnectTo) -> None:
    """Names that a function could find in the caller's schemas exist there, and report whose rights they have."""
    await jobs.connection.execute(f"create schema evil authorization {worker.name}")
    for count in (1, 50):
        await jobs.connection.execute(
            f"select app_jobs.add_job('t', queue_name := 'q') from generate_series(1, {count})"
        )
    notices: set[str] = set()
    connection = await connect_to(worker.dsn)
    connection.add_log_listener(lambda _, message: notices.add(message.message))
    await connection.execute(TRAPS)
    functions = await jobs.connection.fetch(EXECUTABLE, worker.name)
    await connection.execute("set search_path = evil, pg_temp, pg_catalog, app_jobs")
    failed: dict[str, str] = {}
    for function in functions:
        assert function["settings"].split(";")[0] == "search_path=pg_catalog, pg_temp", function["name"]
        assert function["is_definer"], function["name"]
        arguments = ", ".join(VALUES[type_] for type_ in function["arguments"])
        try:
            await connection.execute(f"select app_jobs.{function['name']}({arguments})")
        except asyncpg.PostgresError as error:
            failed[function["name"]] = str(error)
    assert notices == set()
    assert len(functions) >= 25
    assert failed == {}
    await connection.execute("select now()")
    assert notices == {f"evil as {worker.name}"}


async def test_honest_jobs_run_while_a_worker_role_calls_everything_but_claims(
    start_production: StartProduction, worker: Role, jobs: Jobs
) -> None:
    """Settlements of jobs that it does not hold, heartbeats of processes that do not exist, and refused statements."""
    production = await start_production()
    functions = await jobs.connection.fetch(EXECUTABLE, worker.name)
    calls = [
        f"select app_jobs.{function['name']}({', '.join(VALUES[type_] for type_ in function['arguments'])})"
        for function in functions
        if not function["name"].startswith(("claim", "get_", "reap", "set_"))
    ]
    async with asyncpg.create_pool(worker.dsn, min_size=ATTACKERS, max_size=ATTACKERS) as pool:

        async def attack() -> None:
            for statement in (*calls, *FORBIDDEN):
                with contextlib.suppress(asyncpg.PostgresError):
                    await pool.execute(statement)

        await production.withstands(attack)
