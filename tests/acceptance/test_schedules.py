"""``jobfn schedules``, schedulers in several processes, and ``jobfn dev``."""

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
    from jobfn import Schedule, task

    @task("weekly_report", schedule=Schedule("@weekly", payload={"days": 7}))
    async def weekly_report(payload: dict) -> None: ...

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


async def list_schedules(command: Command, database: str) -> list[dict[str, Any]]:
    result = await command("jobfn", "schedules", "list", "--json", DATABASE_URL=database)
    assert result.code == 0, result.output
    rows: list[dict[str, Any]] = json.loads(result.output)
    return rows


async def test_schedule_is_added_listed_run_and_removed(invoke: Command, database: str, jobs: Jobs) -> None:

    async def jobfn(*arguments: str) -> CommandResult:
        return await invoke("jobfn", "schedules", *arguments, DATABASE_URL=database)

    empty = await jobfn("list")
    assert (empty.code, empty.output) == (0, "no schedules: add one with `jobfn schedules add TASK '0 9 * * *'`")
    added = await jobfn("add", "daily_report", "0 9 * * *", '{"report_type": "daily"}', "--tz", "Europe/Paris")
    assert added.code == 0, added.output
    text = (await jobfn("list")).output
    assert "rule      0 9 * * *" in text
    assert "words     at 09:00 every day, Europe/Paris" in text
    assert "last run  never" in text
    (row,) = await list_schedules(invoke, database)
    local = [datetime.fromisoformat(time) for time in row["next"]]
    assert (len(local), {time.minute for time in local}, {time.hour for time in local} <= {7, 8}) == (3, {0}, True)

    ran = await jobfn("run", "daily_report")
    job = await jobs.row(int(ran.output))
    assert json.loads(job["payload"]) == {"report_type": "daily"}
    again = await jobfn("run", "daily_report")
    assert (again.code, "still waits or runs" in again.output) == (1, True)
    assert f"job {ran.output}: waiting" in (await jobfn("list")).output

    paused = await jobfn("pause", "daily_report", "--reason", "no paper")
    assert (paused.code, paused.output) == (0, f"paused {added.output} daily_report")
    text = (await jobfn("list")).output
    assert "PAUSED    since 20" in text
    assert ": no paper\n" in text
    assert "next      not while it is paused" in text
    (row,) = await list_schedules(invoke, database)
    assert (row["next"], row["pause_reason"], row["paused_at"][:2]) == ([], "no paper", "20")
    await jobfn("pause", "daily_report", "--until", "2100-01-31T09:00+01:00")
    assert " until 2100-01-31 09:00+01:00: no paper\n" in (await jobfn("list")).output
    (row,) = await list_schedules(invoke, database)
    assert row["paused_until"] == "2100-01-31T08:00:00+00:00"
    both = await jobfn("pause", "daily_report", "--until", "2100-01-31", "--for", "2h")
    assert (both.code, "--for and --until exclude each other" in both.output) == (2, True)
    resumed = await jobfn("resume", "daily_report")
    assert (resumed.code, resumed.output) == (0, f"resumed {added.output} daily_report")
    assert "PAUSED" not in (await jobfn("list")).output
    again = await jobfn("resume", "daily_report")
    assert (again.code, f"schedule {added.output} of daily_report is not paused" in again.output) == (2, True)

    removed = await jobfn("remove", added.output)
    assert (removed.code, removed.output) == (0, f"removed {added.output} daily_report")
    assert await list_schedules(invoke, database) == []
    assert await jobs.count() == 1


