"""``add_job``: all forms of a call, tenant and actor, job keys, and notifications."""

import json
from datetime import UTC, datetime

import asyncpg
import pytest

from support.fixtures import NotificationsOf
from support.jobs import TENANT, Jobs

ACTOR = "c0ffee00-17d5-424d-9bcb-ee7b17c13d43"
TIME = datetime(2030, 1, 1, 9, tzinfo=UTC)
ALL = {"key": "k", "queue_name": "q", "run_at": TIME, "max_attempts": 3, "priority": -1}
#: Arguments of ``add_job``, and the columns that differ from the defaults.
CALLS: list[tuple[str, dict[str, object]]] = [
    ("'x'", {}),
    ("identifier := 'x'", {}),
    ("'x', '{\"id\": 1}'", {"payload": {"id": 1}}),
    ("'x', '{\"id\": 1}'::json", {"payload": {"id": 1}}),
    ("'x'::text, '{\"id\": 1}'::text", {"payload": {"id": 1}}),
    ("'x', json_build_object('id', 1)", {"payload": {"id": 1}}),
    ("'x', '[1, 2]'", {"payload": [1, 2]}),
    ("'x', null", {}),
    ("'x', '{}', 'k'", {"key": "k"}),
    ("'x', '{}'::json, 'k'", {"key": "k"}),
    ("'x', '{}', 'k', 'q', '2030-01-01 09:00Z', 3, -1", ALL),
    ("'x', '{}'::json, 'k', 'q', '2030-01-01 09:00Z'::timestamptz, 3, -1", ALL),
    ("identifier := 'x', payload := '{}'::json, priority := 3", {"priority": 3}),
    ("identifier := 'x', payload := '{\"id\": 1}', job_key := 'k'", {"payload": {"id": 1}, "key": "k"}),
    ("'x', priority := 3", {"priority": 3}),
    ("'x', queue_name := 'q', run_at := '2030-01-01 09:00Z'", {"queue_name": "q", "run_at": TIME}),
    (
        "'x', '{\"id\": 1}', run_at := '2030-01-01 09:00Z', job_key := 'k'",
        {"payload": {"id": 1}, "key": "k", "run_at": TIME},
    ),
    (f"'{TENANT}'::uuid, 'x'", {"database_id": TENANT}),
    (f"'{TENANT}'::uuid, 'x', '{{}}'::json", {"database_id": TENANT}),
    (f"'{TENANT}'::uuid, 'x', '{{\"id\": 1}}'", {"database_id": TENANT, "payload": {"id": 1}}),
    (f"'{TENANT}'::uuid, 'x', '{{}}'::json, 'k', 'q', '2030-01-01 09:00Z', 3, -1", ALL | {"database_id": TENANT}),
    (
        f"db_id := '{TENANT}'::uuid, identifier := 'x', payload := '{{}}'::json, job_key := 'k'",
        {"database_id": TENANT, "key": "k"},
    ),
    (f"db_id := '{TENANT}', identifier := 'x'", {"database_id": TENANT}),
    (f"'{TENANT}', 'x'", {"database_id": TENANT}),
    (f"'{TENANT}', 'x', '{{\"id\": 1}}'", {"database_id": TENANT, "payload": {"id": 1}}),
    (f"'{TENANT.upper()}', 'x', '{{\"id\": 1}}', 'k'", {"database_id": TENANT, "payload": {"id": 1}, "key": "k"}),
    ("null::uuid, 'x', '{}'::json", {}),
]


@pytest.mark.parametrize(("arguments", "expected"), CALLS, ids=[arguments for arguments, _ in CALLS])
async def test_add_job_accepts_this_call(
    connection: asyncpg.Connection, arguments: str, expected: dict[str, object]
) -> None:
    async with connection.transaction():
        row = await connection.fetchrow(f"select *, now() as now from app_jobs.add_job({arguments})")
    defaults: dict[str, object] = {
        "task_identifier": "x", "payload": {}, "key": None, "queue_name": None, "run_at": row["now"],
        "max_attempts": 25, "priority": 0, "attempts": 0, "database_id": None, "actor_id": None, "entity_id": None,
        "locked_at": None, "locked_by": None, "last_error": None,
    }  # fmt: skip
    columns = {name: row[name] for name in defaults}
    columns["payload"] = json.loads(row["payload"])
    columns["database_id"] = row["database_id"] and str(row["database_id"])
    assert columns == defaults | expected


