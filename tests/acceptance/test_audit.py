"""``jobfn audit``: what commands, the dashboard and assistants write."""

import getpass
import json
import socket
from pathlib import Path

import pytest

from support.commands import Command
from support.jobs import TENANT, Jobs

ME = f"{getpass.getuser()}@{socket.gethostname()}"
TASKS = """
from jobfn import task

@task("report", schedule="0 9 * * *", queue="slow")
async def report(payload: None) -> None: ...
"""


async def test_each_command_names_its_user(invoke: Command, database: str, jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text(TASKS)
    url = {"DATABASE_URL": database}
    assert (await invoke("jobfn", "audit", **url)).output == "no entries"
    job = await jobs.add("mail", max_attempts=1)
    waiting = await jobs.add("mail", job_key="order-42")
    assert await jobs.claim_id() == job
    await jobs.fail(job)
    for command in (
        f"jobs retry {job}",
        f"jobs cancel {job} --reason wrong",
        "jobs signal --key order-42 paid",
        "jobs remove --task mail --yes",
        "pause --task mail --reason outage",
        "resume --task mail",
        f"tenants set {TENANT} --weight 3",
        "limits set api --concurrency 2",
        "limits remove api",
        "tasks set mail --priority 5",
        "tasks reset mail",
        "schedules sync tasks.py",
        "schedules pause report --reason holidays",
        "schedules run report",
        "schedules resume report",
        "schedules remove report",
        "sync tasks.py --yes",
        "db migrate --audit-days 30",
    ):
        result = await invoke("jobfn", *command.split(), **url)
        assert result.code == 0, result.output
    page = json.loads((await invoke("jobfn", "audit", "--json", "--limit", "1000", **url)).output)
    entries = list(reversed(page["entries"]))
    assert [(entry["action"], entry["target"]) for entry in entries] == [
        ("retry", f"job {job}"),
        ("cancel", f"job {job}"),
        ("signal", f"job {waiting}"),
        ("remove", "jobs"),
        ("pause", "task mail"),
        ("resume", "task mail"),
        ("set_tenant_weight", f"tenant {TENANT}"),
        ("set_limit", "limit api"),
        ("remove_limit", "limit api"),
        ("set_task", "task mail"),
        ("set_task", "task mail"),
        ("add_schedule", "schedule 1 report"),
        ("pause_schedule", "schedule 1 report"),
        ("run_schedule", "schedule 1 report"),
        ("resume_schedule", "schedule 1 report"),
        ("remove_schedule", "schedule 1 report"),
        ("set_task", "task report"),
        ("set_audit_retention", "audit list"),
    ]
    assert {entry["actor"] for entry in entries[:-1]} == {ME}
    assert {entry["source"] for entry in entries[:-1]} == {"cli"}
    assert entries[3]["details"] == {"filter": "task mail", "jobs": [job, waiting]}


async def test_list_is_a_table(invoke: Command, database: str, jobs: Jobs) -> None:
    url = {"DATABASE_URL": database}
    await invoke("jobfn", "pause", "--task", "mail", "--reason", "outage", **url)
    await jobs.connection.execute("select app_jobs.resume(task := 'mail')")
    role = await jobs.connection.fetchval("select session_user")
    header, *lines = (await invoke("jobfn", "audit", **url)).output.splitlines()
    assert header.split() == ["WHEN", "(UTC)", "WHO", "THROUGH", "ACTION", "ON", "DETAILS"]
    assert [line.split()[2:] for line in lines] == [
        [role, "sql", "resume", "task", "mail", "reason", "outage", "→", "none"],
        [ME, f"({role})", "cli", "pause", "task", "mail", "reason", "outage"],
    ]
    for options, count in (
        (["--since", "1h"], 3),
        (["--actor", ME.partition("@")[2].upper()], 2),
        (["--action", "resume"], 2),
        (["--limit", "1"], 3),
        (["--before", "2"], 2),
    ):
        assert len((await invoke("jobfn", "audit", *options, **url)).output.splitlines()) == count, options
    assert "more: --before 2" in (await invoke("jobfn", "audit", "--limit", "1", **url)).output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--since", "yesterday"), "--since 'yesterday' is not an age"),
        (("--since", "99999999999999d"), "--since '99999999999999d' is too long: give at most 36500d"),
        (("--before", "9" * 20), "--before"),
        (("--action", "retri"), "'retri' is not an action of the audit list: choose one of retry"),
        (("--limit", "0"), "--limit"),
    ],
)
async def test_invalid_options(invoke: Command, database: str, options: tuple[str, str], message: str) -> None:
    result = await invoke("jobfn", "audit", *options, DATABASE_URL=database)
    assert (result.code, message in result.output) == (2, True)
