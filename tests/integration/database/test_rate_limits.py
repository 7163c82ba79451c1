"""Rates: never more starts in any window of time than a limit allows, and held jobs start when there is room."""

from datetime import timedelta

import asyncpg
import pytest

from support.jobs import Jobs
from support.limits import assert_consistent, claim, held, set_limit

MINUTE = timedelta(minutes=1)


async def pass_time(connection: asyncpg.Connection, seconds: float) -> None:
    """Move all times of limits into the past."""
    await connection.execute(
        "update app_jobs.limit_starts set ends_at = ends_at - $1::interval", timedelta(seconds=seconds)
    )
    await connection.execute(
        "update app_jobs.limit_keys set wake_at = wake_at - $1::interval, paused_until = paused_until - $1::interval",
        timedelta(seconds=seconds),
    )


async def seconds_until_wake(connection: asyncpg.Connection) -> float | None:
    """Return how long the only key that waits for a time waits."""
    seconds: float | None = await connection.fetchval(
        "select extract(epoch from min(wake_at) - now())::float from app_jobs.limit_keys"
    )
    return seconds


async def test_no_more_jobs_start_in_a_window_than_a_rate_allows(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", rate_count=2, rate_interval=MINUTE)
    added = [await jobs.add("sync") for _ in range(5)]
    assert await claim(connection, 10) == added[:2]
    for job in added[:2]:
        await jobs.complete(job)
    assert await claim(connection, 10) == []
    assert await held(connection) == added[2:]
    wait = await seconds_until_wake(connection)
    assert wait is not None
    assert 50 < wait < 60.1
    await pass_time(connection, 61)
    assert await claim(connection, 10) == added[2:4]
    assert await claim(connection, 10) == []
    assert await seconds_until_wake(connection) is not None
    await pass_time(connection, 61)
    assert await claim(connection, 10) == [added[4]]
    await assert_consistent(connection)


async def test_the_window_moves_with_each_start(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", rate_count=2, rate_interval=MINUTE)
    added = [await jobs.add("sync") for _ in range(2)]
    assert await claim(connection, 1) == added[:1]
    await pass_time(connection, 40)
    assert await claim(connection, 10) == added[1:]
    more = [await jobs.add("sync") for _ in range(3)]
    assert await claim(connection, 10) == []
    await pass_time(connection, 21)  # the first start is older than a minute, the second one is not
    assert await claim(connection, 10) == more[:1]
    assert await claim(connection, 10) == []


async def test_a_high_rate_counts_starts_in_parts_of_the_window(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", rate_count=100, rate_interval=timedelta(seconds=60))
    await jobs.connection.execute("select app_jobs.add_jobs('sync', array_fill('{}'::json, array[150]))")
    starts = [len(await claim(connection, 30)) for _ in range(6)]
    assert starts == [30, 30, 30, 10, 0, 0]
    rows = await connection.fetch("select ends_at, starts from app_jobs.limit_starts order by ends_at")
    assert sum(row["starts"] for row in rows) == 100
    assert all(row["ends_at"].microsecond == 0 for row in rows)
    assert await connection.fetchval(
        "select bool_and(s.ends_at >= j.locked_at) from app_jobs.limit_starts s, "
        "app_jobs.jobs j where j.locked_at is not null and s.ends_at = (select max(ends_at) from app_jobs.limit_starts)"
    )
    await pass_time(connection, 62)
    assert len(await claim(connection, 200)) == 50


async def test_each_attempt_is_a_start(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", rate_count=1, rate_interval=MINUTE)
    job = await jobs.add("sync")
    assert await claim(connection, 10) == [job]
    await jobs.fail(job)
    await jobs.update("run_at = now()")
    assert await claim(connection, 10) == []
    await pass_time(connection, 61)
    assert await claim(connection, 10) == [job]


async def test_an_expired_job_waits_for_the_rate_too(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", concurrency=1, rate_count=1, rate_interval=MINUTE)
    job = await jobs.add("sync")
    assert await claim(connection, 1, lease=timedelta(seconds=30)) == [job]
    await jobs.update("lease_expires_at = now() - interval '1 second'")
    assert await claim(connection, 1, worker="another") == []
    assert await jobs.values(job, "locked_by", "attempts", "fenced_attempt") == (None, 1, 1)
    assert await connection.fetchval("select outcome from app_jobs.job_runs") == "lost"
    await assert_consistent(connection)
    await pass_time(connection, 61)
    assert await claim(connection, 1, worker="another") == [job]


async def test_concurrency_and_rate_both_hold(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", task_identifier="sync", concurrency=2, rate_count=3, rate_interval=MINUTE)
    added = [await jobs.add("sync") for _ in range(6)]
    assert await claim(connection, 10) == added[:2]
    for job in added[:2]:
        await jobs.complete(job)
    assert await claim(connection, 10) == added[2:3]
    assert await claim(connection, 10) == []
    await pass_time(connection, 61)
    assert await claim(connection, 10) == added[3:4]


async def test_a_paused_key_starts_nothing_until_its_time(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", per="payload.customer", concurrency=5)
    pause = "select app_jobs.pause_limit_key('sync', 'a', now() + $1::interval)"
    assert await connection.fetchval(pause, MINUTE) is True
    paused, other = [await jobs.add("sync", {"customer": customer}) for customer in ("a", "b")]
    assert await claim(connection, 10) == [other]
    assert await held(connection) == [paused]
    wait = await seconds_until_wake(connection)
    assert wait is not None
    assert 50 < wait <= 60
    await pass_time(connection, 61)
    assert await claim(connection, 10) == [paused]


async def test_a_pause_can_end_early(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", rate_count=5, rate_interval=MINUTE)
    await connection.execute("select app_jobs.pause_limit_key('sync', '', now() + interval '1 hour')")
    job = await jobs.add("sync")
    assert await claim(connection, 10) == []
    await connection.execute("select app_jobs.pause_limit_key('sync', '', null)")
    assert await claim(connection, 10) == [job]
    assert await connection.fetchval("select app_jobs.pause_limit_key('unknown', '', null)") is False


@pytest.mark.parametrize("is_removed", [False, True])
async def test_held_jobs_of_a_rate_are_released_when_it_changes(jobs: Jobs, *, is_removed: bool) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", rate_count=1, rate_interval=MINUTE)
    added = [await jobs.add("sync") for _ in range(3)]
    assert await claim(connection, 10) == added[:1]
    if is_removed:
        await connection.execute("select app_jobs.remove_limit('sync')")
    else:
        await set_limit(connection, "sync", rate_count=10, rate_interval=MINUTE)
    assert await claim(connection, 10) == added[1:]


async def test_a_sweep_releases_what_a_job_that_no_worker_takes_holds_back(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "each", per="tenant", concurrency=1)
    running = await jobs.add("x")
    assert await claim(connection, 10) == [running]
    stuck, waiting = await jobs.add("unknown"), await jobs.add("x")
    await jobs.complete(running)
    assert await claim(connection, 10, tasks=["x"]) == []
    await connection.execute("select app_jobs.sweep_limits()")
    assert await claim(connection, 10, tasks=["x"]) == [waiting]
    await jobs.complete(waiting)
    assert await claim(connection, 10, tasks=["unknown"]) == [stuck]
    await assert_consistent(connection)


async def test_a_sweep_forgets_old_starts_and_keys(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", per="key", rate_count=1, rate_interval=MINUTE)
    await jobs.add("sync", job_key="a")
    await claim(connection, 10)
    await connection.execute("select app_jobs.pause_limit_key('sync', 'a', now() + interval '30 seconds')")
    await pass_time(connection, 61)
    await connection.execute("select app_jobs.sweep_limits()")
    assert await connection.fetchval("select count(*) from app_jobs.limit_starts") == 0
    assert await connection.fetchval("select count(*) from app_jobs.limit_keys") == 0


async def test_a_sweep_releases_jobs_of_a_limit_that_was_removed_while_they_were_added(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", concurrency=1)
    added = [await jobs.add("sync") for _ in range(2)]
    await claim(connection, 10)
    await connection.execute("delete from app_jobs.limits")
    await connection.execute("select app_jobs.sweep_limits()")
    await connection.execute("select app_jobs.sweep_limits()")  # too early for another one
    assert await claim(connection, 10) == added[1:]


SNOOZE = (
    "select app_jobs.snooze_jobs('{worker-under-test}', array[$1::bigint], '{1}', '{busy}', '{1 minute}', '{1 day}')"
)


async def test_retry_later_of_one_job_pauses_its_key(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", per="payload.customer", concurrency=2, pauses_on_retry_later=True)
    asked = await jobs.add("sync", {"customer": "a"})
    assert await claim(connection, 10) == [asked]
    waiting, other = [await jobs.add("sync", {"customer": customer}) for customer in ("a", "b")]
    await connection.execute(SNOOZE, asked)
    assert await claim(connection, 10) == [other]
    assert await held(connection) == [waiting]
    await pass_time(connection, 61)
    assert await claim(connection, 10) == [waiting]
    await assert_consistent(connection)


async def test_other_limits_are_not_paused_by_retry_later(jobs: Jobs) -> None:
    await set_limit(jobs.connection, "sync", concurrency=2)
    asked, waiting = await jobs.add("sync"), await jobs.add("sync")
    assert await claim(jobs.connection, 1) == [asked]
    await jobs.connection.execute(SNOOZE, asked)
    assert await claim(jobs.connection, 10) == [waiting]


async def test_idle_workers_wake_when_a_rate_has_room(jobs: Jobs) -> None:
    connection = jobs.connection
    await set_limit(connection, "sync", rate_count=1, rate_interval=MINUTE)
    for _ in range(2):
        await jobs.add("sync")
    assert len(await claim(connection, 10)) == 1
    next_run_at = "select app_jobs.next_run_at('1 hour') = (select wake_at from app_jobs.limit_keys)"
    assert await connection.fetchval(next_run_at) is True
