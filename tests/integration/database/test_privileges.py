"""Least privilege: what a role that enqueues, one that works, and everybody else can and cannot do."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import MIN_MAINTAIN_SERVER_VERSION, Grants
from jobfn.database.vacuum_table import JobsTable
from jobfn.http.server import HttpServer, bind
from jobfn.service import run_service
from jobfn.worker.settings import ServiceSettings
from support.commands import Command
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import LOOPBACK, eventually

ENQUEUER_CALLS = frozenset({"add_job", "add_jobs", "add_scheduled_job"})
WORKER_CALLS = frozenset(
    {
        *("claim_jobs", "next_run_at", "renew_leases", "heartbeat_job", "mark_accepted"),
        *("reap_expired_jobs", "settle_jobs"),
        "settle_jobs_with_results",
        *("get_job", "complete_job", "fail_job", "release_jobs", "reclaim_jobs"),
        *("get_scheduled_job", "run_scheduled_job", "release_scheduled_jobs", "advance_schedule"),
        *("set_history_retention", "prune_job_runs", "heartbeat_worker", "deregister_worker"),
    }
)
#: What else is in the schema, and nobody but its owner may call: parts of the above, and what people steer by.
OWNERS_CALLS = frozenset(
    {
        *("insert_job", "insert_scheduled_job", "jwt_claim", "is_uuid", "lock_idle_jobs"),
        "job_result",
        *(
            "ready_jobs",
            "ready_jobs_of_task",
            "ready_jobs_of_any_task",
            "ready_task_identifiers",
            "settle_mixed_jobs",
            "ready_queues",
            "ready_queue_heads",
            "try_lock_queue",
            "is_queue_locked",
            "complete_jobs",
            "permanently_fail_jobs",
            "reschedule_jobs",
            "cancel_jobs",
            "retry_jobs",
            "history_enabled",
        ),
        *("tg_notify", "tg_write_job_queues", "tg_unlock_queue", "tg_reset_due_at", "tg_record_lost_run"),
    }
)
SCHEDULE_COLUMNS = (
    *("id", "task_identifier", "key", "schedule_info", "due_at"),
    *("rule_changed_at", "last_scheduled", "locked_by", "priority"),
)


@dataclass(frozen=True)
class Role:
    """A login role of the server."""

    name: str
    dsn: str


@contextlib.asynccontextmanager
async def login_role(owner: "asyncpg.Connection[Any]", dsn: str, *, name: str | None = None) -> AsyncIterator[Role]:
    name, password = name or f"jobfn_test_{secrets.token_hex(8)}", secrets.token_hex(16)
    quoted = '"' + name.replace('"', '""') + '"'
    await owner.execute(f"create role {quoted} login password '{password}'")
    scheme, _, rest = dsn.partition("://")
    try:
        yield Role(name, f"{scheme}://{quote(name)}:{password}@{rest.rpartition('@')[2]}")
    finally:
        await owner.execute(f"drop owned by {quoted}")
        await owner.execute(f"drop role {quoted}")


@pytest.fixture
async def stranger(connection: "asyncpg.Connection[Any]", database: str) -> AsyncIterator[Role]:
    """A role that was granted nothing but USAGE on the schema."""
    async with login_role(connection, database) as role:
        await connection.execute(f"grant usage on schema app_jobs to {role.name}")
        yield role


@pytest.fixture
async def enqueuer(connection: "asyncpg.Connection[Any]", database: str) -> AsyncIterator[Role]:
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(enqueue=(role.name,)))
        yield role


@pytest.fixture
async def worker(connection: "asyncpg.Connection[Any]", database: str) -> AsyncIterator[Role]:
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(worker=(role.name,)))
        yield role


async def callable_by(connection: "asyncpg.Connection[Any]", role: str) -> set[str]:
    """The functions of the schema that a role may execute."""
    rows = await connection.fetch(
        "select proname from pg_proc where pronamespace = 'app_jobs'::regnamespace"
        " and has_function_privilege($1::text, oid, 'execute')",
        role,
    )
    return {row["proname"] for row in rows}


async def rights_on_tables(connection: "asyncpg.Connection[Any]", role: str) -> set[tuple[str, str | None, str]]:
    """Table, column (None: all) and right, of what a role was granted anywhere in the database."""
    rows = await connection.fetch(
        """
        select c.relname, null as attname, a.privilege_type
        from pg_class c cross join aclexplode(c.relacl) a where a.grantee = $1::text::regrole
        union all
        select c.relname, t.attname, a.privilege_type
        from pg_class c join pg_attribute t on t.attrelid = c.oid cross join aclexplode(t.attacl) a
        where a.grantee = $1::text::regrole
        """,
        role,
    )
    return {tuple(row) for row in rows}


def can_be_granted_vacuum(connection: "asyncpg.Connection[Any]") -> bool:
    """Whether this server lets a role vacuum a table that is not its own."""
    major: int = connection.get_server_version().major
    return major >= MIN_MAINTAIN_SERVER_VERSION


async def test_every_function_is_known_to_be_somebodys(connection: "asyncpg.Connection[Any]") -> None:
    """A new function of the schema is for enqueuers, for workers or for the owner: these tests say which."""
    rows = await connection.fetch("select proname from pg_proc where pronamespace = 'app_jobs'::regnamespace")
    assert {row["proname"] for row in rows} == ENQUEUER_CALLS | WORKER_CALLS | OWNERS_CALLS


async def test_everybody_may_call_nothing(connection: "asyncpg.Connection[Any]", stranger: Role) -> None:
    """With USAGE on the schema and no more, every function is closed."""
    assert await callable_by(connection, stranger.name) == set()


async def test_an_enqueuer_may_call_the_ways_in(connection: "asyncpg.Connection[Any]", enqueuer: Role) -> None:
    """Every form of add_job and add_scheduled_job, and nothing else; no right on any table."""
    assert await callable_by(connection, enqueuer.name) == ENQUEUER_CALLS
    assert await rights_on_tables(connection, enqueuer.name) == set()


async def test_a_worker_may_call_what_works(connection: "asyncpg.Connection[Any]", worker: Role) -> None:
    """The functions of worker, callback server and scheduler; of the tables, when what is due, and no payload.

    And to vacuum the jobs table, where that is a right of its own.
    """
    assert await callable_by(connection, worker.name) == WORKER_CALLS
    assert await rights_on_tables(connection, worker.name) == {
        *([("jobs", None, "MAINTAIN")] if can_be_granted_vacuum(connection) else []),
        *(("jobs", column, "SELECT") for column in ("run_at", "exhausted", "locked_at")),
        *(("scheduled_jobs", column, "SELECT") for column in SCHEDULE_COLUMNS),
        ("scheduled_jobs", "locked_at", "UPDATE"),
    }


@pytest.mark.parametrize(
    "call",
    [
        "add_job('x')",
        "add_job('x', '{}', 'k', 'q')",
        "add_job('x', '{}'::json)",
        "add_job(gen_random_uuid(), 'x')",
        "add_scheduled_job('x', '0 9 * * *')",
        "add_scheduled_job('x', '{}'::json, '{\"hour\": 9}'::json)",
        "add_scheduled_job(gen_random_uuid(), 'x', '{}', '{\"hour\": 9}')",
    ],
)
async def test_an_enqueuer_enqueues(enqueuer: Role, call: str) -> None:
    """Every form that people write works as that role."""
    connection = await asyncpg.connect(enqueuer.dsn)
    try:
        assert await connection.fetchval("select current_user") == enqueuer.name
        row = await connection.fetchrow(f"select * from app_jobs.{call}")
    finally:
        await connection.close()
    assert row is not None
    assert row["task_identifier"] == "x"


FORBIDDEN_TO_BOTH = [
    "select payload from app_jobs.jobs",
    "select payload from app_jobs.scheduled_jobs",
    "update app_jobs.scheduled_jobs set schedule_info = '{}'",
    "delete from app_jobs.scheduled_jobs",
    "select * from app_jobs.job_queues",
    "select * from app_jobs.jobfn_migrations",
    "insert into app_jobs.jobs (task_identifier) values ('x')",
    "update app_jobs.jobs set payload = '{}'",
    "delete from app_jobs.jobs",
    "delete from app_jobs.queue_locks",
    "truncate app_jobs.jobs",
    "drop table app_jobs.jobs",
    "alter table app_jobs.jobs add column x int",
    "create table app_jobs.x ()",
    "create function app_jobs.x() returns int language sql as 'select 1'",
    "create or replace function app_jobs.get_job() returns int language sql as 'select 1'",
    "select nextval('app_jobs.jobs_id_seq')",
    "select app_jobs.insert_job(null, null, null, 'x', '{}', null, null, now(), 1, 0)",
    "select app_jobs.complete_jobs('{1}')",
    "select app_jobs.permanently_fail_jobs('{1}')",
    "select app_jobs.reschedule_jobs('{1}')",
    "select * from public.users",
]
FORBIDDEN = {
    "enqueuer": [
        *FORBIDDEN_TO_BOTH,
        "select run_at from app_jobs.jobs",
        "select app_jobs.get_job('worker')",
        "select app_jobs.complete_job('worker', 1)",
        "select app_jobs.fail_job('worker', 1, 'x')",
        "select app_jobs.run_scheduled_job(1)",
    ],
    "worker": [
        *FORBIDDEN_TO_BOTH,
        "select app_jobs.add_job('x')",
        "select app_jobs.add_scheduled_job('x', '0 9 * * *')",
    ],
}


@pytest.mark.parametrize("kind", ["enqueuer", "worker"])
async def test_what_each_role_cannot_do(kind: str, enqueuer: Role, worker: Role, jobs: Jobs) -> None:
    """Reading payloads, writing, DDL, TRUNCATE, the other one's functions, other schemas: all are refused."""
    await jobs.add("t")
    await jobs.connection.execute("create table public.users ()")
    connection = await asyncpg.connect({"enqueuer": enqueuer, "worker": worker}[kind].dsn)
    try:
        for statement in FORBIDDEN[kind]:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
    assert await jobs.count() == 1


