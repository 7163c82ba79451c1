"""The run of a durable function on its job's page, and the actions on it."""

import html
import json
import re

from support.dashboard import OpenSite, Site
from support.durable import parked, record, step, wait
from support.jobs import Jobs

FRAGMENT = {"X-Fragment": "1"}


def text(page: str) -> str:
    """Return the text of a page, on one line, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


async def order(jobs: Jobs) -> int:
    """Return a job that has charged a card, and waits for an approval or two labels."""
    return await parked(
        jobs,
        "fulfil",
        step(1, "charge", '{"id": "<b>7</b>"}', seconds=1.5),
        wait(2, "wait:approved", "wait", event="approved", seconds=3600),
        wait(3, "call:label", "call", 3, task="label", payload={}),
        wait(4, "call:label#2", "call", 3, task="label", payload={}),
    )


async def test_page_shows_the_run(dashboard: Site, jobs: Jobs) -> None:
    job = await order(jobs)
    await jobs.connection.execute("select app_jobs.signal($1::bigint, 'paid', '\"soon\"')", job)
    page = text((await dashboard.get(f"/jobs/{job}")).text)
    assert "Now it waits for the signal 'approved' (times out " in page
    assert "), or waits for 2 of 2 children." in page
    assert "charge completed took 1.5 s Retry from here" in page
    assert '{"id": "<b>7</b>"}' in page
    assert "Unread signals paid" in page
    assert f"call:label # {job + 1}".replace("# ", "#") in page
    assert "0 of 25 parked once" in page
    child = text((await dashboard.get(f"/jobs/{job + 1}")).text)
    assert f"Jobs / #{job} / #{job + 1}" in child


async def test_live_page_follows_the_run(dashboard: Site, jobs: Jobs) -> None:
    job = await order(jobs)
    async with dashboard.events(f"/jobs/{job}") as events:
        await events.until("waits for the signal")
        await jobs.connection.execute("select app_jobs.signal($1::bigint, 'approved', '{\"by\": \"ada\"}')", job)
        assert "ready" in await events.until("ada")


async def test_job_without_durable_calls_has_no_run(dashboard: Site, jobs: Jobs) -> None:
    page = (await dashboard.get(f"/jobs/{await jobs.add('x')}")).text
    assert 'id="run"' not in page
    assert "Send signal" not in page


async def test_signal_is_sent_by_a_form(dashboard: Site, jobs: Jobs) -> None:
    job = await order(jobs)
    form = await dashboard.post(f"/jobs/{job}/signal", {}, headers=FRAGMENT)
    assert form.text.lstrip().startswith("<form")
    assert 'name="event" value="approved"' in form.text
    sent = await dashboard.post(f"/jobs/{job}/signal/send", {"event": "approved", "payload": '{"by": "ada"}'})
    assert f"Sent: approved to job #{job}." in text(sent.text)
    result = await jobs.connection.fetchval("select result from app_jobs.job_steps where position = 2")
    assert json.loads(result) == {"by": "ada"}


async def test_invalid_signal_shows_the_form_again(dashboard: Site, jobs: Jobs) -> None:
    job = await order(jobs)
    broken = await dashboard.post(f"/jobs/{job}/signal/send", {"event": "paid", "payload": "{x"})
    assert broken.status_code == 422
    assert "The payload is not valid JSON" in broken.text
    assert 'value="paid"' in broken.text
    assert "{x</textarea>" in broken.text
    nameless = await dashboard.post(f"/jobs/{job}/signal/send", {"event": "", "payload": ""})
    assert (nameless.status_code, "event must have 1 to 200 characters" in nameless.text) == (422, True)
    gone = await dashboard.post(f"/jobs/{job + 10}/signal/send", {"event": "paid"})
    assert (gone.status_code, f"Job #{job + 10} has ended." in gone.text) == (400, True)
    assert (await dashboard.post(f"/jobs/{9**30}/signal", {})).status_code == 200
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_signals") == 0


async def test_retry_from_a_step_asks_first(dashboard: Site, jobs: Jobs) -> None:
    job = await order(jobs)
    asked = await dashboard.post(f"/jobs/{job}/retry-from-step", {"position": "2"}, headers=FRAGMENT)
    assert "It forgets this step and the 2 after it, and runs now." in text(asked.text)
    assert "2 have not ended" in text(asked.text)
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_steps") == 4
    done = await dashboard.post(f"/jobs/{job}/retry-from-step/apply", {"position": "2"})
    assert f"Retried: job #{job} from wait:approved." in text(done.text)
    assert await jobs.connection.fetchval("select array_agg(name) from app_jobs.job_steps") == ["charge"]
    assert await jobs.claim_id(tasks=["fulfil"]) == job
    for path in ("retry-from-step", "retry-from-step/apply"):
        refused = await dashboard.post(f"/jobs/{job}/{path}", {"position": "1"})
        assert (refused.status_code, f"job {job} is running" in refused.text) == (400, True)
    unknown = await dashboard.post(f"/jobs/{job + 1}/retry-from-step", {"position": "x"})
    assert (unknown.status_code, f"job {job + 1} has no step 0" in unknown.text) == (400, True)


async def test_wake_and_cancel_with_children(dashboard: Site, jobs: Jobs) -> None:
    job = await order(jobs)
    woke = await dashboard.post("/jobs/apply", {"action": "wake", "id": str(job)})
    assert "Woke: 1 job." in text(woke.text)
    assert await jobs.claim_id(tasks=["fulfil"]) == job
    await record(jobs, job, step(5, "late"))
    await jobs.fail(job)
    cancelled = await dashboard.post("/jobs/apply", {"action": "cancel", "id": str(job)})
    assert "Cancelled: 1 job, and 2 waiting child jobs." in text(cancelled.text)


async def test_read_only_dashboard_offers_no_actions(open_site: OpenSite, jobs: Jobs) -> None:
    site = await open_site(read_only=True)
    job = await order(jobs)
    page = (await site.get(f"/jobs/{job}")).text
    assert ("Retry from here" in page, "Send signal" in page) == (False, False)
    for path in ("signal/send", "retry-from-step/apply"):
        assert (await site.post(f"/jobs/{job}/{path}", {"event": "approved", "position": "1"})).status_code == 403
