"""The tables and functions are those of the contract: names, types, defaults, limits."""

from typing import Any

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
    "jobs": SHARED | {"run_at": TIME, "attempts": "integer"},
    "job_queues": {"queue_name": "text", "job_count": "integer", "locked_at": TIME, "locked_by": "text"},
    "scheduled_jobs": SHARED | {"schedule_info": "json", "last_scheduled": TIME, "last_scheduled_id": "bigint"},
}
KEY_AND_QUEUE = "job_key text DEFAULT NULL::text, queue_name text DEFAULT NULL::text"
LIMITS = "max_attempts integer DEFAULT 25, priority integer DEFAULT 0"
ADD = f"{KEY_AND_QUEUE}, run_at {TIME} DEFAULT now(), {LIMITS}"
ADD_SCHEDULED = f"{KEY_AND_QUEUE}, {LIMITS}"
EMPTY = "DEFAULT '{}'::json"
FUNCTIONS = {
    "add_job": {
        f"identifier text, payload json {EMPTY}, {ADD}": "app_jobs.jobs",
        f"identifier text, payload text, {ADD}": "app_jobs.jobs",  # ours: untyped literals
        f"db_id uuid, identifier text, payload json {EMPTY}, {ADD}": "app_jobs.jobs",
    },
    "add_scheduled_job": {
        f"identifier text, cron text, payload json {EMPTY}, {ADD_SCHEDULED}": "app_jobs.scheduled_jobs",
        f"identifier text, payload json, schedule_info json, {ADD_SCHEDULED}": "app_jobs.scheduled_jobs",
        f"db_id uuid, identifier text, payload json {EMPTY}, schedule_info json {EMPTY}, {ADD_SCHEDULED}": (
            "app_jobs.scheduled_jobs"
        ),
    },
    "get_job": {
        "worker_id text, task_identifiers text[] DEFAULT NULL::text[], "
        "job_expiry interval DEFAULT '04:00:00'::interval": "app_jobs.jobs"
    },
    "complete_job": {"worker_id text, job_id bigint": "app_jobs.jobs"},
    "fail_job": {"worker_id text, job_id bigint, error_message text": "app_jobs.jobs"},
    "release_jobs": {"worker_id text": "void"},
    "complete_jobs": {"job_ids bigint[]": "SETOF app_jobs.jobs"},
    "permanently_fail_jobs": {"job_ids bigint[], error_message text DEFAULT NULL::text": "SETOF app_jobs.jobs"},
    "reschedule_jobs": {
        f"job_ids bigint[], run_at {TIME} DEFAULT NULL::{TIME}, priority integer DEFAULT NULL::integer, "
        "attempts integer DEFAULT NULL::integer, max_attempts integer DEFAULT NULL::integer": "SETOF app_jobs.jobs"
    },
    "get_scheduled_job": {
        "worker_id text, task_identifiers text[] DEFAULT NULL::text[]": "app_jobs.scheduled_jobs",
    },
    "run_scheduled_job": {
        "id bigint, job_expiry interval DEFAULT '01:00:00'::interval": "app_jobs.jobs",
    },
    "release_scheduled_jobs": {"worker_id text, ids bigint[] DEFAULT NULL::bigint[]": "void"},
}


@pytest.mark.parametrize("table", TABLES)
async def test_a_table_has_the_contracts_columns(connection: "asyncpg.Connection[Any]", table: str) -> None:
    """Every column of the contract is there with its type; ours may come on top."""
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
async def test_a_function_has_the_contracts_signature(connection: "asyncpg.Connection[Any]", function: str) -> None:
    """Argument names, their order, types and defaults, and what is returned; no form beside the known ones."""
    await connection.execute("set search_path = pg_catalog")  # so that result types are shown with their schema
    rows = await connection.fetch(
        """
        select pg_get_function_arguments(oid) as arguments, pg_get_function_result(oid) as result
        from pg_proc
        where pronamespace = 'app_jobs'::regnamespace and proname = $1
        """,
        function,
    )
    assert {row["arguments"]: row["result"] for row in rows} == FUNCTIONS[function]


async def test_a_bare_job_has_the_contracts_defaults(connection: "asyncpg.Connection[Any]") -> None:
    """Whoever inserts nothing but a task gets priority 0, 25 attempts, an empty payload, and 'now'."""
    async with connection.transaction():
        row = await connection.fetchrow(
            """
            insert into app_jobs.jobs (task_identifier) values ('bare')
            returning *, now() as moment
            """
        )
    assert row is not None
    assert (row["payload"], row["priority"], row["attempts"], row["max_attempts"]) == ("{}", 0, 0, 25)
    assert row["run_at"] == row["created_at"] == row["updated_at"] == row["moment"]
    unset = ("database_id", "actor_id", "entity_id", "queue_name", "key", "last_error", "locked_at", "locked_by")
    assert [row[name] for name in unset] == [None] * len(unset)


