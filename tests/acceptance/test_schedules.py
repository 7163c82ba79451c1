"""Schedules as people meet them: the verbs, two schedulers in real seconds, the development server."""

import json
import signal
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import asyncpg
import pytest

from support.commands import Command, CommandResult, Spawn
from support.jobs import Jobs
from support.network import eventually
from support.schedules import Schedules

FUNCTIONS = dedent(
    """
    from jobfn import task

    @task("daily_report", schedule="0 9 * * *", tz="Europe/Paris")
    async def daily_report(payload: dict) -> None: ...

    @task("tick", schedule="*/1 * * * * *")
    async def tick(payload: None) -> None: ...

    @task("by_hand")
    async def by_hand(payload: dict) -> None: ...
    """
)


@pytest.fixture
def schedules(connection: "asyncpg.Connection[Any]") -> Schedules:
    return Schedules(connection)


async def listed(command: Command, database: str) -> list[dict[str, Any]]:
    ended = await command("jobfn", "schedules", "list", "--json", DATABASE_URL=database)
    assert ended.code == 0, ended.output
    found: list[dict[str, Any]] = json.loads(ended.output)
    return found


async def test_a_schedule_is_added_listed_run_and_removed(command: Command, database: str, jobs: Jobs) -> None:
    """The verbs, one after the other, as their help shows them."""

    async def jobfn(*arguments: str) -> CommandResult:
        return await command("jobfn", "schedules", *arguments, DATABASE_URL=database)

    empty = await jobfn("list")
    assert (empty.code, empty.output) == (0, "no schedules: add one with `jobfn schedules add TASK '0 9 * * *'`")
    added = await jobfn("add", "daily_report", "0 9 * * *", '{"report_type": "daily"}', "--tz", "Europe/Paris")
    assert added.code == 0, added.output
    text = (await jobfn("list")).output
    assert "rule      0 9 * * *" in text
    assert "words     at 09:00 every day, Europe/Paris" in text
    assert "last run  never" in text
    (shown,) = await listed(command, database)
    local = [datetime.fromisoformat(time) for time in shown["next"]]
    assert (len(local), {time.minute for time in local}, {time.hour for time in local} <= {7, 8}) == (3, {0}, True)

    ran = await jobfn("run", "daily_report")
    job = await jobs.row(int(ran.output))
    assert job is not None
    assert json.loads(job["payload"]) == {"report_type": "daily"}
    again = await jobfn("run", "daily_report")
    assert (again.code, "still waiting or running" in again.output) == (1, True)
    assert f"job {ran.output}: waiting" in (await jobfn("list")).output

    removed = await jobfn("remove", added.output)
    assert (removed.code, removed.output) == (0, f"removed {added.output} daily_report")
    assert await listed(command, database) == []
    assert await jobs.count() == 1


