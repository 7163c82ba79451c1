"""Tables and functions have the names, types, defaults and limits of the contract."""

from datetime import UTC, datetime

import asyncpg
import pytest

from support.jobs import Jobs

TIME = "timestamp with time zone"
SHARED = {
    "id": "bigint",
    "database_id": "uuid",
    "actor_id": "uuid",
    "entity_id": "uuid",
    "queue_name": "text",
    "task_identifier": "text",
    "payload": "json",
    "priority": "integer",
    "max_attempts": "integer",
    "key": "text",
    "last_error": "text",
    "locked_at": TIME,
    "locked_by": "text",
    "created_at": TIME,
    "updated_at": TIME,
}
TABLES = {
    "jobs": SHARED | {"run_at": TIME, "attempts": "integer", "organization_id": "uuid", "entity_type": "text"},
    "job_queues": {"queue_name": "text", "job_count": "integer", "locked_at": TIME, "locked_by": "text"},
    "scheduled_jobs": SHARED | {"schedule_info": "json", "last_scheduled": TIME, "last_scheduled_id": "bigint"},
}
KEY_AND_QUEUE = "job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text"
LIMITS = "max_attempts integer DEFAULT 25, priority integer DEFAULT 0"
# Null stands for the settings of the task, else 25 and 0.
ADD = (
    f"{KEY_AND_QUEUE}, run_at {TIME} DEFAULT now(), "
    "max_attempts integer DEFAULT NULL::integer, priority integer DEFAULT NULL::integer"
)
ADD_SCHEDULED = f"{KEY_AND_QUEUE}, {LIMITS}"
ENTITY = "entity_id uuid DEFAULT NULL::uuid"
EMPTY = "DEFAULT '{}'::json"
FUNCTIONS = {
    "add_job": {
        f"identifier text, payload json {EMPTY}, {ADD}, {ENTITY}, organization_id uuid DEFAULT NULL::uuid, "
        "entity_type text DEFAULT NULL::text": "app_jobs.job_row",
        f"identifier text, payload text, {ADD}": "app_jobs.job_row",  # jobfn's, for untyped literals
        f"db_id uuid, identifier text, payload json {EMPTY}, {ADD}": "app_jobs.job_row",
    },
    "add_scheduled_job": {
        f"identifier text, cron text, payload json {EMPTY}, {ADD_SCHEDULED}": "app_jobs.scheduled_jobs",
        f"identifier text, payload json, schedule_info json, {ADD_SCHEDULED}, {ENTITY}": "app_jobs.scheduled_jobs",
        f"db_id uuid, identifier text, payload json {EMPTY}, schedule_info json {EMPTY}, {ADD_SCHEDULED}": (
            "app_jobs.scheduled_jobs"
        ),
    },
    "get_job": {
        "worker_id text, task_identifiers text[] DEFAULT NULL::text[], "
        "job_expiry interval DEFAULT '04:00:00'::interval": "app_jobs.job_row"
    },
    "complete_job": {"worker_id text, job_id bigint": "app_jobs.job_row"},
    "fail_job": {"worker_id text, job_id bigint, error_message text": "app_jobs.job_row"},
    "release_jobs": {"worker_id text": "void"},
    "complete_jobs": {"job_ids bigint[]": "SETOF app_jobs.job_row"},
    "permanently_fail_jobs": {"job_ids bigint[], error_message text DEFAULT NULL::text": "SETOF app_jobs.job_row"},
    "reschedule_jobs": {
        f"job_ids bigint[], run_at {TIME} DEFAULT NULL::{TIME}, priority integer DEFAULT NULL::integer, "
        "attempts integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer": "SETOF app_jobs.job_row"
    },
    "get_scheduled_job": {
        "worker_id text, task_identifiers text[] DEFAULT NULL::text[]": "app_jobs.scheduled_jobs",
    },
    "run_scheduled_job": {
        "id bigint, job_expiry interval DEFAULT '01:00:00'::interval": "app_jobs.job_row",
    },
    "release_scheduled_jobs": {"worker_id text, ids bigint[] DEFAULT NULL::bigint[]": "void"},
    "remove_job": {"job_key text": "app_jobs.job_row"},
    "force_unlock_workers": {"worker_ids text[]": "void"},
    "tg_add_job_with_row_id": {"": "trigger"},
    "tg_add_job_with_row": {"": "trigger"},
    "trigger_job_with_fields": {"": "trigger"},
}


