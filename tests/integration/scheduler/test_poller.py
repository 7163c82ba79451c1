"""One look at the schedules of jobfn's own schema, at whatever time the test's clock shows."""

import asyncio
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from jobfn.scheduler.poller import BLOCKED_RETRY_SECONDS, LOCKED_RETRY_SECONDS
from support.jobs import Jobs
from support.network import eventually
from support.schedules import EVERY_HOUR, Clock, OpenPoller, Schedules, at


async def test_a_due_time_makes_one_job(schedules: Schedules, jobs: Jobs, poller: OpenPoller, clock: Clock) -> None:
    """Planned when it is first seen, made when its time comes, planned again; and says when to look next."""
    schedule = await schedules.add(payload='{"report": "daily"}', queue_name="reports", priority=3, max_attempts=5)
    scheduler = await poller()
    assert await scheduler.poll() == 1800.0
    assert await jobs.count() == 0

    clock.set("09:00")
    assert await scheduler.poll() == 3600.0
    assert await scheduler.poll() == 3600.0
    row = await schedules.row(schedule)
    job = await jobs.row(row["last_scheduled_id"])
    assert job is not None
    assert (await jobs.count(), row["due_at"], row["skipped"]) == (1, at("10:00"), 0)
    assert {name: job[name] for name in ("task_identifier", "payload", "queue_name", "priority", "max_attempts")} == {
        "task_identifier": "sweep",
        "payload": '{"report": "daily"}',
        "queue_name": "reports",
        "priority": 3,
        "max_attempts": 5,
    }


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
async def test_every_form_of_add_scheduled_job_is_served(
    call: str, schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Whichever way people write it, the job is made."""
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute(f"select app_jobs.{call}")
    await schedules.connection.execute("update app_jobs.scheduled_jobs set rule_since = $1", at("08:30"))
    scheduler = await poller()
    clock.set("09:00")
    await scheduler.poll()
    assert await schedules.made() == 1


async def test_a_changed_rule_counts_from_its_change(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """Times before the change make no job, times after it do; the rule before it is forgotten."""
    await schedules.finish_jobs_at_once()
    schedule = await schedules.add({"rule": "0 12 * * *"})
    scheduler = await poller()
    await scheduler.poll()

    clock.set("09:30")
    await schedules.change(schedule, schedule_info='{"rule": "15 * * * *"}', rule_since=at("09:30"))
    assert await scheduler.poll() == 2700.0
    clock.set("10:15")
    await scheduler.poll()
    clock.set("12:00")
    await scheduler.poll()
    assert await schedules.made() == 2


async def test_a_plain_update_marks_the_time_of_the_change(schedules: Schedules, poller: OpenPoller) -> None:
    """The table itself notes since when a rule holds, and has it planned anew; not where the rule stays the same."""
    schedule = await schedules.add()
    await (await poller()).poll()
    planned = await schedules.row(schedule)
    await schedules.change(schedule, schedule_info=planned["schedule_info"], priority=2)
    unchanged = await schedules.row(schedule)
    assert (unchanged["rule_since"], unchanged["due_at"]) == (at("08:30"), at("09:00"))
    await schedules.change(schedule, schedule_info='{"rule": "5 * * * *"}')
    changed = await schedules.row(schedule)
    assert changed["rule_since"] > at("08:30")
    assert changed["due_at"] is None


async def test_adding_the_same_schedule_again_loses_no_time(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """A deployment that adds its keyed schedule anew, while its time passes, leaves the due time as it is."""
    add = "select app_jobs.add_scheduled_job('sweep', '0 * * * *', job_key := 'k')"
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute(add)
    await schedules.connection.execute("update app_jobs.scheduled_jobs set rule_since = $1", at("08:30"))
    scheduler = await poller()
    await scheduler.poll()
    clock.set("09:00:01")
    await schedules.connection.execute(add)
    await scheduler.poll()
    assert await schedules.made() == 1


async def test_adding_a_schedule_again_whose_job_could_not_be_made_makes_none_at_once(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """The time that failed is over; the next one counts. A broken rule added again is looked at again."""
    add = "select (app_jobs.add_scheduled_job($1, $2, job_key := $1)).id"
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute("alter table app_jobs.jobs add constraint none check (task_identifier <> 'bad')")
    bad = await schedules.connection.fetchval(add, "bad", "0 * * * *")
    broken = await schedules.connection.fetchval(add, "broken", "0 25 * * *")
    await schedules.connection.execute("update app_jobs.scheduled_jobs set rule_since = $1", at("08:30"))
    scheduler = await poller()
    clock.set("09:00")
    await scheduler.poll()
    await schedules.connection.execute("alter table app_jobs.jobs drop constraint none")
    await schedules.connection.fetch(add, "bad", "0 * * * *")
    await schedules.connection.fetch(add, "broken", "0 25 * * *")
    clock.set("09:10")
    with capture_logs() as logged:
        await scheduler.poll()
    assert (await schedules.made("bad"), (await schedules.row(bad))["due_at"]) == (0, at("10:00"))
    assert [line["schedule"] for line in logged if line["event"].startswith("invalid schedule")] == [broken]


async def test_a_removed_schedule_makes_no_job(schedules: Schedules, poller: OpenPoller, clock: Clock) -> None:
    """It is gone with its row; nothing is left to look at."""
    await schedules.finish_jobs_at_once()
    await schedules.add()
    scheduler = await poller()
    await scheduler.poll()
    await schedules.connection.execute("delete from app_jobs.scheduled_jobs")
    clock.set("09:00")
    assert await scheduler.poll() is None
    assert await schedules.made() == 0


@pytest.mark.parametrize(
    ("catch_up", "made", "skipped", "last_skipped"),
    [("one", 1, 3, "11:00"), ("all", 4, 0, None), ("none", 0, 4, "12:00")],
)
async def test_after_a_downtime_missed_times_are_caught_up_as_asked(
    catch_up: str,
    made: int,
    skipped: int,
    last_skipped: str | None,
    schedules: Schedules,
    poller: OpenPoller,
    clock: Clock,
) -> None:
    """From 08:30 to 12:30 nobody looked at an hourly schedule: four times were missed."""
    await schedules.finish_jobs_at_once()
    schedule = await schedules.add(EVERY_HOUR | {"catch_up": catch_up})
    await (await poller()).poll()
    clock.set("12:30")
    await (await poller("scheduler-b")).poll()
    row = await schedules.row(schedule)
    assert (await schedules.made(), row["skipped"], row["due_at"]) == (made, skipped, at("13:00"))
    assert row["last_skipped"] == (at(last_skipped) if last_skipped else None)
    if skipped:
        assert row["skip_reason"] == "no scheduler ran then"


async def test_a_schedule_added_in_a_downtime_is_caught_up_too(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Its time counts from when it was added, not from when a scheduler first saw it."""
    await schedules.finish_jobs_at_once()
    await schedules.add()
    clock.set("09:10")
    await (await poller()).poll()
    assert await schedules.made() == 1


async def test_a_time_is_skipped_while_the_last_job_waits(
    schedules: Schedules, jobs: Jobs, poller: OpenPoller, clock: Clock
) -> None:
    """No second job; the skip is in the log and in the row; once the job is done the next time makes one again."""
    schedule = await schedules.add()
    scheduler = await poller()
    clock.set("09:00")
    await scheduler.poll()
    clock.set("10:00")
    with capture_logs() as logged:
        await scheduler.poll()
    row = await schedules.row(schedule)
    assert (await jobs.count(), row["skipped"], row["last_skipped"]) == (1, 1, at("10:00"))
    assert row["skip_reason"] == "its last job was still waiting or running"
    assert [line["due"] for line in logged if line["event"].startswith("run skipped")] == ["2026-03-02T10:00:00+00:00"]

    await schedules.connection.execute("delete from app_jobs.jobs")
    clock.set("11:00")
    await scheduler.poll()
    assert await jobs.count() == 1


@pytest.mark.parametrize(
    ("held", "jobs_then"),
    [
        ("locked_at = now() - interval '3 hours 59 minutes', attempts = 1", 1),
        ("locked_at = now() - interval '4 hours 1 minute', attempts = 1", 2),
        ("locked_at = now() - interval '9 hours', lease_expires_at = now() + interval '1 minute', attempts = 25", 1),
        # its worker died: it waits for another one
        ("locked_at = now(), lease_expires_at = now() - interval '1 minute', attempts = 1", 1),
        ("locked_at = now(), lease_expires_at = now() - interval '1 minute', attempts = 25", 2),
    ],
)
async def test_a_job_of_hours_counts_as_running(
    held: str, jobs_then: int, schedules: Schedules, jobs: Jobs, poller: OpenPoller, clock: Clock
) -> None:
    """As long as its worker's lock holds: by its lease, or without one for four hours."""
    await schedules.add()
    scheduler = await poller()
    clock.set("09:00")
    await scheduler.poll()
    await schedules.connection.execute(f"update app_jobs.jobs set locked_by = 'worker-1', {held}")
    clock.set("10:00")
    await scheduler.poll()
    assert await jobs.count() == jobs_then


async def test_with_catch_up_all_a_time_waits_for_the_last_job(
    schedules: Schedules, jobs: Jobs, poller: OpenPoller, clock: Clock
) -> None:
    """Nothing is skipped: the time gets its job, one second's look after the last one is done."""
    schedule = await schedules.add(EVERY_HOUR | {"catch_up": "all"})
    scheduler = await poller()
    clock.set("10:30")
    assert await scheduler.poll() == BLOCKED_RETRY_SECONDS
    assert (await jobs.count(), (await schedules.row(schedule))["due_at"]) == (1, at("10:00"))
    await schedules.connection.execute("delete from app_jobs.jobs")
    assert await scheduler.poll() == 1800.0
    assert (await jobs.count(), (await schedules.row(schedule))["skipped"]) == (1, 0)


async def test_a_broken_schedule_is_logged_once_and_the_others_go_on(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Its row says why; mended, it is served."""
    await schedules.finish_jobs_at_once()
    broken = await schedules.add({"rule": "0 25 * * *"}, task_identifier="broken")
    await schedules.add({"timezone": "Europe/Paris"}, task_identifier="empty")
    await schedules.add()
    scheduler = await poller()
    with capture_logs() as logged:
        for time in ("08:45", "09:00", "10:00"):
            clock.set(time)
            await scheduler.poll()
    assert await schedules.made() == 2
    complaints = [line for line in logged if line["event"].startswith("invalid schedule")]
    assert sorted(line["task"] for line in complaints) == ["broken", "empty"]
    assert "hour (field 2 of 5) cannot be '25'" in (await schedules.row(broken))["last_error"]

    await schedules.change(broken, schedule_info='{"rule": "30 * * * *"}', rule_since=at("10:00"))
    await scheduler.poll()
    clock.set("10:30")
    await scheduler.poll()
    assert await schedules.made("broken") == 1
    assert (await schedules.row(broken))["last_error"] is None


async def test_a_job_that_cannot_be_made_holds_up_no_other(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """What PostgreSQL said stands in the row; the next due time tries again."""
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute(
        "alter table app_jobs.jobs add constraint no_bad_tasks check (task_identifier <> 'bad')"
    )
    bad = await schedules.add(task_identifier="bad")
    await schedules.add()
    scheduler = await poller()
    clock.set("09:00")
    await scheduler.poll()
    row = await schedules.row(bad)
    assert (await schedules.made(), row["due_at"]) == (1, at("10:00"))
    assert "no_bad_tasks" in row["last_error"]

    await schedules.connection.execute("alter table app_jobs.jobs drop constraint no_bad_tasks")
    clock.set("10:00")
    await scheduler.poll()
    assert (await schedules.made("bad"), (await schedules.row(bad))["last_error"]) == (1, None)


async def test_many_schedules_of_one_moment_are_served_in_one_look(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """More than one batch of them."""
    await schedules.finish_jobs_at_once()
    await schedules.connection.execute(
        """
        insert into app_jobs.scheduled_jobs (task_identifier, schedule_info, rule_since)
        select 'sweep', '{"rule": "0 * * * *"}', $1 from generate_series(1, 250)
        """,
        at("08:30"),
    )
    clock.set("09:00")
    assert await (await poller()).poll() == 3600.0
    assert await schedules.made() == 250


async def test_any_number_of_schedulers_make_one_job_for_each_time(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Three look at the same moments at the same time, at twenty schedules."""
    await schedules.finish_jobs_at_once()
    for _ in range(20):
        await schedules.add({"rule": "* * * * *"})
    schedulers = [await poller(f"scheduler-{number}") for number in range(3)]
    for minute in range(31, 41):
        clock.set(f"08:{minute}")
        await asyncio.gather(*(scheduler.poll() for scheduler in schedulers))
    assert await schedules.made() == 20 * 10
    assert await schedules.connection.fetchval("select sum(skipped) from app_jobs.scheduled_jobs") == 0


async def test_only_schedules_of_supported_tasks_are_served(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """JOBS_SUPPORTED holds for the scheduler as for the worker."""
    await schedules.finish_jobs_at_once()
    await schedules.add()
    await schedules.add(task_identifier="other")
    scheduler = await poller(tasks=["sweep"])
    clock.set("09:00")
    assert await scheduler.poll() == 3600.0
    assert (await schedules.made(), await schedules.made("other")) == (1, 0)


async def test_a_schedule_under_another_schedulers_hands_is_passed_over(
    schedules: Schedules, poller: OpenPoller, clock: Clock, database: str
) -> None:
    """The others are served without waiting for it, and it is looked at again at once; let go, it is served."""
    await schedules.finish_jobs_at_once()
    held = await schedules.add(task_identifier="held")
    await schedules.add()
    scheduler = await poller()
    clock.set("09:00")
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("select from app_jobs.scheduled_jobs where id = $1 for update", held)
        assert await scheduler.poll() == LOCKED_RETRY_SECONDS
        assert (await schedules.made(), await schedules.made("held")) == (1, 0)
    await other.close()
    assert await scheduler.poll() == 3600.0
    assert await schedules.made("held") == 1


async def test_a_lock_on_one_job_holds_up_no_other_schedule(
    schedules: Schedules, jobs: Jobs, poller: OpenPoller, clock: Clock, database: str
) -> None:
    """Somebody's open transaction has added a job of the schedule's key: its time comes after that, nothing is lost."""
    keyed = await schedules.add(task_identifier="keyed", key="k")
    await schedules.add()
    scheduler = await poller()
    clock.set("09:00")
    other = await asyncpg.connect(database)
    async with other.transaction():
        await other.execute("select app_jobs.add_job('keyed', '{}'::json, job_key := 'k')")
        assert await scheduler.poll() == BLOCKED_RETRY_SECONDS
        assert [row["task_identifier"] for row in await every_job(jobs)] == ["sweep"]
    await other.close()
    await scheduler.poll()
    assert (await schedules.row(keyed))["due_at"] == at("10:00")
    assert sorted(row["task_identifier"] for row in await every_job(jobs)) == ["keyed", "sweep"]


async def test_what_the_platforms_scheduler_holds_is_left_to_it_until_it_lets_a_time_pass(
    schedules: Schedules, poller: OpenPoller, clock: Clock
) -> None:
    """Locked by get_scheduled_job, as the platform's scheduler does: taken over a minute past its due time."""
    await schedules.finish_jobs_at_once()
    schedule = await schedules.add()
    await schedules.connection.execute("select app_jobs.get_scheduled_job('node-scheduler')")
    scheduler = await poller()
    assert await scheduler.poll() == 1800.0 + 60.0
    clock.set("09:00:59")
    await scheduler.poll()
    assert await schedules.made() == 0
    clock.set("09:01:00")
    await scheduler.poll()
    row = await schedules.row(schedule)
    assert (await schedules.made(), row["locked_by"], row["due_at"]) == (1, None, at("10:00"))


async def test_a_look_that_fails_leaves_nothing_behind(
    schedules: Schedules, poller: OpenPoller, clock: Clock, database: str
) -> None:
    """The server ends the transaction in the middle: no job, no step; the next look does both."""
    await schedules.finish_jobs_at_once()
    schedule = await schedules.add()
    scheduler = await poller()
    await scheduler.poll()
    gate = await asyncpg.connect(database)
    await gate.execute("select pg_advisory_lock(1)")
    await schedules.connection.execute(
        """
        create function public.wait_at_gate() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock(1); return new; end $$;
        create trigger wait_at_gate after insert on app_jobs.jobs for each row execute function public.wait_at_gate();
        """
    )
    clock.set("09:00")
    looking = asyncio.create_task(scheduler.poll())
    waits = "select pid from pg_stat_activity where application_name = 'scheduler-a' and wait_event = 'advisory'"
    backend = await eventually(lambda: gate.fetchval(waits))
    await gate.execute("select pg_terminate_backend($1)", backend)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await looking
    await gate.close()
    assert (await schedules.made(), (await schedules.row(schedule))["due_at"]) == (0, at("09:00"))
    await scheduler.poll()
    assert (await schedules.made(), (await schedules.row(schedule))["due_at"]) == (1, at("10:00"))


async def every_job(jobs: Jobs) -> list[Any]:
    found: list[Any] = await jobs.connection.fetch("select * from app_jobs.jobs")
    return found
