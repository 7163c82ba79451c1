"""``jobfn limits``, and limits that hold for workers in several processes of which one is killed."""

import json
import signal
from pathlib import Path
from textwrap import dedent

import pytest

from support.commands import Command, Spawn
from support.jobs import Jobs
from support.limits import assert_consistent, claim
from support.network import eventually

FUNCTIONS = dedent(
    """
    import asyncio
    from jobfn import task

    @task("sync")
    async def sync(payload: dict) -> None:
        await asyncio.sleep(0.05)
    """
)


async def test_a_limit_holds_for_two_workers_of_which_one_is_killed(
    jobs: Jobs, database: str, spawn: Spawn, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    result = await invoke(
        "jobfn", "limits", "set", "sync", "--task", "sync", "--concurrency", "3", DATABASE_URL=database
    )
    assert (result.code, result.output.strip()) == (0, "set sync")
    services = [
        await spawn(
            *("jobfn", "service", "--local", "functions.py"),
            DATABASE_URL=database,
            JOBS_LEASE_SECONDS="2",
            HOSTNAME=f"worker-{number}",
        )
        for number in range(2)
    ]
    for service in services:
        await service.until("looking for jobs")
    for number in range(300):
        await jobs.add("sync", {"number": number})
    seen: set[str] = set()

    async def both_have_run() -> bool:
        await assert_consistent(jobs.connection)
        statement = "select distinct locked_by from app_jobs.jobs where locked_at is not null"
        seen.update(row["locked_by"] for row in await jobs.connection.fetch(statement))
        return len(seen) == 2

    await eventually(both_have_run, seconds=30)
    services[0].send(signal.SIGKILL)

    async def all_have_run() -> bool:
        await assert_consistent(jobs.connection)
        return await jobs.count() == 0

    await eventually(all_have_run, seconds=60)
    await assert_consistent(jobs.connection)
    services[1].send(signal.SIGTERM)
    assert await services[1].wait() == 0


async def test_limits_are_shown_and_changed(jobs: Jobs, database: str, invoke: Command) -> None:
    async def limits(*arguments: str, code: int = 0) -> str:
        result = await invoke("jobfn", "limits", *arguments, DATABASE_URL=database)
        assert result.code == code, result.output
        return result.output.strip()

    assert await limits("list") == "no limits: jobfn limits set NAME --task TASK --concurrency 5"
    assert await limits("set", "each", "--per", "payload.customer", "--concurrency", "1", "--rate", "100/minute") == (
        "set each"
    )
    assert await limits("set", "mail", "--queue", "mail", "--rate", "5/30s", "--pause-on-retry-later") == "set mail"
    for customer in ("a", "a", None):
        await jobs.add("sync", {"customer": customer})
    assert len(await claim(jobs.connection, 10)) == 2
    assert await limits("pause", "mail", "--for", "15m") == "paused mail for 15m"
    header, each, *keys, mail = (await limits("list", "--keys")).splitlines()
    assert " ".join(header.split()) == "LIMIT TASK QUEUE PER RUNNING STARTS HELD SET BY PAUSED UNTIL NEXT"
    assert " ".join(each.split()) == "each payload.customer 2 (max 1 each) 2 (max 100/minute each) 1 operator"
    assert [key.split() for key in keys] == [["a", "1", "1", "1"], ["(none)", "1", "1", "0"]]
    assert " ".join(mail.split()).startswith("mail mail 0 (max 5/30 seconds) 0 operator 20")
    assert "(in 15m)" in mail or "(in 14m)" in mail
    listed = json.loads(await limits("list", "--json"))
    assert [(limit["name"], limit["running"], limit["held"]) for limit in listed] == [("each", 2, 1), ("mail", 0, 0)]
    assert await limits("resume", "mail") == "resumed mail"
    assert "limit 'mail' has no pause of this key: `jobfn limits list --keys`" in await limits("resume", "mail", code=2)
    assert "limit 'each' has no pause" in await limits("resume", "each", "--key", "typo", code=2)
    assert await limits("remove", "each") == "removed each"
    assert len(await claim(jobs.connection, 10)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("set", "x"), "has no bound: give it a concurrency, a rate or both"),
        (("set", "x", "--concurrency", "0"), "it must be 1 to 1,000,000"),
        (("set", "x", "--rate", "fast"), "write a number of starts per time"),
        (("set", "x", "--rate", "1/s", "--per", "color"), "use tenant, queue, key, task"),
        (("set", "", "--concurrency", "1"), "the name of a limit must have 1 to 126 characters"),
        (("remove", "x"), "there is no limit 'x'"),
        (("pause", "x", "--for", "99999999999d"), "--for '99999999999d' is too long: give at most 36500d"),
        (("pause", "x", "--for", "0s"), "--for '0s' is not a pause"),
        (("resume", "x"), "there is no limit 'x'"),
    ],
)
async def test_mistakes_are_named(arguments: tuple[str, ...], message: str, database: str, invoke: Command) -> None:
    result = await invoke("jobfn", "limits", *arguments, DATABASE_URL=database)
    assert result.code == 2
    assert message in result.output
    assert "Traceback" not in result.output