@contextlib.asynccontextmanager
async def serving(function: RecordingFunction) -> AsyncIterator[str]:
    """Serve a function meanwhile; gives its URL."""
    server = HttpServer(function.app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1)
    await server.start()
    try:
        yield f"http://{LOOPBACK}:{server.port}"
    finally:
        await server.stop()


@contextlib.asynccontextmanager
async def at_work(role: Role, gateway_url: str) -> AsyncIterator[None]:
    """Run a service as this role meanwhile."""
    listener = bind(LOOPBACK, 0)
    stop = asyncio.Event()
    settings = ServiceSettings.from_environ(
        {},
        database_url=role.dsn,
        gateway_url=gateway_url,
        own_callback_url=f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback",
        worker_id=WORKER,
        lease_seconds=1.0,  # so that renewing and burying run, too
        report_grace_seconds=0.0,
    )
    running = asyncio.create_task(run_service(settings, stop, listener=listener))
    try:
        yield
    finally:
        stop.set()
        await asyncio.wait_for(running, 10)


async def test_the_whole_path_runs_as_a_worker_role(worker: Role, jobs: Jobs) -> None:
    """run_service as that role claims, renews, reaps, settles, releases and makes scheduled jobs."""
    function = RecordingFunction()
    done, later = await jobs.add("t"), await jobs.add("t", queue_name="q")
    await jobs.connection.execute(
        "update app_jobs.jobs set run_at = now() + interval '300 milliseconds' where id = $1", later
    )
    async with serving(function) as url, at_work(worker, url):
        await jobs.until_gone(done, later)
        function.respond(500, {"message": "boom"})
        failed = await jobs.add("t")
        assert (await jobs.until_failed(failed))["last_error"] == "boom"
        gate = function.hold()
        held = await jobs.add("t")
        lease = (await jobs.until_held(held))["lease_expires_at"]

        async def renewed() -> bool:
            row = await jobs.row(held)
            return row is not None and row["lease_expires_at"] > lease

        await eventually(renewed)
        gate.set()
        await jobs.until_gone(held)
        function.received.clear()
        await jobs.connection.execute("select app_jobs.add_scheduled_job('by_schedule', '* * * * * *')")

        async def scheduled() -> bool:
            return any(received.path == "/by_schedule" for received in function.received)

        await eventually(scheduled)

        async def says_that_it_works() -> bool:
            return bool(await jobs.connection.fetchval("select count(*) from app_jobs.workers"))

        await eventually(says_that_it_works)
        assert await jobs.connection.fetchval("select count(*) from app_jobs.job_runs where worker = $1", WORKER) >= 3


