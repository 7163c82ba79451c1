"""The SQL functions of schedules: add, lock, release and run."""

import json

import asyncpg
import pytest

from support.jobs import TENANT, WORKER, Jobs

SCHEDULER = "scheduler-under-test"
CRON = {"rule": "0 9 * * *"}
AT_NINE = {"hour": 9, "minute": 0}
ALL = {"key": "k", "queue_name": "q", "max_attempts": 3, "priority": -1}
#: Arguments of ``add_scheduled_job``, and the columns that differ from the defaults.
CALLS: list[tuple[str, dict[str, object]]] = [
    ("'x', '0 9 * * *'", {}),
    ("'x', '0 9 * * *', '{\"report_type\": \"daily\"}'::json", {"payload": {"report_type": "daily"}}),
    ("'x', '0 9 * * *', '{\"report_type\": \"daily\"}'", {"payload": {"report_type": "daily"}}),
    ("identifier := 'x', cron := '0 9 * * *'", {}),
    ("'x', '0 9 * * *', '{}', 'k', 'q', 3, -1", ALL),
    (
        "'x', '{\"id\": 1}'::json, '{\"hour\": 9, \"minute\": 0}'::json",
        {"payload": {"id": 1}, "schedule_info": AT_NINE},
    ),
    ("'x', '{\"id\": 1}', '{\"hour\": 9, \"minute\": 0}'", {"payload": {"id": 1}, "schedule_info": AT_NINE}),
    ("'x', '[1]', '{\"hour\": 9, \"minute\": 0}'", {"payload": [1], "schedule_info": AT_NINE}),
    ("identifier := 'x', payload := '{}', schedule_info := '{\"rule\": \"0 9 * * *\"}'", {}),
    ("'x', '{}'::json, '{\"rule\": \"0 9 * * *\"}'::json, 'k', 'q', 3, -1", ALL),
    (
        f"'{TENANT}'::uuid, 'x', '{{\"id\": 1}}'::json, '{{\"hour\": 9, \"minute\": 0}}'::json",
        {"database_id": TENANT, "payload": {"id": 1}, "schedule_info": AT_NINE},
    ),
    (
        f"'{TENANT}', 'x', '{{\"id\": 1}}', '{{\"hour\": 9, \"minute\": 0}}'",
        {"database_id": TENANT, "payload": {"id": 1}, "schedule_info": AT_NINE},
    ),
    (
        f"'{TENANT}'::uuid, 'x', '{{}}', '{{\"rule\": \"0 9 * * *\"}}', 'k', 'q', 3, -1",
        ALL | {"database_id": TENANT},
    ),
    (
        f"db_id := '{TENANT}', identifier := 'x', schedule_info := '{{\"rule\": \"0 9 * * *\"}}', job_key := 'k'",
        {"database_id": TENANT, "key": "k"},
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), CALLS, ids=[arguments for arguments, _ in CALLS])
async def test_add_scheduled_job_accepts_this_call(
    connection: asyncpg.Connection, arguments: str, expected: dict[str, object]
) -> None:
    row = await connection.fetchrow(f"select * from app_jobs.add_scheduled_job({arguments})")
    defaults: dict[str, object] = {
        "task_identifier": "x", "payload": {}, "schedule_info": CRON, "key": None, "queue_name": None,
        "max_attempts": 25, "priority": 0, "database_id": None, "actor_id": None, "locked_by": None,
        "last_scheduled": None, "last_scheduled_id": None,
    }  # fmt: skip
    columns = {name: row[name] for name in defaults}
    columns |= {name: json.loads(row[name]) for name in ("payload", "schedule_info")}
    columns["database_id"] = row["database_id"] and str(row["database_id"])
    assert columns == defaults | expected


async def test_tenant_and_actor_come_from_jwt_claims_of_the_session(connection: asyncpg.Connection) -> None:
    for name in ("database_id", "user_id"):
        await connection.execute("select set_config($1, $2, false)", f"jwt.claims.{name}", TENANT)
    for arguments in ("'x', '0 9 * * *'", "'x', '{}', '{\"hour\": 9}'", "'x', '{}'::json, '{\"hour\": 9}'::json"):
        row = await connection.fetchrow(
            f"select database_id::text, actor_id::text from app_jobs.add_scheduled_job({arguments})"
        )
        assert tuple(row) == (TENANT, TENANT)


