"""add_job: every call that people write, whose job it is, what a key does, and who is told."""

import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from support.fixtures import Heard
from support.jobs import TENANT, WORKER, Jobs

ACTOR = "c0ffee00-17d5-424d-9bcb-ee7b17c13d43"
MORNING = datetime(2030, 1, 1, 9, tzinfo=UTC)
CALLS: list[tuple[str, dict[str, object]]] = [
    ("'x'", {}),
    ("identifier := 'x'", {}),
    ("'x', '{\"id\": 1}'", {"payload": {"id": 1}}),
    ("'x', '{\"id\": 1}'::json", {"payload": {"id": 1}}),
    ("'x'::text, '{\"id\": 1}'::text", {"payload": {"id": 1}}),
    ("'x', json_build_object('id', 1)", {"payload": {"id": 1}}),
    ("'x', '[1, 2]'", {"payload": [1, 2]}),
    ("'x', null", {"payload": {}}),
    ("'x', '{}', 'k'", {"key": "k"}),
    ("'x', '{}'::json, 'k'", {"key": "k"}),
    (
        "'x', '{}', 'k', 'q', '2030-01-01 09:00Z', 3, -1",
        {
            "key": "k",
            "queue_name": "q",
            "run_at": MORNING,
            "max_attempts": 3,
            "priority": -1,
        },
    ),
    (
        "'x', '{}'::json, 'k', 'q', '2030-01-01 09:00Z'::timestamptz, 3, -1",
        {
            "key": "k",
            "queue_name": "q",
            "run_at": MORNING,
            "max_attempts": 3,
            "priority": -1,
        },
    ),
    ("identifier := 'x', payload := '{}'::json, priority := 3", {"priority": 3}),
    ("identifier := 'x', payload := '{\"id\": 1}', job_key := 'k'", {"payload": {"id": 1}, "key": "k"}),
    ("'x', priority := 3", {"priority": 3}),
    ("'x', queue_name := 'q', run_at := '2030-01-01 09:00Z'", {"queue_name": "q", "run_at": MORNING}),
    (
        "'x', '{\"id\": 1}', run_at := '2030-01-01 09:00Z', job_key := 'k'",
        {
            "payload": {"id": 1},
            "key": "k",
            "run_at": MORNING,
        },
    ),
    (f"'{TENANT}'::uuid, 'x'", {"database_id": TENANT}),
    (f"'{TENANT}'::uuid, 'x', '{{}}'::json", {"database_id": TENANT}),
    (f"'{TENANT}'::uuid, 'x', '{{\"id\": 1}}'", {"database_id": TENANT, "payload": {"id": 1}}),
    (
        f"'{TENANT}'::uuid, 'x', '{{}}'::json, 'k', 'q', '2030-01-01 09:00Z', 3, -1",
        {
            "database_id": TENANT,
            "key": "k",
            "queue_name": "q",
            "run_at": MORNING,
            "max_attempts": 3,
            "priority": -1,
        },
    ),
    (
        f"db_id := '{TENANT}'::uuid, identifier := 'x', payload := '{{}}'::json, job_key := 'k'",
        {
            "database_id": TENANT,
            "key": "k",
        },
    ),
    (f"db_id := '{TENANT}', identifier := 'x'", {"database_id": TENANT}),
    (f"'{TENANT}', 'x'", {"database_id": TENANT}),
    (f"'{TENANT}', 'x', '{{\"id\": 1}}'", {"database_id": TENANT, "payload": {"id": 1}}),
    (f"'{TENANT.upper()}', 'x', '{{\"id\": 1}}', 'k'", {"database_id": TENANT, "payload": {"id": 1}, "key": "k"}),
    ("null::uuid, 'x', '{}'::json", {}),
]


@pytest.mark.parametrize(("arguments", "expected"), CALLS, ids=[arguments for arguments, _ in CALLS])
async def test_a_call_as_people_write_it(
    connection: "asyncpg.Connection[Any]", arguments: str, expected: dict[str, object]
) -> None:
    """Each call finds one function, and each word of it arrives where it belongs."""
    async with connection.transaction():
        row = await connection.fetchrow(f"select *, now() as moment from app_jobs.add_job({arguments})")
    assert row is not None
    usual: dict[str, object] = {
        "task_identifier": "x", "payload": {}, "key": None, "queue_name": None, "run_at": row["moment"],
        "max_attempts": 25, "priority": 0, "attempts": 0, "database_id": None, "actor_id": None, "entity_id": None,
        "locked_at": None, "locked_by": None, "last_error": None,
    }  # fmt: skip
    found = {name: row[name] for name in usual}
    found["payload"] = json.loads(row["payload"])
    found["database_id"] = row["database_id"] and str(row["database_id"])
    assert found == usual | expected