async def test_add_stores_every_option(invoke: Command, database: str) -> None:
    tenant = "5b720132-17d5-424d-9bcb-ee7b17c13d43"
    options = (
        "--tz Europe/Paris --start 2030-01-01 --end 2031-01-01 --catch-up all --catch-up-window 6h --jitter 90s "
        f"--expires-in 2h --key k --queue q --priority 3 --max-attempts 2 --database-id {tenant}"
    )
    rule = '{"hour": [9, 17], "minute": 0, "dayOfWeek": 5}'
    added = await invoke("jobfn", "schedules", "add", "t", rule, *options.split(), DATABASE_URL=database)
    assert added.code == 0, added.output
    (row,) = await list_schedules(invoke, database)
    assert row["schedule_info"] == {
        **json.loads(rule),
        "tz": "Europe/Paris",
        "start": "2030-01-01",
        "end": "2031-01-01",
        "catch_up_window_seconds": 21600,
        "jitter_seconds": 90,
        "expires_in_seconds": 7200,
        "catch_up": "all",
    }
    assert [row[name] for name in ("key", "queue", "priority", "max_attempts", "database_id")] == [
        "k",
        "q",
        3,
        2,
        tenant,
    ]
    assert row["next"][0] == "2030-01-04T08:00:15.739063+00:00"
    assert row["words"].startswith("at 09:00 and 17:00 on Friday, Europe/Paris, from 2030-01-01 00:00+01:00")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["add", "t", "0 25 * * *"], "hour (field 2 of 5) cannot be '25'"),
        (["add", "t", '{"hours": 9, "minute": 0}'], "did you mean hour?"),
        (["add", "t", "{hour: 9}"], "the schedule is not valid JSON"),
        (["add", "t", "@daily", "--end", "2020-01-01"], "the schedule would never run"),
        (["add", "t", "@daily", "--expires-in", "36501d"], "--expires-in '36501d' is too long"),
        (["add", "t", "@daily", "{"], "the payload is not valid JSON"),
        (["add", "t", "@daily", "--key", "jobfn:t"], "belong to `jobfn schedules sync`"),
        (["remove", "nothing"], "no schedule has the id, the key or the task 'nothing'"),
        (["sync", "nowhere.py"], "no file nowhere.py"),
        (["sync", "empty.py"], "empty.py has no task"),
        (["sync", "good.py:nothing"], "good.py has no attribute 'nothing'"),
        (["sync", "broken.py"], "broken.py:3: @task('t'): the rule '0 25 * * *' is not valid"),
        (["sync", "shape.py"], "has 4 fields"),
        (["sync", "payload.py"], "jobs of its schedule have the payload {}"),
        (["sync", "good.py", "twice.py"], "task 't' is also at"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
async def test_wrong_usage_is_one_line_and_adds_nothing(
    arguments: list[str], message: str, invoke: Command, database: str, tmp_path: Path
) -> None:
    define = "from jobfn import task\n{}\n@task('t', {})\ndef t(payload: {}) -> None: ...\n"
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "good.py").write_text(define.format("", "schedule='@daily'", "dict"))
    (tmp_path / "twice.py").write_text(define.format("", "schedule='@daily'", "dict"))
    (tmp_path / "broken.py").write_text(define.format("", "schedule='0 25 * * *'", "dict"))
    (tmp_path / "shape.py").write_text(define.format("", "schedule='0 25 * *'", "dict"))
    (tmp_path / "payload.py").write_text(
        define.format("from jobfn.payloads import RowId", "schedule='@daily'", "RowId")
    )
    result = await invoke("jobfn", "schedules", *arguments, DATABASE_URL=database)
    assert message.lower() in result.output.lower()  # typer's own words differ in case from release to release
    assert (result.code, result.output.startswith("jobfn: "), result.output.count("\n")) == (2, True, 0)
    assert await list_schedules(invoke, database) == []


async def test_list_shows_invalid_schedules(invoke: Command, database: str, schedules: Schedules) -> None:
    await schedules.add({"rule": "0 25 * * *"}, task_identifier="broken")
    await schedules.add({"rule": "0 9 * * *"}, task_identifier="good")
    text = (await invoke("jobfn", "schedules", "list", DATABASE_URL=database)).output
    assert "INVALID   the rule '0 25 * * *' is not valid: hour (field 2 of 5) cannot be '25'" in text
    broken, good = await list_schedules(invoke, database)
    assert ("hour (field 2 of 5)" in broken["error"], broken["next"], broken["words"]) == (True, [], None)
    assert (good["error"], len(good["next"])) == (None, 3)


async def test_sync_adds_and_removes_schedules_of_the_code(command: Command, database: str, tmp_path: Path) -> None:
    (tmp_path / "functions.py").write_text(
        FUNCTIONS + "\nfrom jobfn import create_app\napp = create_app(tasks=[daily_report])\n"
    )

    async def sync(*arguments: str) -> str:
        result = await command("jobfn", "schedules", "sync", *arguments, DATABASE_URL=database)
        assert result.code == 0, result.output
        return result.output

    assert await sync("functions.py:app") == "added daily_report"
    assert await sync("functions.py:tick") == (
        "kept daily_report (its task is in none of these files; --prune removes it)\nadded tick"
    )
    assert json.loads(await sync("functions.py", "--json")) == [
        {"change": "unchanged", "task": "daily_report"},
        {"change": "unchanged", "task": "tick"},
        {"change": "added", "task": "weekly_report"},
    ]
    assert [(row["key"], row["payload"]) for row in await list_schedules(command, database)] == [
        ("jobfn:daily_report", {}),
        ("jobfn:tick", {}),
        ("jobfn:weekly_report", {"days": 7}),
    ]
    assert await sync("functions.py:by_hand", "--prune") == "removed daily_report\nremoved tick\nremoved weekly_report"