@pytest.mark.parametrize("table", TABLES)
async def test_table_has_the_contracts_columns(connection: asyncpg.Connection, table: str) -> None:
    rows = await connection.fetch(
        """
        select attname, format_type(atttypid, atttypmod) as type
        from pg_attribute
        where attrelid = ('app_jobs.' || $1)::regclass and attnum > 0 and not attisdropped
        """,
        table,
    )
    assert {row["attname"]: row["type"] for row in rows}.items() >= TABLES[table].items()


@pytest.mark.parametrize("function", FUNCTIONS)
async def test_function_has_the_contracts_signatures(connection: asyncpg.Connection, function: str) -> None:
    await connection.execute("set search_path = pg_catalog")  # so that PostgreSQL qualifies the result types
    rows = await connection.fetch(
        """
        select pg_get_function_arguments(oid) as arguments, pg_get_function_result(oid) as result
        from pg_proc
        where pronamespace = 'app_jobs'::regnamespace and proname = $1
        """,
        function,
    )
    assert {row["arguments"]: row["result"] for row in rows} == FUNCTIONS[function]


async def test_job_row_has_the_first_columns_of_jobs(connection: asyncpg.Connection) -> None:
    columns = """
        select array_agg(attname || ' ' || format_type(atttypid, atttypmod) order by attnum)
        from pg_attribute where attrelid = $1::text::regclass and attnum > 0
    """
    job_row = await connection.fetchval(columns, "app_jobs.job_row")
    assert len(job_row) == 30
    assert (await connection.fetchval(columns, "app_jobs.jobs"))[:30] == job_row


async def test_variable_of_the_tables_type_takes_the_result_of_functions(connection: asyncpg.Connection) -> None:
    await connection.execute("alter table app_jobs.jobs add column added text")
    await connection.execute(
        """
        create function enqueue() returns bigint language plpgsql as $$
        declare
            v_added app_jobs.jobs := app_jobs.add_job('x', entity_type := 'org');
            v_claimed app_jobs.jobs;
        begin
            select * into v_claimed from app_jobs.get_job('worker');
            return case when v_claimed.entity_type = v_added.entity_type then v_claimed.id end;
        end
        $$
        """
    )
    assert await connection.fetchval("select enqueue()") == 1


async def test_inserted_job_has_the_contracts_defaults(connection: asyncpg.Connection) -> None:
    row = await connection.fetchrow(
        "insert into app_jobs.jobs (task_identifier) values ('bare') returning *, now() as now"
    )
    assert (row["payload"], row["priority"], row["attempts"], row["max_attempts"]) == ("{}", 0, 0, 25)
    assert row["run_at"] == row["created_at"] == row["updated_at"] == row["now"]
    unset = ("database_id", "actor_id", "entity_id", "queue_name", "key", "last_error", "locked_at", "locked_by")
    assert {row[name] for name in unset} == {None}


@pytest.mark.parametrize(("column", "max_length"), [("task_identifier", 126), ("queue_name", 126), ("key", 512)])
async def test_names_of_schedules_have_at_least_one_character_and_a_maximum_length(
    connection: asyncpg.Connection, column: str, max_length: int
) -> None:
    async def insert(name: str) -> None:
        row = {"task_identifier": "task", "schedule_info": "{}"} | {column: name}
        places = ", ".join(f"${number}" for number, _ in enumerate(row, 1))
        statement = f"insert into app_jobs.scheduled_jobs ({', '.join(row)}) values ({places})"
        await connection.execute(statement, *row.values())

    await insert("é" * max_length)
    for name in ("e" * (max_length + 1), ""):
        with pytest.raises(asyncpg.CheckViolationError, match=f"scheduled_jobs_{column}_length"):
            await insert(name)