async def test_who_may_vacuum_is_told_beforehand(worker: Role, enqueuer: Role, database: str, jobs: Jobs) -> None:
    """The owner, and the worker where the server has that right; the others are told so, and try nothing."""
    granted = can_be_granted_vacuum(jobs.connection)
    for dsn, allowed in ((database, True), (worker.dsn, granted), (enqueuer.dsn, False)):
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            table = JobsTable(pool, "app_jobs", dsn=dsn)
            assert (await table.state(min_dead_rows=0)).is_allowed is allowed
            before = await vacuum_count(jobs)
            await table.vacuum()  # the server refuses it by a warning, and does nothing
            assert await vacuum_count(jobs) == before + allowed


async def vacuum_count(jobs: Jobs) -> int:
    """How often the jobs table was vacuumed, by others than autovacuum."""
    count: int = await jobs.connection.fetchval(
        "select vacuum_count from pg_stat_user_tables where relid = 'app_jobs.jobs'::regclass"
    )
    return count


async def test_a_service_that_may_not_vacuum_says_so_and_works(
    worker: Role, database: str, jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with what to do, when there is something to vacuum; jobs run on."""
    if can_be_granted_vacuum(jobs.connection):
        await jobs.connection.execute(f"revoke maintain on app_jobs.jobs from {worker.name}")
    await jobs.connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")
    filling = await asyncpg.connect(database)
    await filling.execute(
        "insert into app_jobs.jobs (task_identifier, run_at) select 'dead', 'infinity' from generate_series(1, 60000)"
    )
    await filling.execute("delete from app_jobs.jobs")
    await filling.close()
    async with serving(RecordingFunction()) as url, at_work(worker, url):
        said = ""

        async def told() -> bool:
            nonlocal said
            await jobs.until_gone(await jobs.add("t"))
            captured = capsys.readouterr()
            said += captured.out + captured.err
            return "may not vacuum" in said

        await eventually(told)
        assert "--grant-worker" in said
        await jobs.until_gone(await jobs.add("t"))
    assert await vacuum_count(jobs) == 0


async def test_a_worker_role_calls_all_of_the_contracts_functions(worker: Role, jobs: Jobs) -> None:
    """What the platform's own worker and scheduler call, one by one, works as that role on named queues too."""
    await jobs.add("x", queue_name="q")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('x', '0 9 * * *')")
    connection = await asyncpg.connect(worker.dsn)
    try:
        for call in (
            "get_job('worker')",
            "release_jobs('worker')",
            "get_job('worker')",
            "complete_job('worker', 1)",
            "get_scheduled_job('scheduler')",
            "run_scheduled_job(1)",
            "release_scheduled_jobs('scheduler')",
            "get_job('worker')",
            "fail_job('worker', 2, 'boom')",
        ):
            await connection.execute(f"select app_jobs.{call}")
    finally:
        await connection.close()
    row = await jobs.row(2)
    assert row is not None
    assert (row["last_error"], row["locked_by"]) == ("boom", None)


@pytest.mark.parametrize("name", ['a "quoted" role', "drop schema app_jobs cascade; --", "@schema@", "Ünïcode '$$'"])
async def test_any_name_is_only_a_name(
    name: str, connection: "asyncpg.Connection[Any]", database: str, command: Command
) -> None:
    """Whatever characters a role's name holds, it gets its rights, twice as well as once, and nothing else happens."""
    async with login_role(connection, database, name=name):
        options = ("--grant-enqueue", name, "--grant-worker", name, "--database-url", database)
        for _ in range(2):
            ended = await command("jobfn", "db", "migrate", *options)
            assert (ended.code, f"granted to {name}: add jobs and schedules" in ended.output) == (0, True), ended.output
        assert await callable_by(connection, name) == ENQUEUER_CALLS | WORKER_CALLS


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody_has_this_name", "role 'nobody_has_this_name' does not exist"),
        ("public", "public means every role"),
        ("", "'' is not a role name"),
        ("x" * 64, "is not a role name"),
        ("x; drop schema app_jobs", "role 'x; drop schema app_jobs' does not exist"),
    ],
)
async def test_an_unknown_role_is_named_and_nothing_is_applied(
    name: str, message: str, empty_database: str, command: Command
) -> None:
    """One line, exit code 2, and not even the migrations were applied."""
    ended = await command(
        *("jobfn", "db", "migrate", "--grant-enqueue", "postgres", "--grant-worker", name),
        *("--database-url", empty_database),
    )
    assert (ended.code, message in ended.output, ended.output.count("\n")) == (2, True, 0), ended.output
    connection = await asyncpg.connect(empty_database)
    try:
        assert await connection.fetchval("select to_regnamespace('app_jobs')") is None
    finally:
        await connection.close()


async def test_who_may_not_look_is_told_so(worker: Role, command: Command) -> None:
    """db status and db migrate as a worker's role: one line, exit code 1."""
    for verb in ("status", "migrate"):
        ended = await command("jobfn", "db", verb, "--database-url", worker.dsn)
        assert (ended.code, ended.output.count("\n")) == (1, 0), ended.output
        assert "as its owner" in ended.output