async def test_two_schedulers_enqueue_one_job_per_second(database: str, spawn: Spawn, schedules: Schedules) -> None:
    """One scheduler is killed: every second has one job."""
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
    await second.until('"job enqueued"', times=2, seconds=30)
    first.send(signal.SIGKILL)
    await first.wait()
    count = len([line for line in second.lines if '"job enqueued"' in line])
    await second.until('"job enqueued"', times=count + 3, seconds=30)
    second.send(signal.SIGTERM)
    assert await second.wait() == 0

    async def seconds_due(schedule: int) -> int:
        """Return the number of due times from the start to the next one."""
        row = await schedules.row(schedule)
        return int(row["due_at"].timestamp()) - int(started.timestamp()) - 1

    # a poll that is more than a second late enqueues one job for two times, and counts one as skipped
    skipped = (await schedules.row(default))["skipped"]
    assert await schedules.completed_jobs() + skipped == await seconds_due(default)
    assert await schedules.completed_jobs("patient") == await seconds_due(patient) >= 3
    assert (await schedules.row(patient))["skipped"] == 0
    enqueued = [json.loads(line) for line in (*first.lines, *second.lines) if '"job enqueued"' in line]
    times = [(line["schedule"], line["due"]) for line in enqueued]
    assert len(times) == len(set(times))


async def test_pause_holds_for_schedulers_in_other_processes(
    database: str, spawn: Spawn, invoke: Command, schedules: Schedules
) -> None:
    await schedules.complete_jobs_immediately()
    started = await schedules.connection.fetchval("select clock_timestamp()")
    for task in ("sweep", "other"):
        await schedules.add({"rule": "*/1 * * * * *"}, task_identifier=task, added_at=started)
    processes = [
        await spawn("jobfn", "service", "--only", "scheduler", DATABASE_URL=database, HOSTNAME=name)
        for name in ("scheduler-1", "scheduler-2")
    ]
    await eventually(lambda: schedules.completed_jobs("sweep"), seconds=30)
    assert (await invoke("jobfn", "schedules", "pause", "sweep", DATABASE_URL=database)).code == 0
    count, others = await schedules.completed_jobs("sweep"), await schedules.completed_jobs("other")

    async def two_more() -> bool:
        return await schedules.completed_jobs("other") >= others + 2

    await eventually(two_more, seconds=30)
    assert await schedules.completed_jobs("sweep") == count
    assert (await invoke("jobfn", "schedules", "resume", "sweep", DATABASE_URL=database)).code == 0

    async def runs_again() -> bool:
        return await schedules.completed_jobs("sweep") > count

    await eventually(runs_again, seconds=30)
    paused = await invoke("jobfn", "schedules", "pause", "sweep", "--for", "1s", DATABASE_URL=database)
    assert (paused.code, paused.output) == (0, "paused 1 sweep")
    count = await schedules.completed_jobs("sweep")
    await eventually(runs_again, seconds=30)
    for process in processes:
        process.send(signal.SIGTERM)
        assert await process.wait() == 0


async def test_each_role_runs_in_its_own_process(
    database: str, spawn: Spawn, jobs: Jobs, schedules: Schedules, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    function = await spawn("jobfn", "serve", "functions.py", PORT="0")
    port = json.loads(await function.until('"serving"'))["port"]
    variables = {"DATABASE_URL": database, "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}"}
    callbacks = await spawn("jobfn", "service", "--only", "callbacks", INTERNAL_JOBS_CALLBACK_PORT="0", **variables)
    reports = json.loads(await callbacks.until('"callback server started"'))["port"]
    worker = await spawn(
        *("jobfn", "service", "--only", "worker"),
        INTERNAL_JOBS_CALLBACK_URL=f"http://127.0.0.1:{reports}/callback",
        **variables,
    )
    await worker.until('"looking for jobs"')
    scheduler = await spawn("jobfn", "service", "--only", "scheduler", **variables)
    await schedules.add({"rule": "* * * * * *"}, task_identifier="tick")
    await scheduler.until('"job enqueued"', times=2)
    await schedules.connection.execute("delete from app_jobs.scheduled_jobs")
    await jobs.until_gone()
    for process in (scheduler, worker, callbacks):
        process.send(signal.SIGTERM)
        assert await process.wait() == 0


async def test_unknown_role_is_rejected(command: Command) -> None:
    result = await command("python", "-m", "jobfn.service", "--only", "mailer")
    assert (result.code, "callbacks" in result.output) == (2, True), result.output


async def test_dev_syncs_schedules_on_save(database: str, spawn: Spawn, schedules: Schedules, tmp_path: Path) -> None:
    file = tmp_path / "functions.py"
    file.write_text(FUNCTIONS)
    dev = await spawn("jobfn", "dev", "functions.py", "--port", "0", "--database-url", database)
    await dev.until('"change":"added","task":"tick"')
    await dev.until('"job enqueued"')

    file.write_text(FUNCTIONS.replace('schedule="*/1 * * * * *"', "").replace('"tick", ', '"tick"'))
    await dev.until('"change":"removed","task":"tick"')
    file.write_text(FUNCTIONS.replace("0 9 * * *", "0 25 * * *"))
    assert "functions.py: @task('daily_report')" in await dev.until("schedules not synced")
    rows = "select key || ' ' || payload from app_jobs.scheduled_jobs order by key"
    assert [row[0] for row in await schedules.connection.fetch(rows)] == [
        "jobfn:daily_report {}",
        'jobfn:weekly_report {"days": 7}',
    ]
    dev.send(signal.SIGINT)
    assert await dev.wait() == 0
