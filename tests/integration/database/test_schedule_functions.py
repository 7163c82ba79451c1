"""Schedules in the database: how they come in, who holds them, and when one may make its next job."""

import json
from typing import Any

import asyncpg
import pytest

from support.jobs import TENANT, WORKER, Jobs

SCHEDULER = "scheduler-under-test"
CRON = {"rule": "0 9 * * *"}
PARTS = {"hour": 9, "minute": 0}
CALLS: list[tuple[str, dict[str, object]]] = [
    ("'x', '0 9 * * *'", {}),
    ("'x', '0 9 * * *', '{\"report_type\": \"daily\"}'::json", {"payload": {"report_type": "daily"}}),
    ("'x', '0 9 * * *', '{\"report_type\": \"daily\"}'", {"payload": {"report_type": "daily"}}),
    ("identifier := 'x', cron := '0 9 * * *'", {}),
    ("'x', '0 9 * * *', '{}', 'k', 'q', 3, -1", {"key": "k", "queue_name": "q", "max_attempts": 3, "priority": -1}),
    ("'x', '{\"id\": 1}'::json, '{\"hour\": 9, \"minute\": 0}'::json", {"payload": {"id": 1}, "schedule_info": PARTS}),
    ("'x', '{\"id\": 1}', '{\"hour\": 9, \"minute\": 0}'", {"payload": {"id": 1}, "schedule_info": PARTS}),
    ("'x', '[1]', '{\"hour\": 9, \"minute\": 0}'", {"payload": [1], "schedule_info": PARTS}),
    ("identifier := 'x', payload := '{}', schedule_info := '{\"rule\": \"0 9 * * *\"}'", {}),
    (
        "'x', '{}'::json, '{\"rule\": \"0 9 * * *\"}'::json, 'k', 'q', 3, -1",
        {"key": "k", "queue_name": "q", "max_attempts": 3, "priority": -1},
    ),
    (
        f"'{TENANT}'::uuid, 'x', '{{\"id\": 1}}'::json, '{{\"hour\": 9, \"minute\": 0}}'::json",
        {"database_id": TENANT, "payload": {"id": 1}, "schedule_info": PARTS},
    ),
    (
        f"'{TENANT}', 'x', '{{\"id\": 1}}', '{{\"hour\": 9, \"minute\": 0}}'",
        {"database_id": TENANT, "payload": {"id": 1}, "schedule_info": PARTS},
    ),
    (
        f"'{TENANT}'::uuid, 'x', '{{}}', '{{\"rule\": \"0 9 * * *\"}}', 'k', 'q', 3, -1",
        {"database_id": TENANT, "key": "k", "queue_name": "q", "max_attempts": 3, "priority": -1},
    ),
    (
        f"db_id := '{TENANT}', identifier := 'x', schedule_info := '{{\"rule\": \"0 9 * * *\"}}', job_key := 'k'",
        {"database_id": TENANT, "key": "k"},
    ),
]


@pytest.mark.parametrize(("arguments", "expected"), CALLS, ids=[arguments for arguments, _ in CALLS])
async def test_a_call_as_people_write_it(
    connection: "asyncpg.Connection[Any]", arguments: str, expected: dict[str, object]
) -> None:
    """Each call finds one function, and each word of it arrives where it belongs."""
    row = await connection.fetchrow(f"select * from app_jobs.add_scheduled_job({arguments})")
    assert row is not None
    usual: dict[str, object] = {
        "task_identifier": "x", "payload": {}, "schedule_info": CRON, "key": None, "queue_name": None,
        "max_attempts": 25, "priority": 0, "database_id": None, "actor_id": None, "locked_by": None,
        "last_scheduled": None, "last_scheduled_id": None,
    }  # fmt: skip
    found = {name: row[name] for name in usual}
    found |= {name: json.loads(row[name]) for name in ("payload", "schedule_info")}
    found["database_id"] = row["database_id"] and str(row["database_id"])
    assert found == usual | expected


async def test_a_schedule_belongs_to_the_sessions_tenant_and_actor(connection: "asyncpg.Connection[Any]") -> None:
    """As with add_job: from jwt.claims.database_id and jwt.claims.user_id, unless a tenant is given."""
    for name in ("database_id", "user_id"):
        await connection.execute("select set_config($1, $2, false)", f"jwt.claims.{name}", TENANT)
    for arguments in ("'x', '0 9 * * *'", "'x', '{}', '{\"hour\": 9}'", "'x', '{}'::json, '{\"hour\": 9}'::json"):
        row = await connection.fetchrow(
            f"select database_id::text, actor_id::text from app_jobs.add_scheduled_job({arguments})"
        )
        assert row is not None
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
async def test_no_schedule_without_a_rule(connection: "asyncpg.Connection[Any]", arguments: str) -> None:
    """schedule_info is an object, a cron rule is not empty: anything else is refused with a hint."""
    with pytest.raises(asyncpg.RaiseError, match="INVALID_SCHEDULE") as refused:
        await connection.execute(f"select app_jobs.add_scheduled_job({arguments})")
    assert refused.value.hint is not None