@pytest.mark.parametrize(
    ("settings", "tenant", "actor"),
    [
        ({}, None, None),
        ({"jwt.claims.database_id": TENANT, "jwt.claims.user_id": ACTOR}, TENANT, ACTOR),
        ({"jwt.claims.database_id": TENANT}, TENANT, None),
        ({"jwt.claims.user_id": ACTOR}, None, ACTOR),
        ({"jwt.claims.database_id": "", "jwt.claims.user_id": ""}, None, None),
        ({"jwt.claims.database_id": "not a uuid", "jwt.claims.user_id": f"{ACTOR}0"}, None, None),
        ({"jwt.claims.database_id": "null", "jwt.claims.user_id": ACTOR}, None, ACTOR),
    ],
)
async def test_tenant_and_actor_come_from_jwt_claims_of_the_session(
    connection: asyncpg.Connection, settings: dict[str, str], tenant: str | None, actor: str | None
) -> None:
    for name, value in settings.items():
        await connection.execute("select set_config($1, $2, false)", name, value)
    for call in ("add_job('x')", "add_job('x', '{}')", "add_job('x', '{}'::json)"):
        row = await connection.fetchrow(f"select database_id::text, actor_id::text from app_jobs.{call}")
        assert tuple(row) == (tenant, actor), call
    row = await connection.fetchrow(
        "select database_id::text, actor_id::text from app_jobs.add_job($1::uuid, 'x')", ACTOR
    )
    assert tuple(row) == (ACTOR, actor), "an explicit tenant overrides the session's"


async def test_jwt_claims_of_a_transaction_do_not_outlive_it(connection: asyncpg.Connection) -> None:
    async with connection.transaction():
        await connection.execute("select set_config('jwt.claims.database_id', $1, true)", TENANT)
    assert await connection.fetchval("select current_setting('jwt.claims.database_id')") == ""
    assert await connection.fetchval("select database_id from app_jobs.add_job('x')") is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("'x', '{not json'", asyncpg.InvalidTextRepresentationError),
        ("null", asyncpg.NotNullViolationError),
    ],
)
async def test_add_job_rejects_invalid_arguments(
    jobs: Jobs, arguments: str, error: type[asyncpg.PostgresError]
) -> None:
    with pytest.raises(error):
        await jobs.connection.fetch(f"select app_jobs.add_job({arguments})")
    assert await jobs.count() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("add_job('')", "the task identifier must have 1 to 126 characters, not 0"),
        ("add_job(repeat('é', 127))", "the task identifier must have 1 to 126 characters, not 127"),
        ("add_job('.')", "the task identifier must not be .: it is a part of a URL"),
        ("add_job('..')", "the task identifier must not be ..: it is a part of a URL"),
        ("add_jobs('..', array['{}']::json[])", "the task identifier must not be ..: it is a part of a URL"),
        ("add_scheduled_job('..', '0 9 * * *')", "the task identifier must not be ..: it is a part of a URL"),
        ("add_job('x', queue_name := '')", "the queue name must have 1 to 126 characters, not 0"),
        ("add_job('x', queue_name := repeat('é', 127))", "the queue name must have 1 to 126 characters, not 127"),
        ("add_job('x', job_key := '')", "the job key must have 1 to 512 characters, not 0"),
        ("add_job('x', job_key := repeat('é', 513))", "the job key must have 1 to 512 characters, not 513"),
        ("add_job('x', max_attempts := 0)", "max_attempts must be at least 1, not 0"),
        ("add_jobs('', array['{}']::json[])", "the task identifier must have 1 to 126 characters, not 0"),
        ("add_jobs('x', array['{}']::json[], max_attempts := -1)", "max_attempts must be at least 1, not -1"),
        (
            "add_jobs('x', array['{}', '{}']::json[], queue_names := array['q', ''])",
            "the queue name must have 1 to 126 characters, not 0",
        ),
        (
            "add_jobs('x', array['{}', '{}']::json[], array[null, repeat('k', 513)])",
            "the job key must have 1 to 512 characters, not 513",
        ),
        ("reschedule_jobs('{1}', max_attempts := 0)", "max_attempts must be at least 1, not 0"),
    ],
)
async def test_values_out_of_range_are_rejected(jobs: Jobs, call: str, message: str) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match=message):
        await jobs.connection.fetch(f"select app_jobs.{call}")
    assert await jobs.count() == 0