async def test_every_option_of_add_reaches_the_table(command: Command, database: str) -> None:
    """A schedule_info as JSON, limits, catch-up, key, queue, priority, attempts, tenant."""
    tenant = "5b720132-17d5-424d-9bcb-ee7b17c13d43"
    options = (
        "--tz Europe/Paris --start 2030-01-01 --end 2031-01-01 --catch-up all --key k --queue q --priority 3 "
        f"--max-attempts 2 --database-id {tenant}"
    )
    rule = '{"hour": [9, 17], "minute": 0, "dayOfWeek": 5}'
    added = await command("jobfn", "schedules", "add", "t", rule, *options.split(), DATABASE_URL=database)
    assert added.code == 0, added.output
    (shown,) = await listed(command, database)
    assert shown["schedule_info"] == {
        **json.loads(rule),
        "tz": "Europe/Paris",
        "start": "2030-01-01",
        "end": "2031-01-01",
        "catch_up": "all",
    }
    assert [shown[name] for name in ("key", "queue", "priority", "max_attempts", "database_id")] == [
        "k",
        "q",
        3,
        2,
        tenant,
    ]
    assert shown["next"][0] == "2030-01-04T08:00:00+00:00"
    assert shown["words"].startswith("at 09:00 and 17:00 on Friday, Europe/Paris, from 2030-01-01 00:00+01:00")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "t", "0 25 * * *"], "hour (field 2 of 5) cannot be '25'"),
        (["add", "t", "0 9 * *"], "it has 4 fields"),
        (["add", "t", "0 9 * * *", "--tz", "Europe/Pari"], "did you mean Europe/Paris?"),
        (["add", "t", "0 9 * * *", "--catch-up", "some"], "catch_up cannot be 'some'"),
        (["add", "t", '{"hour": 24}'], "hour cannot be 24"),
        (["add", "t", '{"hours": 9, "minute": 0}'], "did you mean hour?"),
        (["add", "t", "{hour: 9}"], "the schedule is no JSON"),
        (["add", "t", "@daily", "{"], "the payload is no JSON"),
        (["add", "t", "@daily", "--key", "jobfn:t"], "belong to `jobfn schedules sync`"),
        (["add", "t"], "Missing argument 'rule'"),
        (["remove", "nothing"], "no schedule has the id, the key or the task 'nothing'"),
        (["run", "nothing"], "no schedule has the id, the key or the task 'nothing'"),
        (["sync", "nowhere.py"], "no file nowhere.py"),
        (["sync", "empty.py"], "empty.py holds no task"),
        (["sync", "good.py:nothing"], "good.py has no app 'nothing'"),
        (["sync", "broken.py"], "broken.py:3: @task('t'): the rule '0 25 * * *' is not valid"),
        (["sync", "shape.py"], "has 4 fields"),
        (["sync", "payload.py"], "jobs of its schedule have the payload {}"),
        (["sync", "good.py", "twice.py"], "a second task 't'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
async def test_wrong_use_is_one_clear_line(
    arguments: list[str], message: str, command: Command, database: str, tmp_path: Path
) -> None:
    """Exit code 2, one line that says what is wrong and where, nothing added."""
    define = "from jobfn import task\n{}\n@task('t', {})\ndef t(payload: {}) -> None: ...\n"
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "good.py").write_text(define.format("", "schedule='@daily'", "dict"))
    (tmp_path / "twice.py").write_text(define.format("", "schedule='@daily'", "dict"))
    (tmp_path / "broken.py").write_text(define.format("", "schedule='0 25 * * *'", "dict"))
    (tmp_path / "shape.py").write_text(define.format("", "schedule='0 25 * *'", "dict"))
    (tmp_path / "payload.py").write_text(
        define.format("from jobfn.payloads import RowId", "schedule='@daily'", "RowId")
    )
    ended = await command("jobfn", "schedules", *arguments, DATABASE_URL=database)
    assert message.lower() in ended.output.lower()  # typer's own words differ in case from release to release
    assert (ended.code, ended.output.startswith("jobfn: "), ended.output.count("\n")) == (2, True, 0)
    assert await listed(command, database) == []


@pytest.mark.parametrize("verb", ["list", "add", "remove", "run", "sync"])
async def test_every_verb_has_help_with_an_example(verb: str, command: Command) -> None:
    """--help exits with 0 and shows a line to copy."""
    shown = await command("jobfn", "schedules", verb, "--help")
    assert (shown.code, "example" in shown.output, f"jobfn schedules {verb}" in shown.output) == (0, True, True)


async def test_a_broken_schedule_in_the_table_is_shown(command: Command, database: str, schedules: Schedules) -> None:
    """Whoever wrote it: list says what is wrong with it, beside the good ones."""
    await schedules.add({"rule": "0 25 * * *"}, task_identifier="broken")
    await schedules.add({"rule": "0 9 * * *"}, task_identifier="good")
    text = (await command("jobfn", "schedules", "list", DATABASE_URL=database)).output
    assert "BROKEN    the rule '0 25 * * *' is not valid: hour (field 2 of 5) cannot be '25'" in text
    broken, good = await listed(command, database)
    assert ("hour (field 2 of 5)" in broken["broken"], broken["next"], broken["words"]) == (True, [], None)
    assert (good["broken"], len(good["next"])) == (None, 3)


async def test_schedules_of_the_code_are_synced(command: Command, database: str, tmp_path: Path) -> None:
    """From a file, from an app, from one task; said in words and in JSON."""
    (tmp_path / "functions.py").write_text(
        FUNCTIONS + "\nfrom jobfn import create_app\napp = create_app(tasks=[daily_report])\n"
    )

    async def sync(*arguments: str) -> str:
        ended = await command("jobfn", "schedules", "sync", *arguments, DATABASE_URL=database)
        assert ended.code == 0, ended.output
        return ended.output

    assert await sync("functions.py:app") == "added daily_report"
    assert await sync("functions.py:tick") == (
        "kept daily_report (its task is in none of these files; --prune removes it)\nadded tick"
    )
    assert json.loads(await sync("functions.py", "--json")) == [
        {"change": "unchanged", "task": "daily_report"},
        {"change": "unchanged", "task": "tick"},
    ]
    assert [shown["key"] for shown in await listed(command, database)] == ["jobfn:daily_report", "jobfn:tick"]
    assert await sync("functions.py:by_hand", "--prune") == "removed daily_report\nremoved tick"