@pytest.mark.parametrize(
    "arguments",
    [
        "'x', ''",
        "'x', ' '",
        "'x', null::text",
        "'x', '{}'::json, null::json",
        "'x', '{}'::json, '[]'::json",
        "'x', '{}'::json, '\"0 9 * * *\"'::json",
    ],
)
async def test_schedule_without_a_rule_is_rejected_with_a_hint(connection: asyncpg.Connection, arguments: str) -> None:
    with pytest.raises(asyncpg.RaiseError, match="INVALID_SCHEDULE") as caught:
        await connection.execute(f"select app_jobs.add_scheduled_job({arguments})")
    assert caught.value.hint is not None


async def test_schedule_with_the_same_key_is_replaced(connection: asyncpg.Connection) -> None:
    first = await connection.fetchval("select (app_jobs.add_scheduled_job('x', '0 9 * * *', job_key := 'k')).id")
    row = await connection.fetchrow(
        "select * from app_jobs.add_scheduled_job('y', '0 10 * * *', '{\"v\": 2}', 'k', 'q', 3, -1)"
    )
    names = ("id", "task_identifier", "payload", "queue_name", "max_attempts", "priority")
    assert [row[name] for name in names] == [first, "y", '{"v": 2}', "q", 3, -1]
    assert json.loads(row["schedule_info"]) == {"rule": "0 10 * * *"}
    assert await connection.fetchval("select count(*) from app_jobs.scheduled_jobs") == 1


async def add_schedules(connection: asyncpg.Connection, *tasks: str) -> list[int]:
    """Add a schedule for each task."""
    add = "select (app_jobs.add_scheduled_job($1::text, '0 9 * * *'::text)).id"
    return [await connection.fetchval(add, task) for task in tasks]


async def lock_next(
    connection: asyncpg.Connection, tasks: list[str] | None = None, *, scheduler: str = SCHEDULER
) -> int | None:
    """Call ``get_scheduled_job``, and return the schedule's id, or None if no schedule is free."""
    row = await connection.fetchrow("select * from app_jobs.get_scheduled_job($1, $2)", scheduler, tasks)
    if row["id"] is None:
        assert set(row.values()) == {None}
        return None
    assert (row["locked_by"], row["locked_at"] is not None) == (scheduler, True)
    return int(row["id"])


async def test_get_scheduled_job_locks_free_schedules_one_by_one(connection: asyncpg.Connection) -> None:
    schedules = await add_schedules(connection, "a", "b", "c")
    locked = [await lock_next(connection, scheduler=scheduler) for scheduler in (SCHEDULER, "another", SCHEDULER)]
    assert locked == schedules
    assert await lock_next(connection) is None
    with pytest.raises(asyncpg.RaiseError, match="INVALID_WORKER_ID"):
        await connection.execute("select app_jobs.get_scheduled_job('abc')")


async def test_get_scheduled_job_locks_only_schedules_of_the_given_tasks(connection: asyncpg.Connection) -> None:
    first, second, third = await add_schedules(connection, "a", "b", "c")
    assert await lock_next(connection, []) is None
    assert await lock_next(connection, ["c", "unknown"]) == third
    assert await lock_next(connection, ["c"]) is None
    assert [await lock_next(connection), await lock_next(connection)] == [first, second]


@pytest.mark.parametrize(
    ("released", "expected"), [(None, [0, 1, 2]), ([], []), ([0], [0]), ([0, 2], [0, 2]), ([3], [])]
)
async def test_release_unlocks_the_given_schedules_of_the_scheduler(
    connection: asyncpg.Connection, released: list[int] | None, expected: list[int]
) -> None:
    ids = await add_schedules(connection, "a", "b", "c", "d")
    for _ in range(3):
        await lock_next(connection)
    await lock_next(connection, scheduler="another")
    arguments = [] if released is None else [[ids[index] for index in released]]
    places = ", $2" if arguments else ""
    await connection.execute(f"select app_jobs.release_scheduled_jobs($1{places})", SCHEDULER, *arguments)
    rows = await connection.fetch(
        "select id from app_jobs.scheduled_jobs where locked_by is null and locked_at is null order by id"
    )
    assert [row["id"] for row in rows] == [ids[index] for index in expected]