async def test_longest_names_are_accepted(jobs: Jobs) -> None:
    await jobs.connection.execute(
        "select app_jobs.add_job(repeat('é', 126), queue_name := repeat('é', 126), job_key := repeat('é', 512))"
    )
    assert await jobs.count() == 1


@pytest.mark.parametrize(
    ("value", "is_uuid"),
    [
        (TENANT.upper(), True),
        (TENANT.replace("-", ""), True),
        ("{" + TENANT + "}", True),
        ("{" + TENANT, False),
        (TENANT + "-", False),
    ],
)
async def test_jwt_claim_is_read_in_every_form_of_a_uuid(
    connection: asyncpg.Connection, value: str, *, is_uuid: bool
) -> None:
    await connection.execute("select set_config('jwt.claims.database_id', $1, false)", value)
    tenant = await connection.fetchval("select database_id::text from app_jobs.add_job('x')")
    assert tenant == (TENANT if is_uuid else None)


async def test_returned_job_is_the_stored_row(jobs: Jobs) -> None:
    """``insert_job`` builds the row itself."""
    traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    await jobs.connection.execute(
        "select set_config('jobfn.traceparent', $1, false), set_config('jobfn.tracestate', 'a=b', false),"
        " set_config('jwt.claims.database_id', $2, false)",
        traceparent,
        TENANT,
    )
    for call in ("add_job('x')", "add_job('x', '{\"n\": 1}', 'k', 'q', '2030-01-01 09:00Z', 3, -1)"):
        returned = await jobs.connection.fetchrow(f"select * from app_jobs.{call}")
        assert tuple(returned) == tuple(await jobs.row(returned["id"]))[: len(returned)]
        assert (returned["traceparent"], returned["tracestate"]) == (traceparent, "a=b")


async def test_rolled_back_job_is_not_enqueued(jobs: Jobs) -> None:
    transaction = jobs.connection.transaction()
    await transaction.start()
    await jobs.add("x", queue_name="q", job_key="k")
    await transaction.rollback()
    assert await jobs.count() == 0
    assert await jobs.queue("q") is None


async def test_key_of_a_waiting_job_replaces_it(jobs: Jobs) -> None:
    job = await jobs.add("old", {"v": 1}, job_key="k", queue_name="q1", priority=1, max_attempts=2)
    assert await jobs.claim_id() == job
    await jobs.fail(job)
    await jobs.update("entity_id = gen_random_uuid()")
    replaced = await jobs.connection.fetchval(
        """
        select (app_jobs.add_job(
            $1::uuid, 'new', '{"v": 2}'::json, 'k', 'q2', '2030-01-01 09:00Z', max_attempts := 9, priority := -4
        )).id
        """,
        TENANT,
    )
    assert replaced == job
    assert await jobs.count() == 1
    assert await jobs.values(job, "task_identifier", "payload", "queue_name", "run_at", "priority", "max_attempts") == (
        *("new", '{"v": 2}', "q2", TIME, -4, 9),
    )
    assert await jobs.values(job, "attempts", "last_error", "actor_id", "entity_id") == (0, None, None, None)
    assert str((await jobs.row(job))["database_id"]) == TENANT
    assert (await jobs.queue("q1"), await jobs.queue("q2")) == (None, (1, None))


async def test_key_and_run_at_debounce(jobs: Jobs) -> None:
    async with jobs.connection.transaction():  # so that now() stays the same
        for version in range(3):
            await jobs.connection.execute(
                "select app_jobs.add_job('sync', $1::text, 'k', run_at := now() + $2 * interval '1 hour')",
                json.dumps({"version": version}),
                version + 1,
            )
        rows = await jobs.connection.fetch(
            "select payload, run_at - now() = interval '3 hours' as is_last_time from app_jobs.jobs"
        )
    assert [tuple(row) for row in rows] == [('{"version": 2}', True)]
    assert await jobs.claim() is None


