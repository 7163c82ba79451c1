"""Actions on jobs: confirmation and result."""

import re
from datetime import UTC, datetime, timedelta

from support.dashboard import OpenSite, Site
from support.jobs import WORKER, Jobs

FRAGMENT = {"X-Fragment": "1"}


async def add_failed_job(jobs: Jobs, task: str = "x", error: str = "no") -> int:
    job = await jobs.add(task, max_attempts=1)
    await jobs.connection.fetch("select * from app_jobs.get_job($1, $2)", WORKER, [task])
    await jobs.connection.execute("select app_jobs.fail_job($1, $2, $3)", WORKER, job, error)
    return job


async def test_confirmation_changes_nothing(dashboard: Site, jobs: Jobs) -> None:
    job = await add_failed_job(jobs)
    before = await jobs.row(job)
    form = {"action": "retry", "id": str(job), "back": f"/jobs/{job}"}
    page = await dashboard.post("/jobs/confirm", form)
    assert f"Retry job #{job}?" in page.text
    assert "<html" in page.text
    fragment = await dashboard.post("/jobs/confirm", form, headers=FRAGMENT)
    assert fragment.text.lstrip().startswith("<form")
    assert await jobs.row(job) == before


async def test_retry_starts_a_failed_job_again(dashboard: Site, jobs: Jobs) -> None:
    job = await add_failed_job(jobs)
    response = await dashboard.post("/jobs/apply", {"action": "retry", "id": str(job)})
    assert "Retried: 1 job." in response.text
    row = await jobs.row(job)
    assert row["attempts"] == 0


async def test_run_now_makes_a_delayed_job_due(dashboard: Site, jobs: Jobs) -> None:
    job = await jobs.add("x", run_at=datetime.now(UTC) + timedelta(days=1))
    await dashboard.post("/jobs/apply", {"action": "run_now", "id": str(job)})
    claimed = await jobs.claim()
    assert claimed is not None
    assert claimed["id"] == job


async def test_cancel_fails_a_waiting_job_with_the_reason(dashboard: Site, jobs: Jobs) -> None:
    job = await jobs.add("x")
    confirmation = await dashboard.post("/jobs/confirm", {"action": "cancel", "id": str(job)})
    assert 'name="reason"' in confirmation.text
    await dashboard.post("/jobs/apply", {"action": "cancel", "id": str(job), "reason": "ordered twice"})
    row = await jobs.row(job)
    assert (row["exhausted"], "ordered twice" in row["last_error"]) == (True, True)


