"""The poller on jobfn's own schema: its columns, its locks, and triggers on its table."""

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from jobfn.scheduler.poller import BLOCKED_RETRY_SECONDS, LOCKED_RETRY_SECONDS
from support.fixtures import ConnectTo
from support.jobs import Jobs
from support.network import eventually
from support.schedules import OpenPoller, Schedules, at


async def test_job_has_the_options_of_its_schedule(schedules: Schedules, jobs: Jobs, open_poller: OpenPoller) -> None:
    options: dict[str, Any] = {
        "payload": '{"report": "daily"}',
        "queue_name": "reports",
        "priority": 3,
        "max_attempts": 5,
    }
    schedule = await schedules.add(**options)
    await (await open_poller()).poll("09:00")
    row = await schedules.row(schedule)
    job = await jobs.row(row["last_scheduled_id"])
    assert {name: job[name] for name in options} == options
    assert (job["task_identifier"], row["due_at"], row["skipped"]) == ("sweep", at("10:00"), 0)


@pytest.mark.parametrize(
    "call",
    [
        "add_scheduled_job('sweep', '0 * * * *')",
        "add_scheduled_job('sweep', '0 * * * *', '{\"a\": 1}'::json)",
        "add_scheduled_job('sweep', '{}'::json, '{\"rule\": \"0 * * * *\"}'::json)",
        "add_scheduled_job('sweep', '{}', '{\"minute\": 0}')",
        "add_scheduled_job(gen_random_uuid(), 'sweep', '{}'::json, '{\"minute\": 0}'::json)",
    ],
)
async def test_schedule_of_every_form_of_add_scheduled_job_runs(
    call: str, schedules: Schedules, open_poller: OpenPoller
) -> None:
    schedule = await schedules.connection.fetchval(f"select (app_jobs.{call}).id")
    await schedules.update(schedule, rule_changed_at=at("08:30"))
    await (await open_poller()).poll("09:00")
    assert await schedules.job_count() == 1


async def test_update_of_the_rule_resets_the_due_time(schedules: Schedules, open_poller: OpenPoller) -> None:
    schedule = await schedules.add()
    await (await open_poller()).poll()
    planned = await schedules.row(schedule)
    await schedules.update(schedule, schedule_info=planned["schedule_info"], priority=2)
    unchanged = await schedules.row(schedule)
    assert (unchanged["rule_changed_at"], unchanged["due_at"]) == (at("08:30"), at("09:00"))
    await schedules.update(schedule, schedule_info='{"rule": "5 * * * *"}')
    changed = await schedules.row(schedule)
    assert changed["rule_changed_at"] > at("08:30")
    assert changed["due_at"] is None