async def test_a_schedule_of_the_same_key_is_replaced(connection: "asyncpg.Connection[Any]") -> None:
    """One row per key, with the new rule, payload and limits."""
    first = await connection.fetchval("select (app_jobs.add_scheduled_job('x', '0 9 * * *', job_key := 'k')).id")
    row = await connection.fetchrow(
        "select * from app_jobs.add_scheduled_job('y', '0 10 * * *', '{\"v\": 2}', 'k', 'q', 3, -1)"
    )
    assert row is not None
    assert row["id"] == first
    names = ("task_identifier", "payload", "queue_name", "max_attempts", "priority")
    assert [row[name] for name in names] == ["y", '{"v": 2}', "q", 3, -1]
    assert json.loads(row["schedule_info"]) == {"rule": "0 10 * * *"}
    assert await connection.fetchval("select count(*) from app_jobs.scheduled_jobs") == 1


async def add_schedules(connection: "asyncpg.Connection[Any]", *tasks: str) -> list[int]:
    """One schedule for each of these tasks."""
    return [
        await connection.fetchval("select (app_jobs.add_scheduled_job($1::text, '0 9 * * *'::text)).id", task)
        for task in tasks
    ]


async def hold(
    connection: "asyncpg.Connection[Any]", tasks: list[str] | None = None, by: str = SCHEDULER
) -> int | None:
    """The id of the next free schedule, locked now; None where there is none."""
    row = await connection.fetchrow("select * from app_jobs.get_scheduled_job($1, $2)", by, tasks)
    assert row is not None
    if row["id"] is None:
        assert set(row.values()) == {None}
        return None
    assert row["locked_by"] == by
    assert row["locked_at"] is not None
    return int(row["id"])


async def test_each_schedule_is_held_by_one_scheduler(connection: "asyncpg.Connection[Any]") -> None:
    """get_scheduled_job gives out the unlocked ones, one by one, then an all-NULL row."""
    expected = await add_schedules(connection, "a", "b", "c")
    assert [await hold(connection), await hold(connection, by="another"), await hold(connection)] == expected
    assert await hold(connection) is None
    with pytest.raises(asyncpg.RaiseError, match="INVALID_WORKER_ID"):
        await connection.execute("select app_jobs.get_scheduled_job('abc')")


async def test_a_scheduler_takes_the_tasks_that_it_names(connection: "asyncpg.Connection[Any]") -> None:
    """A list only its own, an empty list none, NULL any."""
    first, second, third = await add_schedules(connection, "a", "b", "c")
    assert await hold(connection, []) is None
    assert await hold(connection, ["c", "unknown"]) == third
    assert await hold(connection, ["c"]) is None
    assert [await hold(connection), await hold(connection)] == [first, second]


@pytest.mark.parametrize("which", [None, [], [0], [0, 2], [3]])
async def test_schedules_are_released(connection: "asyncpg.Connection[Any]", which: list[int] | None) -> None:
    """All that this scheduler holds, or those of them that are named; never another's."""
    ids = await add_schedules(connection, "a", "b", "c", "d")
    for _ in range(3):
        await hold(connection)
    await hold(connection, by="another")
    named = None if which is None else [ids[number] for number in which]
    if named is None:
        await connection.execute("select app_jobs.release_scheduled_jobs($1)", SCHEDULER)
    else:
        await connection.execute("select app_jobs.release_scheduled_jobs($1, $2)", SCHEDULER, named)
    free = await connection.fetch(
        "select id from app_jobs.scheduled_jobs where locked_by is null and locked_at is null"
    )
    assert {row["id"] for row in free} == set(ids[:3] if named is None else named) - {ids[3]}


async def test_a_schedule_run_makes_its_job(connection: "asyncpg.Connection[Any]") -> None:
    """The job is due now and has all that the schedule says; the schedule remembers it."""
    schedule = await connection.fetchval(
        "select (app_jobs.add_scheduled_job($1::uuid, 'x', '{\"id\": 1}', '{\"hour\": 9}', 'k', 'q', 3, -1)).id", TENANT
    )
    await connection.execute("update app_jobs.scheduled_jobs set actor_id = $1, entity_id = $1", TENANT)
    async with connection.transaction():
        job = await connection.fetchrow("select *, now() as moment from app_jobs.run_scheduled_job($1)", schedule)
        row = await connection.fetchrow("select * from app_jobs.scheduled_jobs")
    assert job is not None
    assert row is not None
    names = ("task_identifier", "payload", "key", "queue_name", "max_attempts", "priority", "attempts", "locked_by")
    assert [job[name] for name in names] == ["x", '{"id": 1}', "k", "q", 3, -1, 0, None]
    assert {str(job[name]) for name in ("database_id", "actor_id", "entity_id")} == {TENANT}
    assert job["run_at"] == job["moment"] == row["last_scheduled"]
    assert row["last_scheduled_id"] == job["id"]
    stored = await connection.fetchrow("select *, $1::timestamptz as moment from app_jobs.jobs", job["moment"])
    assert stored == job