async def test_key_of_a_permanently_failed_job_resets_it(jobs: Jobs) -> None:
    job = await jobs.add("x", job_key="k")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs($1, 'no')", [job])
    assert await jobs.add("x", job_key="k") == job
    assert await jobs.claim_id() == job
    assert await jobs.values(job, "attempts", "last_error") == (1, None)


async def test_key_of_a_running_job_moves_to_a_new_job(jobs: Jobs) -> None:
    running = await jobs.add("x", {"v": 1}, job_key="k", queue_name="q")
    claimed = await jobs.claim()
    assert claimed is not None
    waiting = await jobs.add("x", {"v": 2}, job_key="k", queue_name="q")
    assert await jobs.add("x", {"v": 3}, job_key="k", queue_name="q") == waiting != running
    row = await jobs.row(running)
    changed = {name for name, value in claimed.items() if row[name] != value}
    assert changed <= {"key", "max_attempts", "snoozing_since", "exhausted", "in_last_attempt", "updated_at"}
    assert row["key"] is None
    assert await jobs.values(waiting, "key", "payload") == ("k", '{"v": 3}')
    assert await jobs.claim() is None, "its queue is locked"


async def test_job_that_lost_its_key_is_not_retried(jobs: Jobs) -> None:
    running = await jobs.add("x", job_key="k")
    await jobs.claim()
    waiting = await jobs.add("x", job_key="k")
    await jobs.fail(running)
    await jobs.update("run_at = now() - interval '1 day'")
    assert await jobs.claim_id() == waiting
    assert await jobs.claim() is None
    assert await jobs.values(running, "last_error") == ("boom",)


async def test_completion_of_a_job_that_lost_its_key_leaves_the_new_job(jobs: Jobs) -> None:
    running = await jobs.add("x", job_key="k")
    await jobs.claim()
    waiting = await jobs.add("x", job_key="k")
    await jobs.complete(running)
    assert (await jobs.exists(running), await jobs.exists(waiting)) == (False, True)


async def test_jobs_without_a_key_or_with_different_keys_replace_nothing(jobs: Jobs) -> None:
    for options in ({}, {}, {"job_key": "a"}, {"job_key": "b"}):
        await jobs.add("x", **options)
    assert await jobs.count() == 4


JOBS = [("jobs:insert", "")]
SCHEDULES = [("scheduled_jobs:insert", "")]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select app_jobs.add_job('x')", JOBS),
        ("select app_jobs.add_job('x', run_at := now() + interval '1 day')", JOBS),
        ("select app_jobs.add_job('x', '{}', 'waiting', run_at := now())", JOBS),
        ("select app_jobs.add_job('x', '{}', 'running')", JOBS),
        ("insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, 100)", JOBS),
        ("select app_jobs.reschedule_jobs(array(select id from app_jobs.jobs where key = 'waiting'))", JOBS),
        ("select app_jobs.release_jobs('worker-under-test')", JOBS),
        (
            "select app_jobs.fail_job('worker-under-test', id, 'x') from app_jobs.jobs where key = 'running'",
            JOBS,
        ),
        ("select app_jobs.complete_job('worker-under-test', id) from app_jobs.jobs where key = 'queued'", JOBS),
        ("delete from app_jobs.job_queues where queue_name = 'q'", JOBS),
        ("select app_jobs.complete_job('worker-under-test', id) from app_jobs.jobs where key = 'running'", []),
        ("select app_jobs.complete_job('another-worker', id) from app_jobs.jobs", []),
        ("select app_jobs.get_job('worker-under-test')", []),
        ("select app_jobs.add_scheduled_job('x', '0 9 * * *')", SCHEDULES),
        ("select app_jobs.add_scheduled_job('x', '0 9 * * *', job_key := 'daily')", SCHEDULES),
        ("delete from app_jobs.scheduled_jobs", SCHEDULES),
    ],
)
async def test_statement_notifies_if_a_job_or_schedule_can_become_due(
    jobs: Jobs, notifications_of: NotificationsOf, statement: str, expected: list[tuple[str, str]]
) -> None:
    await jobs.add("x", job_key="running")
    await jobs.add("x", job_key="queued", queue_name="q")
    assert await jobs.claim() is not None
    assert await jobs.claim() is not None
    await jobs.add("x", job_key="waiting", run_at=TIME)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('x', '0 8 * * *', job_key := 'daily')")
    assert await notifications_of(statement) == expected