async def test_two_schedulers_in_real_seconds_make_one_job_each_second(
    spawn: Spawn, database: str, schedules: Schedules
) -> None:
    """One of them is killed in the middle of it: every second has its job, no second has two."""
    await schedules.complete_jobs_immediately()
    started = await schedules.connection.fetchval("select clock_timestamp()")
    every_second = {"rule": "*/1 * * * * *"}
    default = await schedules.add(every_second, added_at=started)
    patient = await schedules.add(every_second | {"catch_up": "all"}, task_identifier="patient", added_at=started)
    first, second = [
        await spawn("jobfn", "service", "--only", "scheduler", DATABASE_URL=database, HOSTNAME=name)
        for name in ("scheduler-1", "scheduler-2")
    ]
    await first.until('"job enqueued"', seconds=30)
    await second.until('"job enqueued"', times=3, seconds=30)
    first.send(signal.SIGKILL)
    await first.wait()
    so_far = len([line for line in second.lines if '"job enqueued"' in line])
    await second.until('"job enqueued"', times=so_far + 6, seconds=30)
    second.send(signal.SIGTERM)
    assert await second.wait() == 0

    async def seconds_due(schedule: int) -> int:
        """How many due times there were, from when it was added until the one that is next."""
        row = await schedules.row(schedule)
        return int(row["due_at"].timestamp()) - int(started.timestamp()) - 1

    # on a busy machine a look may come more than a second late: then two times share a job, and one counts as skipped
    skipped = (await schedules.row(default))["skipped"]
    assert await schedules.completed_jobs() + skipped == await seconds_due(default)
    assert await schedules.completed_jobs("patient") == await seconds_due(patient) >= 5
    assert (await schedules.row(patient))["skipped"] == 0
    said = [json.loads(line) for line in (*first.lines, *second.lines) if '"job enqueued"' in line]
    times = [(line["schedule"], line["due"]) for line in said]
    assert len(times) == len(set(times))


async def test_each_part_of_the_platform_side_runs_by_itself(
    spawn: Spawn, database: str, jobs: Jobs, schedules: Schedules, tmp_path: Path
) -> None:
    """Scheduler, worker and callback server in three processes: a due time becomes a job that is done."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    function = await spawn("python", "-m", "jobfn.function", "functions.py", PORT="0")
    port = json.loads(await function.until('"serving"'))["port"]
    variables = {"DATABASE_URL": database, "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}"}
    callbacks = await spawn(
        "python", "-m", "jobfn.service", "--only", "callbacks", INTERNAL_JOBS_CALLBACK_PORT="0", **variables
    )
    reports = json.loads(await callbacks.until('"callback server started"'))["port"]
    worker = await spawn(
        "jobfn",
        "service",
        "--only",
        "worker",
        INTERNAL_JOBS_CALLBACK_URL=f"http://127.0.0.1:{reports}/callback",
        **variables,
    )
    await worker.until('"looking for jobs"')
    scheduler = await spawn("jobfn", "service", "--only", "scheduler", **variables)
    await schedules.add({"rule": "* * * * * *"}, task_identifier="tick")
    await scheduler.until('"job enqueued"', times=2)
    await schedules.connection.execute("delete from app_jobs.scheduled_jobs")
    await jobs.until_gone()
    for part in (scheduler, worker, callbacks):
        part.send(signal.SIGTERM)
        assert await part.wait() == 0


async def test_wrong_parts_are_refused(command: Command) -> None:
    """By both ways to start it: exit code 2, and the parts there are."""
    for line in ("jobfn service --only mailer", "python -m jobfn.service --only mailer"):
        ended = await command(*line.split())
        assert (ended.code, "callbacks" in ended.output) == (2, True), ended.output


async def test_the_development_server_runs_the_schedules_in_the_code(
    spawn: Spawn, database: str, schedules: Schedules, tmp_path: Path
) -> None:
    """Synced at the start and at each save; a broken one is reported, and the old ones stay."""
    file = tmp_path / "functions.py"
    file.write_text(FUNCTIONS)
    dev = await spawn("jobfn", "dev", "functions.py", "--port", "0", DATABASE_URL=database)
    await dev.until('"change": "added", "task": "tick"')
    await dev.until('"job enqueued"')

    file.write_text(FUNCTIONS.replace('schedule="*/1 * * * * *"', "").replace('"tick", ', '"tick"'))
    await dev.until('"change": "removed", "task": "tick"')
    file.write_text(FUNCTIONS.replace("0 9 * * *", "0 25 * * *"))
    assert "functions.py: @task('daily_report')" in await dev.until("schedules not synced")
    keys = "select array_agg(key) from app_jobs.scheduled_jobs"
    await eventually(lambda: schedules.connection.fetchval(keys))
    assert await schedules.connection.fetchval(keys) == ["jobfn:daily_report"]
    dev.send(signal.SIGINT)
    assert await dev.wait() == 0