async def test_an_unknown_schedule_makes_no_job(jobs: Jobs) -> None:
    """run_scheduled_job of an id that is not there: all NULL, and nothing is enqueued."""
    row = await jobs.connection.fetchrow("select * from app_jobs.run_scheduled_job(424242)")
    assert row is not None
    assert set(row.values()) == {None}
    assert await jobs.count() == 0


WAITING = "select 1"
CLAIMED = f"select app_jobs.get_job('{WORKER}')"
LAST_ATTEMPT = "update app_jobs.jobs set max_attempts = 1"
LATER = "update app_jobs.jobs set run_at = now() + interval '1 day'"
OLD = "update app_jobs.jobs set locked_at = now() - interval '61 minutes'"
NOT_SO_OLD = "update app_jobs.jobs set locked_at = now() - interval '59 minutes'"
COMPLETED = f"select app_jobs.complete_job('{WORKER}', id) from app_jobs.jobs"
FAILED = f"select app_jobs.fail_job('{WORKER}', id, 'boom') from app_jobs.jobs"
PERMANENTLY_FAILED = "select app_jobs.permanently_fail_jobs(array_agg(id)) from app_jobs.jobs"


@pytest.mark.parametrize(
    ("statements", "runs"),
    [
        ([WAITING], False),
        ([LATER], False),
        ([CLAIMED], False),
        ([LAST_ATTEMPT, CLAIMED], False),
        ([CLAIMED, NOT_SO_OLD], False),
        ([CLAIMED, OLD], True),
        ([LAST_ATTEMPT, CLAIMED, OLD], True),
        ([CLAIMED, FAILED], False),
        ([LAST_ATTEMPT, CLAIMED, FAILED], True),
        ([PERMANENTLY_FAILED], True),
        ([CLAIMED, COMPLETED], True),
    ],
)
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_schedule_runs_when_its_last_job_has_ended(
    jobs: Jobs,
    key: str | None,
    statements: list[str],
    runs: bool,  # noqa: FBT001
) -> None:
    """ALREADY_SCHEDULED while it waits or runs; not once it is done, out of attempts, or held for over an hour."""
    schedule = await jobs.connection.fetchval(
        "select (app_jobs.add_scheduled_job('x', '0 9 * * *', job_key := $1)).id", key
    )
    first = await jobs.connection.fetchval("select (app_jobs.run_scheduled_job($1)).id", schedule)
    for statement in statements:
        await jobs.connection.execute(statement)
    if not runs:
        with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
            await jobs.connection.execute("select app_jobs.run_scheduled_job($1)", schedule)
        assert await jobs.connection.fetchval("select last_scheduled_id from app_jobs.scheduled_jobs") == first
        return
    again = await jobs.connection.fetchval("select (app_jobs.run_scheduled_job($1)).id", schedule)
    row = await jobs.row(again)
    assert row is not None
    assert (row["attempts"], row["locked_by"], row["key"]) == (0, None, key)
    assert await jobs.connection.fetchval("select last_scheduled_id from app_jobs.scheduled_jobs") == again


async def test_how_long_a_running_job_counts_is_the_callers_choice(jobs: Jobs) -> None:
    """job_expiry: after that the last job's worker is thought gone."""
    (schedule,) = await add_schedules(jobs.connection, "x")
    await jobs.connection.execute("select app_jobs.run_scheduled_job($1)", schedule)
    await jobs.claim()
    await jobs.connection.execute("update app_jobs.jobs set locked_at = now() - interval '10 minutes'")
    with pytest.raises(asyncpg.RaiseError, match="ALREADY_SCHEDULED"):
        await jobs.connection.execute("select app_jobs.run_scheduled_job($1, '11 minutes')", schedule)
    await jobs.connection.execute("select app_jobs.run_scheduled_job($1, '9 minutes')", schedule)
    assert await jobs.count() == 2


async def test_two_schedules_of_one_task_do_not_meet(jobs: Jobs) -> None:
    """Only a schedule's own last job keeps it from running."""
    first, second = await add_schedules(jobs.connection, "x", "x")
    await jobs.connection.execute("select app_jobs.run_scheduled_job($1)", first)
    await jobs.connection.execute("select app_jobs.run_scheduled_job($1)", second)
    assert await jobs.count() == 2