@pytest.mark.parametrize(
    ("settings", "tenant", "actor"),
    [
        ({}, None, None),
        ({"jwt.claims.database_id": TENANT, "jwt.claims.user_id": ACTOR}, TENANT, ACTOR),
        ({"jwt.claims.database_id": TENANT}, TENANT, None),
        ({"jwt.claims.user_id": ACTOR}, None, ACTOR),
        ({"jwt.claims.database_id": "", "jwt.claims.user_id": ""}, None, None),
        ({"jwt.claims.database_id": "no uuid", "jwt.claims.user_id": f"{ACTOR}0"}, None, None),
        ({"jwt.claims.database_id": "null", "jwt.claims.user_id": ACTOR}, None, ACTOR),
    ],
)
async def test_tenant_and_actor_come_from_the_session(
    connection: "asyncpg.Connection[Any]", settings: dict[str, str], tenant: str | None, actor: str | None
) -> None:
    """jwt.claims.database_id and jwt.claims.user_id, where they are set to a uuid; anything else fails no write."""
    for name, value in settings.items():
        await connection.execute("select set_config($1, $2, false)", name, value)
    for call in ("add_job('x')", "add_job('x', '{}')", "add_job('x', '{}'::json)"):
        row = await connection.fetchrow(f"select database_id::text, actor_id::text from app_jobs.{call}")
        assert row is not None
        assert tuple(row) == (tenant, actor), call
    row = await connection.fetchrow(
        "select database_id::text, actor_id::text from app_jobs.add_job($1::uuid, 'x')", ACTOR
    )
    assert row is not None
    assert tuple(row) == (ACTOR, actor), "a tenant that is given counts more than the session's"


async def test_settings_of_a_transaction_end_with_it(connection: "asyncpg.Connection[Any]") -> None:
    """PostgreSQL leaves '' where a transaction's own setting was: the next job has no tenant."""
    async with connection.transaction():
        await connection.execute("select set_config('jwt.claims.database_id', $1, true)", TENANT)
    assert await connection.fetchval("select current_setting('jwt.claims.database_id')") == ""
    assert await connection.fetchval("select database_id from app_jobs.add_job('x')") is None


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ("'x', '{not json'", asyncpg.InvalidTextRepresentationError),
        ("null", asyncpg.NotNullViolationError),
        ("''", asyncpg.CheckViolationError),
        (f"'{'x' * 127}'", asyncpg.CheckViolationError),
        ("'x', queue_name := ''", asyncpg.CheckViolationError),
        ("'x', max_attempts := 0", asyncpg.CheckViolationError),
    ],
)
async def test_a_call_that_makes_no_job_is_refused(
    jobs: Jobs, arguments: str, error: type[asyncpg.PostgresError]
) -> None:
    """A payload that is no JSON, a missing or too long name: an error, and no row."""
    with pytest.raises(error):
        await jobs.connection.fetch(f"select app_jobs.add_job({arguments})")
    assert await jobs.count() == 0


async def test_a_job_is_part_of_the_callers_transaction(jobs: Jobs) -> None:
    """What is rolled back was never enqueued."""
    transaction = jobs.connection.transaction()
    await transaction.start()
    await jobs.add("x", queue_name="q", job_key="k")
    await transaction.rollback()
    assert await jobs.count() == 0
    assert await jobs.queue("q") is None


async def test_adding_again_replaces_a_waiting_job(jobs: Jobs) -> None:
    """One row per key: task, payload, queue, time, priority, limits and tenant are new; attempts start anew."""
    first = await jobs.add("old", {"v": 1}, job_key="k", queue_name="q1", priority=1, max_attempts=2)
    assert (await jobs.claim()) is not None
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, first)
    await jobs.connection.execute("update app_jobs.jobs set entity_id = gen_random_uuid()")
    row = await jobs.connection.fetchrow(
        """
        select * from app_jobs.add_job(
            $1::uuid, 'new', '{"v": 2}'::json, 'k', 'q2', '2030-01-01 09:00Z', max_attempts := 9, priority := -4
        )
        """,
        TENANT,
    )
    assert row is not None
    assert row["id"] == first
    assert await jobs.count() == 1
    names = ("task_identifier", "payload", "queue_name", "run_at", "priority", "max_attempts", "attempts", "last_error")
    assert [row[name] for name in names] == ["new", '{"v": 2}', "q2", MORNING, -4, 9, 0, None]
    assert (str(row["database_id"]), row["actor_id"], row["entity_id"]) == (TENANT, None, None)
    assert await jobs.queue("q1") is None
    queue = await jobs.queue("q2")
    assert queue is not None
    assert queue["job_count"] == 1


async def test_run_at_and_a_key_debounce(jobs: Jobs) -> None:
    """Each further change moves the one job on, and brings its own payload."""
    for version in range(3):
        await jobs.connection.execute(
            "select app_jobs.add_job('sync', $1::text, 'k', run_at := now() + $2 * interval '1 hour')",
            json.dumps({"version": version}),
            version + 1,
        )
    row = await jobs.connection.fetchrow("select *, run_at - now() as remaining from app_jobs.jobs")
    assert row is not None
    assert await jobs.count() == 1
    assert json.loads(row["payload"]) == {"version": 2}
    assert 2.9 < row["remaining"].total_seconds() / 3600 <= 3.0
    assert await jobs.claim() is None