async def test_key_is_unique(connection: asyncpg.Connection) -> None:
    insert = "insert into app_jobs.jobs (task_identifier, key) values ('task', 'once')"
    await connection.execute(insert)
    with pytest.raises(asyncpg.UniqueViolationError, match="jobs_key_unique"):
        await connection.execute(insert)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("insert into app_jobs.jobs (task_identifier, attempts) values ('x', 25)", (True, False)),
        ("insert into app_jobs.jobs (task_identifier, attempts) values ('x', 24)", (False, False)),
        ("insert into app_jobs.jobs (task_identifier, attempts, locked_at) values ('x', 25, now())", (True, True)),
        ("update app_jobs.jobs set attempts = 0", (False, False)),
        ("update app_jobs.jobs set max_attempts = 2", (False, False)),
        ("update app_jobs.jobs set locked_at = null, locked_by = null", (True, False)),
        ("update app_jobs.jobs set exhausted = false, in_last_attempt = false", (True, True)),
    ],
)
async def test_written_attempts_set_whether_they_are_used_up(
    connection: asyncpg.Connection, statement: str, expected: tuple[bool, bool]
) -> None:
    """``exhausted`` and ``in_last_attempt`` match the attempts after every write."""
    if statement.startswith("update"):
        await connection.execute("select app_jobs.add_job('x', max_attempts := 1)")
        assert await connection.fetchval("select in_last_attempt from app_jobs.get_job('worker')") is True
    row = await connection.fetchrow(f"{statement} returning exhausted, in_last_attempt")
    assert row is not None
    assert tuple(row) == expected
    assert tuple(await connection.fetchrow("select exhausted, in_last_attempt from app_jobs.jobs")) == expected


async def test_queue_has_a_row_with_its_number_of_jobs(jobs: Jobs) -> None:
    first, second = await jobs.add("task", queue_name="q"), await jobs.add("task", queue_name="q")
    await jobs.add("task")
    assert await jobs.queue("q") == (2, None)
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [first])
    assert await jobs.queue("q") == (1, None)
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [second])
    assert await jobs.queue("q") is None


async def test_queue_can_be_locked_and_unlocked_by_writing_job_queues(jobs: Jobs) -> None:
    job = await jobs.add("task", queue_name="q")
    update = "update app_jobs.job_queues set locked_at = $1, locked_by = $2 where queue_name = 'q'"
    await jobs.connection.execute(update, datetime.now(UTC), "a person")
    assert await jobs.claim() is None
    assert await jobs.queue("q") == (1, "a person")
    await jobs.connection.execute(update, None, None)
    assert await jobs.claim_id() == job


async def test_empty_queue_can_be_locked_before_its_first_job(jobs: Jobs) -> None:
    await jobs.connection.execute(
        "insert into app_jobs.job_queues (queue_name, locked_at, locked_by) values ('q', now(), 'a person')"
    )
    job = await jobs.add("task", queue_name="q")
    assert await jobs.claim() is None
    await jobs.connection.execute("delete from app_jobs.job_queues where queue_name = 'q'")
    assert await jobs.claim_id() == job


@pytest.mark.parametrize(
    "statement",
    [
        "delete from app_jobs.jobs where locked_by is not null",
        "update app_jobs.jobs set locked_at = null, locked_by = null",
        "update app_jobs.jobs set queue_name = 'other' where locked_by is not null",
        "update app_jobs.jobs set queue_name = null where locked_by is not null",
        "truncate app_jobs.jobs",
    ],
)
async def test_statement_that_removes_the_running_job_unlocks_its_queue(jobs: Jobs, statement: str) -> None:
    await jobs.add("task", queue_name="q")
    assert await jobs.claim() is not None
    await jobs.connection.execute(statement)
    following = await jobs.add("following", queue_name="q", priority=-1)
    assert await jobs.claim_id() == following
