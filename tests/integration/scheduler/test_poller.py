"""Behaviour of both pollers: on jobfn's schema, and on the platform's."""

import asyncio

import pytest
from structlog.testing import capture_logs

from jobfn.scheduler.poller import BLOCKED_RETRY_SECONDS
from support.schedules import EVERY_HOUR, OpenPoller, Schedules

pytestmark = pytest.mark.parametrize("schema", ["native", "platform"])


async def test_due_time_enqueues_one_job(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.complete_jobs_immediately()
    await schedules.add()
    poller = await open_poller()
    assert await poller.poll("08:30") == 1800.0
    assert await schedules.completed_jobs() == 0
    assert await poller.poll("09:00") == 3600.0
    assert await poller.poll() == 3600.0
    assert await schedules.completed_jobs() == 1


async def test_jitter_delays_a_job_by_the_same_time_in_every_scheduler(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.complete_jobs_immediately()
    schedule = await schedules.add(EVERY_HOUR | {"jitter_seconds": 3600})
    assert schedule == 1  # the delay follows from the id and the due time
    first, second = await open_poller("scheduler-a"), await open_poller("scheduler-b")
    assert await first.poll("08:30") == 2297.046794
    assert await second.poll("09:08:17") in {0.046794, 60.046794}  # on the platform, a scheduler leaves it to the first
    await first.poll("09:08:17.046794")
    await second.poll()
    assert await schedules.completed_jobs() == 1
    assert await first.poll() == 5500.090168


async def test_several_schedulers_enqueue_one_job_per_due_time(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.complete_jobs_immediately()
    for _ in range(10):
        await schedules.add({"rule": "* * * * *"})
    pollers = [await open_poller(f"scheduler-{number}") for number in range(3)]
    for minute in range(30, 41):
        await schedules.set_time(f"08:{minute}")
        await asyncio.gather(*(poller.poll() for poller in pollers))
    assert await schedules.completed_jobs() == 10 * 10


async def test_changed_and_removed_schedules(schedules: Schedules, open_poller: OpenPoller) -> None:
    """Due times before a change of the rule enqueue no job."""
    await schedules.complete_jobs_immediately()
    changed = await schedules.add({"rule": "40 * * * *"})
    removed = await schedules.add(task_identifier="removed")
    poller = await open_poller()
    await poller.poll("08:30")
    await schedules.set_time("08:35")
    await schedules.set_rule(changed, "30 * * * *")
    await schedules.connection.execute("delete from app_jobs.scheduled_jobs where id = $1", removed)
    assert await poller.poll() == 3300.0
    await poller.poll("09:30")
    assert (await schedules.completed_jobs(), await schedules.completed_jobs("removed")) == (1, 0)


async def test_due_time_is_skipped_while_the_previous_job_waits(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.add()
    poller = await open_poller()
    await poller.poll("08:30")
    await poller.poll("09:00")
    with capture_logs() as logs:
        assert await poller.poll("10:00") == 3600.0
    assert [(log["event"], log["due"]) for log in logs] == [
        ("run skipped: previous job still waiting or running", "2026-03-02T10:00:00+00:00")
    ]
    assert await schedules.job_count() == 1
    await schedules.delete_jobs()
    await poller.poll("11:00")
    assert await schedules.job_count() == 1


@pytest.mark.parametrize(("catch_up", "jobs", "skipped"), [("one", 1, 3), ("all", 4, None), ("none", 0, 4)])
async def test_missed_runs_are_caught_up_after_a_downtime(
    catch_up: str, jobs: int, skipped: int | None, schedules: Schedules, open_poller: OpenPoller
) -> None:
    """No scheduler polled an hourly schedule from 08:30 to 12:30."""
    await schedules.complete_jobs_immediately()
    await schedules.add(EVERY_HOUR | {"catch_up": catch_up})
    poller = await open_poller()
    await poller.poll("08:30")
    with capture_logs() as logs:
        for _ in range(4):
            seconds = await poller.poll("12:30")
    assert (await schedules.completed_jobs(), seconds) == (jobs, 1800.0)
    assert [log["count"] for log in logs if log["event"].startswith("missed runs")] == ([skipped] if skipped else [])


async def test_catch_up_all_waits_for_the_previous_job(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.add(EVERY_HOUR | {"catch_up": "all"})
    poller = await open_poller()
    await poller.poll("08:30")
    await poller.poll("10:30")
    assert await poller.poll() == BLOCKED_RETRY_SECONDS
    assert await schedules.job_count() == 1
    await schedules.delete_jobs()
    assert await poller.poll() == 1800.0
    assert await schedules.job_count() == 1


async def test_invalid_schedule_is_logged_once_and_runs_after_its_correction(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.complete_jobs_immediately()
    invalid = await schedules.add({"rule": "0 25 * * *"}, task_identifier="invalid")
    await schedules.add({"timezone": "Europe/Paris"}, task_identifier="empty")
    await schedules.add()
    poller = await open_poller()
    with capture_logs() as logs:
        for time in ("08:30", "09:00", "10:00"):
            await poller.poll(time)
    assert await schedules.completed_jobs() == 2
    assert sorted(log["task"] for log in logs if log["event"].startswith("invalid schedule")) == ["empty", "invalid"]

    await schedules.set_rule(invalid, "30 * * * *")
    await poller.poll()
    await poller.poll("10:30")
    assert await schedules.completed_jobs("invalid") == 1


async def test_rejected_job_does_not_stop_others_and_is_retried_at_the_next_due_time(
    schedules: Schedules, open_poller: OpenPoller
) -> None:
    await schedules.complete_jobs_immediately()
    await schedules.reject_jobs("bad")
    await schedules.add(task_identifier="bad")
    await schedules.add()
    poller = await open_poller()
    await poller.poll("08:30")
    with capture_logs() as logs:
        await poller.poll("09:00")
    assert any('constraint "rejected"' in log["error"] for log in logs if log["event"] == "job not enqueued")
    assert (await schedules.completed_jobs(), await schedules.completed_jobs("bad")) == (1, 0)
    await schedules.accept_jobs()
    await poller.poll("10:00")
    assert await schedules.completed_jobs("bad") == 1


async def test_only_schedules_of_supported_tasks_are_polled(schedules: Schedules, open_poller: OpenPoller) -> None:
    await schedules.complete_jobs_immediately()
    await schedules.add()
    other = await schedules.add(task_identifier="other")
    poller = await open_poller(tasks=["sweep"])
    await poller.poll("08:30")
    assert await poller.poll("09:00") == 3600.0
    assert (await schedules.completed_jobs(), await schedules.completed_jobs("other")) == (1, 0)
    assert (await schedules.row(other))["locked_by"] is None