async def test_a_job_out_of_attempts_starts_anew_under_its_key(jobs: Jobs) -> None:
    """A permanently failed job still has its key; adding again makes it wait again, rather than a second one."""
    job = await jobs.add("x", job_key="k")
    await jobs.connection.execute("select app_jobs.permanently_fail_jobs($1, 'no')", [job])
    assert await jobs.add("x", job_key="k") == job
    claimed = await jobs.claim()
    assert claimed is not None
    assert (claimed["id"], claimed["attempts"], claimed["last_error"]) == (job, 1, None)


async def test_adding_while_it_runs_leaves_the_running_job_alone(jobs: Jobs) -> None:
    """The running job keeps what it runs with, and loses its key to one new job that waits."""
    running = await jobs.add("x", {"v": 1}, job_key="k", queue_name="q")
    before = await jobs.claim()
    waiting = await jobs.add("x", {"v": 2}, job_key="k", queue_name="q")
    assert await jobs.add("x", {"v": 3}, job_key="k", queue_name="q") == waiting != running
    row, new = await jobs.row(running), await jobs.row(waiting)
    assert before is not None
    assert row is not None
    assert new is not None
    changed = {name for name, value in before.items() if row[name] != value}
    assert changed <= {"key", "max_attempts", "exhausted", "in_last_attempt", "updated_at"}
    assert (row["key"], new["key"], json.loads(new["payload"])) == (None, "k", {"v": 3})
    assert await jobs.claim() is None, "its queue is held"


async def test_a_running_job_that_lost_its_key_is_not_retried(jobs: Jobs) -> None:
    """If it fails it stays, out of attempts; the new job runs in its place."""
    running = await jobs.add("x", job_key="k")
    await jobs.claim()
    waiting = await jobs.add("x", job_key="k")
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, 'boom')", WORKER, running)
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() - interval '1 day'")
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == waiting
    assert await jobs.claim() is None
    failed = await jobs.row(running)
    assert failed is not None
    assert failed["last_error"] == "boom"


async def test_a_running_job_that_lost_its_key_completes_alone(jobs: Jobs) -> None:
    """Its end does not touch the new job."""
    running = await jobs.add("x", job_key="k")
    await jobs.claim()
    waiting = await jobs.add("x", job_key="k")
    await jobs.connection.execute("select app_jobs.complete_job($1, $2)", WORKER, running)
    assert await jobs.row(running) is None
    assert await jobs.row(waiting) is not None


async def test_jobs_without_a_key_are_many(jobs: Jobs) -> None:
    """No key, no replacing; different keys do not meet either."""
    added = {
        await jobs.add("x"),
        await jobs.add("x"),
        await jobs.add("x", job_key="a"),
        await jobs.add("x", job_key="b"),
    }
    assert len(added) == await jobs.count() == 4


JOBS = ("jobs:insert", "")


@pytest.mark.parametrize(
    ("statement", "announced"),
    [
        ("select app_jobs.add_job('x')", [JOBS]),
        ("select app_jobs.add_job('x', run_at := now() + interval '1 day')", [JOBS]),
        ("select app_jobs.add_job('x', '{}', 'waiting', run_at := now())", [JOBS]),
        ("select app_jobs.add_job('x', '{}', 'running')", [JOBS]),
        ("insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, 100)", [JOBS]),
        ("select app_jobs.reschedule_jobs(array(select id from app_jobs.jobs where key = 'waiting'))", [JOBS]),
        ("select app_jobs.release_jobs('worker-under-test')", [JOBS]),
        ("select app_jobs.fail_job('worker-under-test', id, 'boom') from app_jobs.jobs where key = 'running'", [JOBS]),
        ("select app_jobs.complete_job('worker-under-test', id) from app_jobs.jobs where key = 'queued'", [JOBS]),
        ("delete from app_jobs.job_queues where queue_name = 'q'", [JOBS]),
        ("select app_jobs.complete_job('worker-under-test', id) from app_jobs.jobs where key = 'running'", []),
        ("select app_jobs.complete_job('another-worker', id) from app_jobs.jobs", []),
        ("select app_jobs.get_job('worker-under-test')", []),
        ("select app_jobs.add_scheduled_job('x', '0 9 * * *')", [("scheduled_jobs:insert", "")]),
        ("select app_jobs.add_scheduled_job('x', '0 9 * * *', job_key := 'daily')", [("scheduled_jobs:insert", "")]),
        ("delete from app_jobs.scheduled_jobs", [("scheduled_jobs:insert", "")]),
    ],
)
async def test_who_listens_is_told(jobs: Jobs, heard: Heard, statement: str, announced: list[tuple[str, str]]) -> None:
    """Whatever can make a job ready, or a schedule due, rings once for a statement; the rest rings nobody."""
    await jobs.add("x", job_key="running")
    await jobs.add("x", job_key="queued", queue_name="q")
    assert await jobs.claim() is not None
    assert await jobs.claim() is not None
    await jobs.add("x", job_key="waiting", run_at=MORNING)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('x', '0 8 * * *', job_key := 'daily')")
    assert await heard(statement) == announced
