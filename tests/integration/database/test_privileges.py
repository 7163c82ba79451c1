"""Privileges of roles that enqueue, roles of workers, and other roles."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.database.migrate import migrate, migration_files
from jobfn.database.privileges import MIN_MAINTAIN_SERVER_VERSION, Grants
from jobfn.database.vacuum_table import JobsTable
from support.commands import Command
from support.fixtures import Connect, ConnectTo, Serve, StartService
from support.functions import RecordingFunction
from support.jobs import Jobs
from support.migrations import migrate_to
from support.network import eventually
from support.roles import Role, login_role, temporary_role

ENQUEUE_FUNCTIONS = frozenset(
    {
        *("add_job", "add_jobs", "add_scheduled_job", "add_job_after", "signal", "signal_jobs", "add_batch"),
        *("add_unique_job", "add_unique_jobs", "add_debounced_job", "set_default_expiry"),
    }
)
WORKER_FUNCTIONS = frozenset(
    {
        *(
            "get_job",
            "claim_jobs",
            "claim_jobs_of_queues",
            "has_lease",
            "next_run_at",
            "renew_leases",
            "record_learned_attempts",
            "cancelled_jobs",
            "end_cancelled_run",
            "expire_jobs",
            "heartbeat_job",
            "mark_accepted",
        ),
        *("complete_job", "fail_job", "settle_jobs", "settle_jobs_with_results", "snooze_jobs", "installation_id"),
        *("settle_jobs_with_tracebacks", "prune_job_tracebacks", "prune_audit_log"),
        *("callback_secret", "is_locked_without_lease", "same_jobs"),
        *("record_steps", "load_steps", "park_jobs", "paused_jobs"),
        *("release_jobs", "reclaim_jobs", "reap_expired_jobs"),
        *("get_scheduled_job", "run_scheduled_job", "release_scheduled_jobs", "advance_schedule"),
        "end_schedule_pauses",
        *("set_history_retention", "create_job_runs_partitions", "prune_job_runs"),
        *("set_completed_payload_retention", "prune_completed_jobs", "prune_failed_jobs", "prune_unique_jobs"),
        *("heartbeat_worker", "deregister_worker", "sweep_limits", "pause_limits_of_job", "limit_usage"),
    }
)
SCHEDULE_COLUMNS = (
    *("id", "task_identifier", "key", "schedule_info", "due_at"),
    *("rule_changed_at", "last_scheduled", "locked_by", "priority", "paused_at", "paused_until", "last_error"),
)


@pytest.fixture
async def other(connection: asyncpg.Connection, database: str) -> AsyncIterator[Role]:
    """A role that may use the schema, and has no grants of jobfn."""
    async with login_role(connection, database) as role:
        await connection.execute(f"grant usage on schema app_jobs to {role.name}")
        yield role


@pytest.fixture
async def enqueuer(connection: asyncpg.Connection, database: str) -> AsyncIterator[Role]:
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(enqueue=(role.name,)))
        yield role


@pytest.fixture
async def worker(connection: asyncpg.Connection, database: str) -> AsyncIterator[Role]:
    async with login_role(connection, database) as role:
        await migrate(connection, "app_jobs", grants=Grants(worker=(role.name,)))
        yield role


async def executable_functions(connection: asyncpg.Connection, role: str) -> set[str]:
    """Return the functions of the schema that a role may execute."""
    rows = await connection.fetch(
        "select proname from pg_proc where pronamespace = 'app_jobs'::regnamespace"
        " and has_function_privilege($1::text, oid, 'execute')",
        role,
    )
    return {row["proname"] for row in rows}


async def table_privileges(connection: asyncpg.Connection, role: str) -> set[tuple[str, str | None, str]]:
    """Return the table, column (None: all) and privilege of all grants of tables to a role."""
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


def has_maintain_privilege(connection: asyncpg.Connection) -> bool:
    """Return whether this server can grant the vacuum of a table."""
    return bool(connection.get_server_version().major >= MIN_MAINTAIN_SERVER_VERSION)


async def vacuum_count(jobs: Jobs) -> int:
    """Return how often the jobs table was vacuumed, except by autovacuum."""
    count: int = await jobs.connection.fetchval(
        "select vacuum_count from pg_stat_user_tables where relid = 'app_jobs.jobs'::regclass"
    )
    return count


async def test_role_without_grants_can_execute_nothing(connection: asyncpg.Connection, other: Role) -> None:
    assert await executable_functions(connection, other.name) == set()


async def test_enqueuer_can_only_add_jobs_and_schedules(connection: asyncpg.Connection, enqueuer: Role) -> None:
    assert await executable_functions(connection, enqueuer.name) == ENQUEUE_FUNCTIONS
    assert await table_privileges(connection, enqueuer.name) == set()


async def test_worker_can_execute_functions_and_read_due_times(connection: asyncpg.Connection, worker: Role) -> None:
    assert await executable_functions(connection, worker.name) == WORKER_FUNCTIONS
    assert await table_privileges(connection, worker.name) == {
        *([("jobs", None, "MAINTAIN")] if has_maintain_privilege(connection) else []),
        *(
            ("jobs", column, "SELECT")
            for column in ("run_at", "exhausted", "locked_at", "attempts", "parked_attempt", "ended_as")
        ),
        ("pauses", "until", "SELECT"),
        ("held_jobs", "job_id", "SELECT"),
        ("jobfn_migrations", "version", "SELECT"),
        *(("scheduled_jobs", column, "SELECT") for column in SCHEDULE_COLUMNS),
        ("scheduled_jobs", "locked_at", "UPDATE"),
    }


VIEWER_TABLES = (
    *(
        "jobs",
        "job_queues",
        "job_runs",
        "job_tracebacks",
        "audit_log",
        "completed_jobs",
        "job_steps",
        "job_dependencies",
        "job_signals",
        "scheduled_jobs",
        "workers",
        "pauses",
        "tenant_weights",
        "cancelled_runs",
        "history_settings",
        "task_settings",
        "learned_attempts",
        "jobfn_migrations",
        *("limits", "limit_keys", "limit_slots", "limit_starts", "held_jobs"),
    ),
)
OPERATOR_FUNCTIONS = frozenset(
    {
        *(
            "retry_jobs",
            "run_jobs_now",
            "run_jobs_again",
            "cancel_jobs",
            "complete_jobs",
            "permanently_fail_jobs",
            "reschedule_jobs",
        ),
        *("remove_job", "force_unlock_workers", "wake_jobs", "retry_job_from_step", "set_expiry"),
        *("run_scheduled_job", "run_schedule", "pause_schedule", "resume_schedule"),
        *("pause", "resume", "set_tenant_weight"),
        *("set_limit", "remove_limit", "pause_limit_key", "signal_by_operator"),
    }
)


async def test_other_grants_have_exactly_these_rights(connection: asyncpg.Connection) -> None:
    may_look = {(table, None, "SELECT") for table in VIEWER_TABLES}
    for group, functions, tables in (
        ("result", {"job_result"}, set()),
        ("steps", {"record_transaction_step"}, set()),
        ("viewer", {"job_pauses", "explain_wait"}, may_look),
        (
            "operator",
            ENQUEUE_FUNCTIONS | OPERATOR_FUNCTIONS | {"job_pauses", "explain_wait"},
            may_look
            | {("scheduled_jobs", None, "DELETE")}
            | {("task_settings", None, right) for right in ("INSERT", "UPDATE", "DELETE")},
        ),
    ):
        async with temporary_role(connection) as name:
            await migrate(connection, "app_jobs", grants=Grants(**{group: (name,)}))
            assert await executable_functions(connection, name) == functions
            assert await table_privileges(connection, name) == tables


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
async def test_enqueuer_can_use_all_forms_of_a_call(enqueuer: Role, connect_to: ConnectTo, call: str) -> None:
    connection = await connect_to(enqueuer.dsn)
    assert await connection.fetchval("select current_user") == enqueuer.name
    assert await connection.fetchval(f"select (app_jobs.{call}).task_identifier") == "x"


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
FORBIDDEN_TO_ENQUEUER = [
    *FORBIDDEN_TO_BOTH,
    "select run_at from app_jobs.jobs",
    "select app_jobs.get_job('worker')",
    "select app_jobs.complete_job('worker', 1)",
    "select app_jobs.fail_job('worker', 1, 'x')",
    "select app_jobs.run_scheduled_job(1)",
]
FORBIDDEN_TO_WORKER = [
    *FORBIDDEN_TO_BOTH,
    "select app_jobs.add_job('x')",
    "select app_jobs.add_scheduled_job('x', '0 9 * * *')",
]


async def test_other_statements_of_enqueuer_and_worker_are_rejected(
    enqueuer: Role, worker: Role, jobs: Jobs, connect_to: ConnectTo
) -> None:
    await jobs.add("t")
    await jobs.connection.execute("create table public.users ()")
    for role, statements in ((enqueuer, FORBIDDEN_TO_ENQUEUER), (worker, FORBIDDEN_TO_WORKER)):
        connection = await connect_to(role.dsn)
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    assert await jobs.count() == 1


async def test_service_runs_as_a_worker_role(
    worker: Role, jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    async def exists(condition: str) -> bool:
        return bool(await jobs.connection.fetchval(f"select exists (select from app_jobs.{condition})"))

    url = await serve(function.app)
    service = await start_service(url, database_url=worker.dsn, lease_seconds=1.0)  # so that leases are renewed
    await jobs.until_gone(await jobs.add("t"), await jobs.add("t", queue_name="q"))
    function.respond(500, {"message": "boom"})
    failed = await jobs.until_failed(await jobs.add("t"))
    assert failed["last_error"] == "boom"
    gate = function.hold()
    running = await jobs.add("t")
    lease = (await jobs.until_claimed(running))["lease_expires_at"]
    await eventually(lambda: exists(f"jobs where id = {running} and lease_expires_at > '{lease}'"))
    gate.set()
    await jobs.until_gone(running)
    function.received.clear()
    await jobs.connection.execute("select app_jobs.add_scheduled_job('by_schedule', '* * * * * *')")
    await eventually(lambda: exists("job_runs where task_identifier = 'by_schedule'"))
    assert any(received.path == "/by_schedule" for received in function.received)
    assert await exists("workers")
    await service.stop()


async def test_only_owner_and_worker_can_vacuum(worker: Role, enqueuer: Role, database: str, jobs: Jobs) -> None:
    worker_can_vacuum = has_maintain_privilege(jobs.connection)
    for dsn, allowed in ((database, True), (worker.dsn, worker_can_vacuum), (enqueuer.dsn, False)):
        async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
            table = JobsTable(pool, "app_jobs", dsn=dsn)
            assert (await table.state(min_dead_rows=0)).is_allowed is allowed
            if jobs.connection.get_server_version().major < 15:
                continue  # it shows its statistics half a second later
            before = await vacuum_count(jobs)
            await table.vacuum()  # without the privilege, PostgreSQL only warns
            assert await vacuum_count(jobs) == before + allowed


async def test_service_without_the_vacuum_privilege_logs_it_and_runs(
    worker: Role,
    jobs: Jobs,
    connect: Connect,
    function: RecordingFunction,
    serve: Serve,
    start_service: StartService,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if has_maintain_privilege(jobs.connection):
        await jobs.connection.execute(f"revoke maintain on app_jobs.jobs from {worker.name}")
    await jobs.connection.execute("alter table app_jobs.jobs set (autovacuum_enabled = false)")
    writer = await connect()
    await writer.execute(
        "insert into app_jobs.jobs (task_identifier, run_at) select 'dead', 'infinity' from generate_series(1, 60000)"
    )
    await writer.execute("delete from app_jobs.jobs")
    await writer.close()  # reports its statistics
    service = await start_service(await serve(function.app), database_url=worker.dsn)
    output = ""

    async def is_logged() -> bool:
        nonlocal output
        await jobs.until_gone(await jobs.add("t"))
        captured = capsys.readouterr()
        output += captured.out + captured.err
        return "may not vacuum" in output

    await eventually(is_logged)
    assert "--grant-worker" in output
    await jobs.until_gone(await jobs.add("t"))
    await service.stop()
    assert await vacuum_count(jobs) == 0


async def test_worker_can_call_the_contracts_functions(worker: Role, jobs: Jobs, connect_to: ConnectTo) -> None:
    await jobs.add("x", queue_name="q")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('x', '0 9 * * *')")
    connection = await connect_to(worker.dsn)
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
    assert await jobs.values(2, "last_error", "locked_by") == ("boom", None)


@pytest.mark.parametrize("name", ['a "quoted" role', "drop schema app_jobs cascade; --", "@schema@", "Ünïcode '$$'"])
async def test_migrate_grants_to_a_role_with_any_name(
    name: str, connection: asyncpg.Connection, database: str, command: Command
) -> None:
    async with temporary_role(connection, name=name):
        options = ("--grant-enqueue", name, "--grant-worker", name, "--database-url", database)
        for _ in range(2):
            result = await command("jobfn", "db", "migrate", *options)
            assert result.code == 0, result.output
            assert f"granted to {name}: add jobs and schedules" in result.output
        assert await executable_functions(connection, name) == ENQUEUE_FUNCTIONS | WORKER_FUNCTIONS


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
async def test_migrate_with_an_unknown_role_applies_nothing(
    name: str, message: str, empty: asyncpg.Connection, empty_database: str, command: Command
) -> None:
    result = await command(
        *("jobfn", "db", "migrate", "--grant-enqueue", "postgres", "--grant-worker", name),
        *("--database-url", empty_database),
    )
    assert (result.code, message in result.output, result.output.count("\n")) == (2, True, 0), result.output
    assert await empty.fetchval("select to_regnamespace('app_jobs')") is None


async def test_roles_of_an_older_schema_act_with_entries_only(empty: asyncpg.Connection) -> None:
    version = next(file.version for file in migration_files() if file.name == "audit")
    await migrate_to(empty, version - 1)
    verbs = ("cancel_jobs", "complete_jobs", "permanently_fail_jobs", "reschedule_jobs", "retry_jobs")
    async with temporary_role(empty) as operator, temporary_role(empty) as worker:
        await empty.execute(f"grant usage on schema app_jobs to {operator}, {worker}")
        for verb in verbs:
            await empty.execute(f"grant execute on function app_jobs.{verb} to {operator}")
        await empty.execute(f"grant select on app_jobs.job_runs to {operator}")
        await empty.execute(f"grant execute on function app_jobs.prune_job_runs to {worker}")
        await migrate(empty, "app_jobs")
        assert await executable_functions(empty, operator) == {*verbs, "signal_by_operator"}
        assert await table_privileges(empty, operator) == {
            ("job_runs", None, "SELECT"),
            ("audit_log", None, "SELECT"),
        }
        assert await executable_functions(empty, worker) == {"prune_job_runs", "prune_audit_log"}