async def test_adding_the_same_keyed_schedule_again_keeps_its_due_time(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    add = "select (app_jobs.add_scheduled_job('sweep', '0 * * * *', job_key := 'k')).id"
    await schedules.update(await schedules.connection.fetchval(add), rule_changed_at=at("08:30"))
    poller = await open_poller()
    await poller.poll()
    await schedules.set_time("09:00:01")
    await schedules.connection.fetchval(add)
    await poller.poll()
    assert await schedules.job_count() == 1


async def test_adding_a_failed_schedule_again_does_not_repeat_the_failed_run(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    """An invalid schedule that is added again is validated again."""
    add = "select (app_jobs.add_scheduled_job($1, $2, job_key := $1)).id"
    await schedules.reject_jobs("bad")
    bad = await schedules.connection.fetchval(add, "bad", "0 * * * *")
    invalid = await schedules.connection.fetchval(add, "invalid", "0 25 * * *")
    await schedules.connection.execute("update app_jobs.scheduled_jobs set rule_changed_at = $1", at("08:30"))
    poller = await open_poller()
    await poller.poll("09:00")
    await schedules.accept_jobs()
    await schedules.connection.fetchval(add, "bad", "0 * * * *")
    await schedules.connection.fetchval(add, "invalid", "0 25 * * *")
    with capture_logs() as logs:
        await poller.poll("09:10")
    assert (await schedules.job_count(), (await schedules.row(bad))["due_at"]) == (0, at("10:00"))
    assert [log["schedule"] for log in logs if log["event"].startswith("invalid schedule")] == [invalid]


async def test_row_counts_skipped_runs_and_their_reason(schedules: Schedules, open_poller: OpenPoller) -> None:
    schedule = await schedules.add()
    poller = await open_poller()
    await poller.poll("10:30")
    row = await schedules.row(schedule)
    assert (row["skipped"], row["last_skipped"], row["skip_reason"]) == (1, at("09:00"), "no scheduler ran then")
    await poller.poll("11:00")
    row = await schedules.row(schedule)
    assert (row["skipped"], row["last_skipped"]) == (2, at("11:00"))
    assert row["skip_reason"] == "its last job was still waiting or running"


async def test_row_has_the_last_error_until_the_next_job(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.reject_jobs("bad")
    bad = await schedules.add(task_identifier="bad")
    invalid = await schedules.add({"rule": "0 25 * * *"})
    poller = await open_poller()
    await poller.poll("09:00")
    row = await schedules.row(bad)
    assert ('constraint "rejected"' in row["last_error"], row["due_at"]) == (True, at("10:00"))
    assert "hour (field 2 of 5) cannot be '25'" in (await schedules.row(invalid))["last_error"]
    await schedules.accept_jobs()
    await schedules.set_rule(invalid, "0 * * * *")
    await poller.poll("10:00")
    assert [(await schedules.row(schedule))["last_error"] for schedule in (bad, invalid)] == [None, None]


@pytest.mark.parametrize(
    ("lock", "job_count"),
    [
        ("locked_at = now() - interval '3 hours 59 minutes', attempts = 1", 1),
        ("locked_at = now() - interval '4 hours 1 minute', attempts = 1", 2),
        ("locked_at = now() - interval '9 hours', lease_expires_at = now() + interval '1 minute', attempts = 25", 1),
        # its worker died: it waits for another one
        ("locked_at = now(), lease_expires_at = now() - interval '1 minute', attempts = 1", 1),
        ("locked_at = now(), lease_expires_at = now() - interval '1 minute', attempts = 25", 2),
    ],
)
async def test_job_runs_as_long_as_its_lease_or_four_hours(
    lock: str, job_count: int, schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.add()
    poller = await open_poller()
    await poller.poll("09:00")
    await schedules.connection.execute(f"update app_jobs.jobs set locked_by = 'worker-1', {lock}")
    await poller.poll("10:00")
    assert await schedules.job_count() == job_count


async def test_one_poll_runs_all_due_schedules_in_several_batches(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.connection.execute(
        """
        insert into app_jobs.scheduled_jobs (task_identifier, schedule_info, rule_changed_at)
        select 'sweep', '{"rule": "0 * * * *"}', $1 from generate_series(1, 250)
        """,
        at("08:30"),
    )
    assert await (await open_poller()).poll("09:00") == 3600.0
    assert await schedules.job_count() == 250


async def test_schedule_locked_by_another_poller_is_left_out_and_polled_again_soon(
    schedules: Schedules, open_poller: OpenPoller, connect_to: ConnectTo, database: str
) -> None:
    locked = await schedules.add(task_identifier="locked")
    await schedules.add()
    poller = await open_poller()
    other = await connect_to(database)
    async with other.transaction():
        await other.execute("select from app_jobs.scheduled_jobs where id = $1 for update", locked)
        assert await poller.poll("09:00") == LOCKED_RETRY_SECONDS
        assert await _tasks_of_jobs(schedules) == ["sweep"]
    assert await poller.poll() == 3600.0
    assert await _tasks_of_jobs(schedules) == ["locked", "sweep"]


async def test_schedule_waits_for_a_lock_on_its_key_without_blocking_others(
    schedules: Schedules, open_poller: OpenPoller, connect_to: ConnectTo, database: str
) -> None:
    """An open transaction has added a job with the schedule's key."""
    keyed = await schedules.add(task_identifier="keyed", key="k")
    await schedules.add()
    poller = await open_poller()
    other = await connect_to(database)
    async with other.transaction():
        await other.execute("select app_jobs.add_job('keyed', '{}'::json, job_key := 'k')")
        assert await poller.poll("09:00") == BLOCKED_RETRY_SECONDS
        assert await _tasks_of_jobs(schedules) == ["sweep"]
    await poller.poll()
    assert (await schedules.row(keyed))["due_at"] == at("10:00")
    assert await _tasks_of_jobs(schedules) == ["keyed", "sweep"]


async def test_schedule_held_by_the_platforms_scheduler_is_taken_over_a_minute_after_its_due_time(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    schedule = await schedules.add()
    await schedules.connection.execute("select app_jobs.get_scheduled_job('node-scheduler')")
    poller = await open_poller()
    assert await poller.poll("08:30") == 1860.0
    await poller.poll("09:00:59")
    assert await schedules.job_count() == 0
    await poller.poll("09:01:00")
    row = await schedules.row(schedule)
    assert (await schedules.job_count(), row["locked_by"], row["due_at"]) == (1, None, at("10:00"))


async def test_failed_poll_is_rolled_back_and_can_be_repeated(
    schedules: Schedules, open_poller: OpenPoller, connect_to: ConnectTo, database: str
) -> None:
    schedule = await schedules.add()
    poller = await open_poller()
    await poller.poll()
    gate = await connect_to(database)
    await gate.execute("select pg_advisory_lock(1)")
    await schedules.connection.execute(
        """
        create function public.wait_at_gate() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
        create trigger wait_at_gate after insert on app_jobs.jobs for each row execute function public.wait_at_gate();
        """
    )
    polling = asyncio.create_task(poller.poll("09:00"))
    waiting = "select pid from pg_stat_activity where application_name = 'scheduler-a' and wait_event = 'advisory'"
    await gate.execute("select pg_terminate_backend($1)", await eventually(lambda: gate.fetchval(waiting)))
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await polling
    await gate.execute("select pg_advisory_unlock(1)")
    assert (await schedules.job_count(), (await schedules.row(schedule))["due_at"]) == (0, at("09:00"))
    await poller.poll()
    assert (await schedules.job_count(), (await schedules.row(schedule))["due_at"]) == (1, at("10:00"))


async def _tasks_of_jobs(schedules: Schedules) -> list[str]:
    rows = await schedules.connection.fetch("select task_identifier from app_jobs.jobs order by 1")
    return [row["task_identifier"] for row in rows]
