"""``jobfn pause``, ``jobfn resume``, ``jobfn pauses`` and ``jobfn tenants``."""

import json

import pytest

from jobfn.errors import ConfigurationError
from jobfn.operations.pauses import PauseKind, PauseTarget
from support.commands import Command
from support.jobs import TENANT, Jobs


async def test_pause_list_and_resume(invoke: Command, database: str, jobs: Jobs) -> None:
    url = {"DATABASE_URL": database}
    assert (await invoke("jobfn", "pauses", **url)).output == "nothing is paused"
    job_id = await jobs.add("send_email")
    result = await invoke("jobfn", "pause", "--task", "send_email", "--reason", "provider is down", **url)
    assert (result.code, result.output) == (0, "paused: task send_email")
    assert await jobs.claim_id() is None
    result = await invoke("jobfn", "pause", "--tenant", TENANT, "--for", "2h", **url)
    assert (result.code, result.output) == (0, f"paused: tenant {TENANT}")
    assert (await invoke("jobfn", "pause", "--queue", "q", "--until", "2100-01-01", **url)).code == 0
    lines = (await invoke("jobfn", "pauses", **url)).output.splitlines()
    assert lines[0].split() == ["PAUSED", "SINCE", "ENDS", "BY", "REASON"]
    assert ("task send_email" in lines[1], "when resumed" in lines[1], "provider is down" in lines[1]) == (True,) * 3
    assert (f"tenant {TENANT}" in lines[2], "in 2h" in lines[2] or "in 1h" in lines[2]) == (True, True)
    pauses = json.loads((await invoke("jobfn", "pauses", "--json", **url)).output)
    assert [each["target"]["kind"] for each in pauses] == ["task", "tenant", "queue"]
    assert pauses[2]["until"].startswith("2100-01-01T00:00")
    result = await invoke("jobfn", "resume", "--task", "send_email", **url)
    assert (result.code, result.output) == (0, "resumed: task send_email")
    assert await jobs.claim_id() == job_id
    result = await invoke("jobfn", "resume", "--task", "send_email", **url)
    assert (result.code, "task send_email is not paused: see `jobfn pauses`" in result.output) == (2, True)


async def test_everything_is_paused_after_a_confirmation(invoke: Command, database: str, jobs: Jobs) -> None:
    await jobs.add("x")
    result = await invoke("jobfn", "pause", "--everything", DATABASE_URL=database)
    assert (result.code, "Confirm with --yes" in result.output) == (2, True)
    assert (await invoke("jobfn", "pause", "--everything", "--yes", DATABASE_URL=database)).output == (
        "paused: everything"
    )
    assert await jobs.claim_id() is None
    assert (await invoke("jobfn", "resume", "--everything", DATABASE_URL=database)).output == "resumed: everything"
    assert await jobs.claim_id() == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --task, --queue, --tenant and --everything"),
        (("--task", "x", "--queue", "q"), "give one of --task, --queue, --tenant and --everything"),
        (("--task", ""), "the name of the task is empty: give one"),
        (("--task", "x", "--for", "1h", "--until", "2100-01-01"), "--for and --until exclude each other"),
        (("--task", "x", "--for", "long"), "--for 'long' is not an age"),
        (("--task", "x", "--for", "0s"), "--for '0s' is not a pause: give more than 0 seconds"),
        (("--task", "x", "--for", "36501d"), "--for '36501d' is too long: give at most 36500d"),
        (("--task", "x", "--until", "later"), "--until 'later' is not an ISO 8601 time"),
        (("--task", "x", "--until", "2001-01-01"), "the pause would have ended before now"),
        (("--tenant", "acme"), "--tenant"),
    ],
)
async def test_invalid_pause(invoke: Command, database: str, arguments: tuple[str, ...], message: str) -> None:
    result = await invoke("jobfn", "pause", *arguments, DATABASE_URL=database)
    assert (result.code in {1, 2}, message in result.output, "Traceback" in result.output) == (True, True, False)


async def test_doctor_names_pauses(invoke: Command, database: str, jobs: Jobs) -> None:
    await jobs.connection.execute(
        "select app_jobs.pause(task := 'x', reason := 'the bank is closed', paused_by := 'ann')"
    )
    output = (await invoke("jobfn", "doctor", DATABASE_URL=database)).output
    assert "jobs wait for pauses: task x, since " in output
    assert "by ann (the bank is closed)" in output
    assert "end them with `jobfn resume`" in output


async def test_weights_of_tenants(invoke: Command, database: str) -> None:
    url = {"DATABASE_URL": database}
    assert (await invoke("jobfn", "tenants", "list", **url)).output == "all tenants have the weight 1"
    assert (
        await invoke("jobfn", "tenants", "set", TENANT, "--weight", "3", **url)
    ).output == f"tenant {TENANT}: weight 3"
    assert json.loads((await invoke("jobfn", "tenants", "list", "--json", **url)).output) == [
        {"tenant": TENANT, "weight": 3}
    ]
    assert (await invoke("jobfn", "tenants", "list", **url)).output.split() == ["TENANT", "WEIGHT", TENANT, "3"]
    assert (await invoke("jobfn", "tenants", "set", TENANT, "--weight", "1", **url)).code == 0
    assert (await invoke("jobfn", "tenants", "list", **url)).output == "all tenants have the weight 1"


def test_pause_of_everything_has_no_name() -> None:
    with pytest.raises(ConfigurationError, match="a pause of everything has no name, but 'x' is given"):
        PauseTarget(PauseKind.EVERYTHING, "x")