@pytest.mark.parametrize(("column", "longest"), [("task_identifier", 126), ("queue_name", 126), ("key", 512)])
@pytest.mark.parametrize("table", ["jobs", "scheduled_jobs"])
async def test_names_have_a_greatest_length(
    connection: "asyncpg.Connection[Any]", table: str, column: str, longest: int
) -> None:
    """A name of the greatest length is kept; one more character, or none at all, is refused."""
    values = {"task_identifier": "task"} | ({"schedule_info": "{}"} if table == "scheduled_jobs" else {})

    async def insert(name: str) -> None:
        named = values | {column: name}
        places = ", ".join(f"${number}" for number in range(1, len(named) + 1))
        await connection.execute(
            f"insert into app_jobs.{table} ({', '.join(named)}) values ({places})",
            *named.values(),
        )

    await insert("é" * longest)
    for refused in ("e" * (longest + 1), ""):
        with pytest.raises(asyncpg.CheckViolationError, match=f"{table}_{column}_length"):
            await insert(refused)


async def test_a_key_is_there_once(connection: "asyncpg.Connection[Any]") -> None:
    """Whoever goes round add_job still cannot have two jobs of one key."""
    await connection.execute("insert into app_jobs.jobs (task_identifier, key) values ('task', 'once')")
    with pytest.raises(asyncpg.UniqueViolationError, match="jobs_key_unique"):
        await connection.execute("insert into app_jobs.jobs (task_identifier, key) values ('task', 'once')")


@pytest.mark.parametrize("attempts", [0, -1])
async def test_a_job_has_at_least_one_attempt(connection: "asyncpg.Connection[Any]", attempts: int) -> None:
    """max_attempts below 1 is refused, since such a job could never run."""
    with pytest.raises(asyncpg.CheckViolationError, match="jobs_max_attempts_positive"):
        await connection.execute("select app_jobs.add_job('task', max_attempts := $1)", attempts)


async def test_a_holder_has_a_name_of_four_characters(connection: "asyncpg.Connection[Any]") -> None:
    """A worker id of four characters may hold a job, one of three may not, whoever writes it."""
    await connection.execute("insert into app_jobs.jobs (task_identifier, locked_by) values ('task', 'four')")
    with pytest.raises(asyncpg.CheckViolationError, match="jobs_locked_by_length"):
        await connection.execute("insert into app_jobs.jobs (task_identifier, locked_by) values ('task', 'abc')")


async def test_a_queue_has_a_row_while_it_has_jobs(jobs: Jobs) -> None:
    """job_count is the number of the queue's jobs, and the last one takes the row with it."""
    first, second = await jobs.add("task", queue_name="q"), await jobs.add("task", queue_name="q")
    await jobs.add("task")
    row = await jobs.queue("q")
    assert row is not None
    assert dict(row) == {"queue_name": "q", "job_count": 2, "locked_at": None, "locked_by": None}
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [first])
    row = await jobs.queue("q")
    assert row is not None
    assert row["job_count"] == 1
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [second])
    assert await jobs.queue("q") is None


async def test_a_queue_can_be_held_and_freed_by_hand(jobs: Jobs) -> None:
    """Writing job_queues works as on a table: a held queue gives no jobs out, a freed one does."""
    job = await jobs.add("task", queue_name="q")
    await jobs.connection.execute(
        "update app_jobs.job_queues set locked_at = now(), locked_by = 'a person' where queue_name = 'q'"
    )
    assert await jobs.claim() is None
    row = await jobs.queue("q")
    assert row is not None
    assert (row["job_count"], row["locked_by"]) == (1, "a person")
    await jobs.connection.execute(
        "update app_jobs.job_queues set locked_at = null, locked_by = null where queue_name = 'q'"
    )
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == job


async def test_an_empty_queue_can_be_held_before_its_first_job(jobs: Jobs) -> None:
    """A row inserted into job_queues holds a queue that has no jobs yet; deleting it frees the queue."""
    await jobs.connection.execute(
        "insert into app_jobs.job_queues (queue_name, locked_at, locked_by) values ('q', now(), 'a person')"
    )
    job = await jobs.add("task", queue_name="q")
    assert await jobs.claim() is None
    await jobs.connection.execute("delete from app_jobs.job_queues where queue_name = 'q'")
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == job


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
async def test_a_queue_is_free_when_its_job_is_gone_by_hand(jobs: Jobs, statement: str) -> None:
    """Whoever removes, unlocks or moves the running job frees its queue for the next."""
    await jobs.add("task", queue_name="q")
    assert await jobs.claim() is not None
    await jobs.connection.execute(statement)
    await jobs.add("following", queue_name="q", priority=-1)
    row = await jobs.queue("q")
    assert row is not None
    assert row["locked_by"] is None
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["task_identifier"] == "following"