async def test_cancel_skips_a_running_job_unless_included(dashboard: Site, jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.claim()
    skipped = await dashboard.post("/jobs/apply", {"action": "cancel", "id": str(job)})
    assert "Nothing changed." in skipped.text
    assert f"#{job}" in skipped.text
    confirmation = await dashboard.post("/jobs/confirm", {"action": "cancel", "id": str(job), "running": "yes"})
    assert 'value="yes" checked' in confirmation.text
    await dashboard.post("/jobs/apply", {"action": "cancel", "id": str(job), "running": "yes"})
    row = await jobs.row(job)
    assert row["locked_by"] is None


async def test_remove_selected_jobs_lists_skipped_ones(dashboard: Site, jobs: Jobs) -> None:
    first, second, third = [await jobs.add("x", priority=number) for number in range(3)]
    await jobs.claim()
    form = {"action": "remove", "id": [str(first), str(second)]}
    confirmation = await dashboard.post("/jobs/confirm", form)
    assert "Remove 2 jobs?" in confirmation.text
    response = await dashboard.post("/jobs/apply", form)
    assert "Removed: 1 job." in response.text
    assert f"#{first}" in response.text
    assert [await jobs.exists(job) for job in (first, second, third)] == [True, False, True]


async def test_retry_matching_jobs_only(dashboard: Site, jobs: Jobs) -> None:
    matching = [await add_failed_job(jobs, "mail", "timeout") for _ in range(3)]
    other = await add_failed_job(jobs, "mail", "no such mailbox")
    form = {"action": "retry", "scope": "matching", "filter": "task=mail&state=failed&error=TIMEOUT"}
    assert "Retry 3 jobs?" in (await dashboard.post("/jobs/confirm", form)).text
    assert "Retried: 3 jobs." in (await dashboard.post("/jobs/apply", form)).text
    for job in matching:
        row = await jobs.row(job)
        assert row["attempts"] == 0
    row = await jobs.row(other)
    assert row["attempts"] == 1


INVALID_ACTIONS: list[tuple[dict[str, str], str]] = [
    ({"action": "explode", "id": "1"}, "Choose an action"),
    ({"action": "retry", "id": "one"}, "Choose an action"),
    ({"action": "retry"}, "select some"),
    ({"action": "retry", "id": "99999999999999999999"}, "no such job"),
    ({"action": "retry", "id": "-1"}, "no such job"),
    ({"action": "remove", "scope": "matching"}, "Filter the list first"),
    ({"action": "remove", "scope": "matching", "filter": "state=odd"}, "The filter is not valid: state: choose one of"),
    ({"action": "remove", "scope": "matching", "filter": "task=x&since=2x"}, "since: choose one of 15m, 1h, 1d, 7d"),
    ({"action": "remove", "scope": "matching", "filter": "state=completed"}, "Nothing changed"),
]


async def test_invalid_action_changes_nothing(dashboard: Site, jobs: Jobs) -> None:
    before = await jobs.row(job := await jobs.add("x"))
    for form, message in INVALID_ACTIONS:
        for path in ("/jobs/confirm", "/jobs/apply")[message == "Nothing changed" :]:
            response = await dashboard.post(path, form)
            assert (response.status_code, message in response.text) == (400, True), form
    assert await jobs.row(job) == before


async def test_repeated_action_changes_nothing(dashboard: Site, jobs: Jobs) -> None:
    job = await jobs.add("x")
    form = {"action": "remove", "id": str(job)}
    assert "Removed: 1 job." in (await dashboard.post("/jobs/apply", form)).text
    assert "Nothing changed." in (await dashboard.post("/jobs/apply", form, headers=FRAGMENT)).text


async def test_schedule_is_run_paused_and_resumed(dashboard: Site, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.add_scheduled_job('report', '@daily')")

    async def post(**form: str) -> tuple[int, str]:
        response = await dashboard.post("/schedules/1", form)
        return response.status_code, " ".join(re.sub(r"<[^>]+>", "", response.text).split())

    code, page = await post(action="run")
    assert (code, "Done: job #1 was added." in page) == (200, True)
    code, page = await post(action="run")
    assert (code, "Nothing changed: no job was enqueued: the schedule&#39;s last job" in page) == (400, True)
    code, page = await post(action="pause", reason="no <paper>")
    assert (code, "the schedule of report is paused" in page) == (200, True)
    listed = (await dashboard.get("/schedules")).text
    assert ("Paused since" in listed, "no &lt;paper&gt;" in listed, ">Resume<" in listed) == (True, True, True)
    await post(action="pause", **{"for": "3600"})
    length = await jobs.connection.fetchval(
        "select round(extract(epoch from paused_until - now())) from app_jobs.scheduled_jobs"
    )
    assert 3500 < length <= 3600
    code, page = await post(action="pause", **{"for": "ever"})
    assert (code, "choose one of the durations" in page) == (400, True)
    code, page = await post(action="resume")
    assert (code, "the schedule of report runs again" in page) == (200, True)
    listed = (await dashboard.get("/schedules")).text
    assert ("Paused since" in listed, ">Pause<" in listed) == (False, True)
    code, page = await post(action="resume")
    assert (code, "Nothing changed: schedule 1 of report is not paused" in page) == (400, True)
    code, page = await post(action="break")
    assert (code, "choose run, pause or resume" in page) == (400, True)


async def test_read_only_dashboard_changes_no_schedule(open_site: OpenSite, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.add_scheduled_job('report', '@daily')")
    site = await open_site(read_only=True)
    assert ">Pause<" not in (await site.get("/schedules")).text
    response = await site.post("/schedules/1", {"action": "pause"})
    assert response.status_code in {403, 405}
    assert await jobs.connection.fetchval("select paused_at from app_jobs.scheduled_jobs") is None


async def test_completed_jobs_run_again(dashboard: Site, jobs: Jobs) -> None:
    not_stored = await jobs.add("x")
    await jobs.claim()
    await jobs.complete(not_stored)
    await jobs.connection.execute("select app_jobs.set_completed_payload_retention(1)")
    job = await jobs.add("x", {"n": 42})
    await jobs.claim()
    await jobs.complete(job)
    assert "Run again" not in (await dashboard.get(f"/jobs/{not_stored}")).text
    page = (await dashboard.get(f"/jobs/{job}")).text
    assert "Run again" in page
    assert "42" in page
    listed = (await dashboard.get("/jobs?state=completed")).text
    assert "all 1 matching jobs whose payload is stored" in listed
    form = {"action": "run_again", "scope": "matching", "filter": "state=completed&payload=n=42"}
    assert "Run again 1 job?" in (await dashboard.post("/jobs/confirm", form)).text
    result = (await dashboard.post("/jobs/apply", form)).text
    new = await jobs.connection.fetchval("select max(id) from app_jobs.jobs")
    assert "Added again: 1 job." in result
    assert f'href="/jobs/{new}"' in result


async def test_confirmation_counts_the_jobs_that_the_action_changes(dashboard: Site, jobs: Jobs) -> None:
    await add_failed_job(jobs)
    await jobs.add("x", {"n": 7})
    form = {"action": "retry", "scope": "matching", "filter": "task=x"}
    assert "Retry 1 job?" in (await dashboard.post("/jobs/confirm", form)).text
    payload = {"action": "cancel", "scope": "matching", "filter": "payload=n=7"}
    assert "Cancel 1 job?" in (await dashboard.post("/jobs/confirm", payload)).text
    invalid = {"action": "retry", "scope": "matching", "filter": "state=completed"}
    assert "completed jobs are deleted" in (await dashboard.post("/jobs/confirm", invalid)).text


async def test_confirmation_of_a_filter_without_matches_says_so(dashboard: Site, jobs: Jobs) -> None:
    await jobs.add("x")
    await jobs.claim()
    form = {"action": "retry", "scope": "matching", "filter": "task=x"}
    response = await dashboard.post("/jobs/confirm", form)
    assert response.status_code == 400
    assert "Nothing changed." in response.text
    assert "Retry applies to none of the jobs that match the filter." in response.text
    assert "No matching job can be changed so now." in (await dashboard.post("/jobs/apply", form)).text
    running = await dashboard.post("/jobs/confirm", {**form, "action": "cancel"})
    assert ("Cancel 0 jobs?" in running.text, "include running jobs" in running.text) == (True, True)
    none = await dashboard.post("/jobs/confirm", {**form, "action": "cancel", "filter": "task=y"})
    assert "Cancel applies to none of the jobs" in none.text