async def test_run_enqueues_a_job_with_all_columns_of_the_schedule(connection: asyncpg.Connection) -> None:
    schedule = await connection.fetchval(
        "select (app_jobs.add_scheduled_job($1::uuid, 'x', '{\"id\": 1}', '{\"hour\": 9}', 'k', 'q', 3, -1)).id", TENANT
    )
    await connection.execute("update app_jobs.scheduled_jobs set actor_id = $1, entity_id = $1", TENANT)
    async with connection.transaction():
        job = await connection.fetchrow("select *, now() as now from app_jobs.run_scheduled_job($1)", schedule)
    names = ("task_identifier", "payload", "key", "queue_name", "max_attempts", "priority", "attempts", "locked_by")
    assert [job[name] for name in names] == ["x", '{"id": 1}', "k", "q", 3, -1, 0, None]
    assert {str(job[name]) for name in ("database_id", "actor_id", "entity_id")} == {TENANT}
    row = await connection.fetchrow("select * from app_jobs.scheduled_jobs")
    assert (row["last_scheduled"], row["last_scheduled_id"]) == (job["now"], job["id"])
    assert job["run_at"] == job["now"]
    stored = "select (app_jobs.to_job_row(j)).*, $1::timestamptz as now from app_jobs.jobs j"
    assert await connection.fetchrow(stored, job["now"]) == job


async def test_run_of_an_unknown_schedule_enqueues_nothing(jobs: Jobs) -> None:
    row = await jobs.connection.fetchrow("select * from app_jobs.run_scheduled_job(424242)")
    assert set(row.values()) == {None}
    assert await jobs.count() == 0


CLAIM = f"select app_jobs.get_job('{WORKER}')"
LAST_ATTEMPT = "update app_jobs.jobs set max_attempts = 1"
COMPLETE = f"select app_jobs.complete_job('{WORKER}', id) from app_jobs.jobs"
FAIL = f"select app_jobs.fail_job('{WORKER}', id, 'boom') from app_jobs.jobs"
AFTER_59_MINUTES = "update app_jobs.jobs set locked_at = now() - interval '59 minutes'"
AFTER_61_MINUTES = "update app_jobs.jobs set locked_at = now() - interval '61 minutes'"


@pytest.mark.parametrize(
    ("statements", "runs"),
    [
        ([], False),
        (["update app_jobs.jobs set run_at = now() + interval '1 day'"], False),
        ([CLAIM], False),
        ([LAST_ATTEMPT, CLAIM], False),
        ([CLAIM, AFTER_59_MINUTES], False),
        ([CLAIM, AFTER_61_MINUTES], True),
        ([LAST_ATTEMPT, CLAIM, AFTER_61_MINUTES], True),
        ([CLAIM, FAIL], False),
        ([LAST_ATTEMPT, CLAIM, FAIL], True),
        (["select app_jobs.permanently_fail_jobs(array_agg(id)) from app_jobs.jobs"], True),
        ([CLAIM, COMPLETE], True),
    ],
)
@pytest.mark.parametrize("key", [None, "k"])
async def test_schedule_runs_only_if_its_last_job_has_ended_or_expired(
    jobs: Jobs, key: str | None, statements: list[str], *, runs: bool
) -> None:
    run = "select (app_jobs.run_scheduled_job($1)).id"
    schedule = await jobs.connection.fetchval(
        "select (app_jobs.add_scheduled_job('x', '0 9 * * *', job_key := $1)).id", key
    )
    last = await jobs.connection.fetchval(run, schedule)
    for statement in statements:
        await jobs.connection.execute(statement)
    if runs:
        last = await jobs.connection.fetchval(run, schedule)
        assert await jobs.values(last, "attempts", "locked_by", "key") == (0, None, key)
    else:
        with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
            await jobs.connection.fetchval(run, schedule)
    assert await jobs.connection.fetchval("select last_scheduled_id from app_jobs.scheduled_jobs") == last


async def test_last_job_expires_after_job_expiry(jobs: Jobs) -> None:
    (schedule,) = await add_schedules(jobs.connection, "x")
    await jobs.connection.execute("select app_jobs.run_scheduled_job($1)", schedule)
    await jobs.claim()
    await jobs.update("locked_at = now() - interval '10 minutes'")
    with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
        await jobs.connection.execute("select app_jobs.run_scheduled_job($1, '11 minutes')", schedule)
    await jobs.connection.execute("select app_jobs.run_scheduled_job($1, '9 minutes')", schedule)
    assert await jobs.count() == 2


async def test_schedules_of_the_same_task_do_not_block_each_other(jobs: Jobs) -> None:
    for schedule in await add_schedules(jobs.connection, "x", "x"):
        await jobs.connection.execute("select app_jobs.run_scheduled_job($1)", schedule)
    assert await jobs.count() == 2
