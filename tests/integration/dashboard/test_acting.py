"""Retry, run now, cancel, remove: asked first, done once, told."""

from datetime import UTC, datetime, timedelta

import pytest

from support.dashboard import Site
from support.jobs import WORKER, Jobs

FRAGMENT = {"X-Fragment": "1"}


async def failed(jobs: Jobs, task: str = "x", error: str = "no") -> int:
    """A job that is out of attempts."""
    job = await jobs.add(task, max_attempts=1)
    await jobs.connection.fetch("select * from app_jobs.get_job($1, $2)", WORKER, [task])
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, job, error)
    return job


async def test_asking_changes_nothing_and_says_what_would(open_dashboard: Site, jobs: Jobs) -> None:
    """The confirmation names the job; without scripts it is a page, with them a part of one."""
    job = await failed(jobs)
    before = await jobs.row(job)
    form = {"action": "retry", "id": str(job), "back": f"/jobs/{job}"}
    page = await open_dashboard.post("/jobs/ask", form)
    assert f"Retry job #{job}?" in page.text
    assert "<html" in page.text
    part = await open_dashboard.post("/jobs/ask", form, headers=FRAGMENT)
    assert part.text.lstrip().startswith("<form")
    assert await jobs.row(job) == before


async def test_a_failed_job_is_retried(open_dashboard: Site, jobs: Jobs) -> None:
    """It starts anew, and the answer says so."""
    job = await failed(jobs)
    answer = await open_dashboard.post("/jobs/act", {"action": "retry", "id": str(job)})
    assert "Retried: 1 job." in answer.text
    row = await jobs.row(job)
    assert row is not None
    assert row["attempts"] == 0


async def test_a_delayed_job_runs_now(open_dashboard: Site, jobs: Jobs) -> None:
    """It is due."""
    job = await jobs.add("x", run_at=datetime.now(UTC) + timedelta(days=1))
    await open_dashboard.post("/jobs/act", {"action": "run_now", "id": str(job)})
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == job


async def test_a_waiting_job_is_cancelled_with_a_reason(open_dashboard: Site, jobs: Jobs) -> None:
    """It fails for good with what was typed in."""
    job = await jobs.add("x")
    asked = await open_dashboard.post("/jobs/ask", {"action": "cancel", "id": str(job)})
    assert 'name="reason"' in asked.text
    await open_dashboard.post("/jobs/act", {"action": "cancel", "id": str(job), "reason": "ordered twice"})
    row = await jobs.row(job)
    assert row is not None
    assert (row["exhausted"], "ordered twice" in row["last_error"]) == (True, True)


async def test_a_running_job_is_cancelled_only_where_that_is_meant(open_dashboard: Site, jobs: Jobs) -> None:
    """Its own page ticks the box; a list does not."""
    job = await jobs.add("x")
    await jobs.claim()
    left = await open_dashboard.post("/jobs/act", {"action": "cancel", "id": str(job)})
    assert "Nothing was done." in left.text
    assert f"#{job}" in left.text
    asked = await open_dashboard.post("/jobs/ask", {"action": "cancel", "id": str(job), "running": "yes"})
    assert 'value="yes" checked' in asked.text
    await open_dashboard.post("/jobs/act", {"action": "cancel", "id": str(job), "running": "yes"})
    row = await jobs.row(job)
    assert row is not None
    assert row["locked_by"] is None


async def test_ticked_jobs_are_removed_and_the_rest_is_told(open_dashboard: Site, jobs: Jobs) -> None:
    """One that runs meanwhile is left alone, by its number and the reason."""
    first, second, third = [await jobs.add("x", priority=number) for number in range(3)]
    await jobs.claim()
    form = {"action": "remove", "id": [str(first), str(second)]}
    asked = await open_dashboard.post("/jobs/ask", form)
    assert "Remove 2 jobs?" in asked.text
    answer = await open_dashboard.post("/jobs/act", form)
    assert "Removed: 1 job." in answer.text
    assert f"#{first}" in answer.text
    assert (await jobs.row(first), await jobs.row(second)) != (None, None)
    assert await jobs.row(second) is None
    assert await jobs.row(third) is not None


async def test_all_that_match_are_retried_and_nothing_else(open_dashboard: Site, jobs: Jobs) -> None:
    """The filter of the list decides, those on other pages too."""
    wanted = [await failed(jobs, "mail", "timeout") for _ in range(3)]
    other = await failed(jobs, "mail", "no such mailbox")
    form = {"action": "retry", "scope": "matching", "filter": "task=mail&state=failed&error=TIMEOUT"}
    assert "Retry 3 jobs?" in (await open_dashboard.post("/jobs/ask", form)).text
    assert "Retried: 3 jobs." in (await open_dashboard.post("/jobs/act", form)).text
    for job in wanted:
        row = await jobs.row(job)
        assert row is not None
        assert row["attempts"] == 0
    row = await jobs.row(other)
    assert row is not None
    assert row["attempts"] == 1


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"action": "explode", "id": "1"}, "Choose an action"),
        ({"action": "retry", "id": "one"}, "Choose an action"),
        ({"action": "retry"}, "tick some"),
        ({"action": "retry", "id": "99999999999999999999"}, "no such job"),
        ({"action": "retry", "id": "-1"}, "no such job"),
        ({"action": "remove", "scope": "matching"}, "Filter the list first"),
        ({"action": "remove", "scope": "matching", "filter": "state=odd"}, "Filter the list first"),
        ({"action": "remove", "scope": "matching", "filter": "state=completed"}, "Nothing was done"),
        ({"action": "remove", "scope": "matching", "filter": "unknown=1"}, "Filter the list first"),
    ],
)
async def test_what_cannot_be_meant_changes_nothing(
    open_dashboard: Site, jobs: Jobs, form: dict[str, str], said: str
) -> None:
    """Told in words; no job is touched. An action on everything is never one click away."""
    job = await jobs.add("x")
    before = await jobs.row(job)
    for path in ("/jobs/ask", "/jobs/act")[said == "Nothing was done" :]:
        answer = await open_dashboard.post(path, form)
        assert answer.status_code == 400
        assert said in answer.text
    assert await jobs.row(job) == before


async def test_acting_twice_does_no_harm(open_dashboard: Site, jobs: Jobs) -> None:
    """A form that is sent again says that there was nothing left to do."""
    job = await jobs.add("x")
    form = {"action": "remove", "id": str(job)}
    assert "Removed: 1 job." in (await open_dashboard.post("/jobs/act", form)).text
    assert "Nothing was done." in (await open_dashboard.post("/jobs/act", form, headers=FRAGMENT)).text
