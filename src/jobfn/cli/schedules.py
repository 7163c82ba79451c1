"""``jobfn schedules``: list, add, remove, pause, resume and run schedules, and sync those in the code."""

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.options import (
    AsJson,
    DatabaseId,
    DatabaseUrl,
    MaxAttempts,
    PauseFor,
    PauseUntil,
    Priority,
    check_json,
    parse_pause,
    parse_seconds,
    str_or_none,
)
from jobfn.cli.output import echo
from jobfn.cli.render_schedules import as_json, as_text
from jobfn.database.schedules import KEY_PREFIX, NewSchedule, ScheduleRow, ScheduleTable
from jobfn.errors import ConfigurationError, DatabaseError, LoadError, RequestError
from jobfn.function.app import FunctionApp, collect_tasks
from jobfn.function.execution import AnyTask
from jobfn.function.loading import load_module
from jobfn.function.task import Task

if TYPE_CHECKING:
    from jobfn.scheduler.sync import CodeTask

T = TypeVar("T")

app = typer.Typer(help="Manage recurring (cron) jobs.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="ID|KEY|TASK", help="The schedule.")]


@app.command("list", epilog="example: jobfn schedules list --json")
def list_command(database_url: DatabaseUrl = None, json_output: AsJson = False) -> None:
    """List schedules with their next times and last jobs."""
    rows = _with_table(ScheduleTable.all, database_url)
    echo(as_json(rows) if json_output else as_text(rows))


@app.command(
    "add",
    epilog="""examples: jobfn schedules add daily_report '0 9 * * *' '{"report_type": "daily"}' --tz Europe/Paris; """
    """jobfn schedules add sweep '{"minute": [0, 30]}' --key sweep""",
)
def add_command(
    task: Annotated[str, typer.Argument(help="The task identifier.")],
    rule: Annotated[
        str, typer.Argument(help="A cron rule (5 fields, 6 with seconds first, or @daily), or a schedule_info as JSON.")
    ],
    payload: Annotated[str, typer.Argument(help="The payload of its jobs as JSON.")] = "{}",
    tz: Annotated[str | None, typer.Option(help="Time zone: Europe/Paris. Default: UTC.")] = None,
    start: Annotated[str | None, typer.Option(help="First time, ISO 8601.", metavar="TIME")] = None,
    end: Annotated[str | None, typer.Option(help="Last time, ISO 8601.", metavar="TIME")] = None,
    catch_up: Annotated[
        str | None, typer.Option(help="Jobs for times missed in a downtime: one (default), all or none.")
    ] = None,
    catch_up_window: Annotated[
        str | None, typer.Option(metavar="AGE", help="Skip missed times that are later than this: 30s, 15m, 2h, 7d.")
    ] = None,
    jitter: Annotated[
        str | None, typer.Option(metavar="AGE", help="Delay each job by a random time of at most this: 30s, 15m, 2h.")
    ] = None,
    expires_in: Annotated[
        str | None, typer.Option(metavar="AGE", help="Do not start a job later than this after its time: 30s, 15m, 2h.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(help="Key of the schedule and its jobs; an existing one is replaced.")
    ] = None,
    queue: Annotated[str | None, typer.Option(help="Named queue: its jobs run one at a time.")] = None,
    priority: Priority = 0,
    max_attempts: MaxAttempts = 25,
    database_id: DatabaseId = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add a schedule and print its id."""
    from jobfn.scheduler.rule import parse  # noqa: PLC0415  - only for this command

    options = {
        "tz": tz,
        "start": start,
        "end": end,
        "catch_up": catch_up,
        "catch_up_window_seconds": parse_seconds(catch_up_window, "--catch-up-window"),
        "jitter_seconds": parse_seconds(jitter, "--jitter"),
        "expires_in_seconds": parse_seconds(expires_in, "--expires-in"),
    }
    info = _parse_rule(rule) | {name: value for name, value in options.items() if value is not None}
    if parse(info, strict=True).next_after(datetime.now(UTC)) is None:
        raise ConfigurationError("the schedule would never run: give a rule and an end with times in the future")
    if key is not None and key.startswith(KEY_PREFIX):
        raise ConfigurationError(f"--key {key} is reserved: keys with {KEY_PREFIX} belong to `jobfn schedules sync`")
    schedule = NewSchedule(
        task,
        info,
        payload=check_json(payload),
        key=key,
        queue=queue,
        max_attempts=max_attempts,
        priority=priority,
        database_id=str_or_none(database_id),
    )
    echo(_with_table(lambda table: table.add(schedule), database_url))


@app.command("remove", epilog="example: jobfn schedules remove 7")
def remove_command(name: Name, database_url: DatabaseUrl = None) -> None:
    """Remove a schedule, but not its jobs."""
    row = _apply(name, ScheduleTable.remove, database_url)
    echo(f"removed {row.id} {row.task}")


@app.command("pause", epilog="example: jobfn schedules pause daily_report --for 2h --reason 'the printer is broken'")
def pause_command(
    name: Name,
    duration: PauseFor = None,
    until: PauseUntil = None,
    reason: Annotated[str | None, typer.Option(metavar="TEXT", help="Shown with the schedule.")] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make no jobs of a schedule.

    Without --for and --until, the pause lasts until `jobfn schedules resume`.
    """
    seconds, end = parse_pause(duration, until)
    row = _apply(
        name, lambda table, schedule_id: table.pause(schedule_id, reason, seconds=seconds, until=end), database_url
    )
    echo(f"paused {row.id} {row.task}")


@app.command("resume", epilog="example: jobfn schedules resume daily_report")
def resume_command(name: Name, database_url: DatabaseUrl = None) -> None:
    """End the pause of a schedule now.

    Times that passed in the pause make no job.
    """
    row = _apply(name, ScheduleTable.resume, database_url)
    row.require_pause()
    echo(f"resumed {row.id} {row.task}")


@app.command("run", epilog="example: jobfn schedules run daily_report")
def run_command(name: Name, database_url: DatabaseUrl = None) -> None:
    """Enqueue a schedule's job now and print the job's id.

    Also while it is paused. Fails if its last job is still waiting or running.
    """

    async def work(table: ScheduleTable) -> int:
        row = await table.find(name)
        job_id = await table.run(row.id)
        if job_id is None:
            raise DatabaseError(f"schedule {row.id} has just been removed: no job was enqueued")
        return job_id

    echo(_with_table(work, database_url))


@app.command("sync", epilog="example: jobfn schedules sync functions.py")
def sync_command(
    targets: Annotated[
        list[str], typer.Argument(metavar="FILE_OR_MODULE[:app]...", help="functions.py, shop.functions.")
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove schedules from code whose tasks are in none of these files.")
    ] = False,
    database_id: DatabaseId = None,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Sync the schedules in the code: @task(..., schedule=...).

    Adds, changes and removes schedules with keys like jobfn:daily_report, and no others. On an error, none changes.
    """
    from jobfn.scheduler.sync import Change, sync  # noqa: PLC0415  - only for this command

    tasks = _code_tasks(targets)
    tenant = str_or_none(database_id)
    changes = with_connection(
        lambda connection: sync(connection, jobs_schema(), tasks, prune=prune, database_id=tenant),
        database_url,
        application_name="jobfn-schedules",
        is_recorded=True,
    )
    if json_output:
        echo(json.dumps([{"change": change.value, "task": task} for change, task in changes], indent=2))
        return
    if not changes:
        echo("no schedules in the code")
    for change, task in changes:
        hint = " (its task is in none of these files; --prune removes it)" if change is Change.KEPT else ""
        echo(f"{change.value} {task}{hint}")


def _code_tasks(targets: list[str]) -> "list[CodeTask]":
    from jobfn.scheduler.sync import CodeTask  # noqa: PLC0415  - only for sync

    tasks = load_tasks(targets)
    for task in tasks:
        if task.schedule_payload is None:
            _check_empty_payload(task)
    return [
        CodeTask(task.identifier, task.location, task.schedule_info, task.schedule_payload or "{}") for task in tasks
    ]


def _with_table(work: Callable[[ScheduleTable], Awaitable[T]], database_url: str | None) -> T:
    return with_connection(
        lambda connection: work(ScheduleTable(connection, jobs_schema())),
        database_url,
        application_name="jobfn-schedules",
        is_recorded=True,
    )


def _apply(
    name: str, action: Callable[[ScheduleTable, int], Awaitable[object]], database_url: str | None
) -> ScheduleRow:
    """Find a schedule, apply an action to it, and return the row that was found."""

    async def work(table: ScheduleTable) -> ScheduleRow:
        row = await table.find(name)
        await action(table, row.id)
        return row

    return _with_table(work, database_url)


def _parse_rule(text: str) -> dict[str, Any]:
    """Parse a cron rule, or a ``schedule_info`` as JSON."""
    if not text.lstrip().startswith("{"):
        return {"rule": text}
    info: dict[str, Any] = json.loads(check_json(text, name="the schedule"))
    return info


def load_tasks(targets: list[str]) -> list[AnyTask]:
    """Return the tasks of files, modules or attributes of them.

    Raises:
        ConfigurationError: Two files have a task with the same name.
    """
    tasks: dict[str, AnyTask] = {}
    for target in targets:
        for task in _load_target(target):
            other = tasks.setdefault(task.identifier, task)
            if other.location != task.location:
                raise ConfigurationError(
                    f"{task.location}: task {task.identifier!r} is also at {other.location}: rename one of them"
                )
    return list(tasks.values())


def _load_target(target: str) -> list[AnyTask]:
    """Return the tasks of a file, a module, or one of its attributes."""
    name, _, attribute = target.partition(":")
    module = load_module(name)
    loaded = getattr(module, attribute, None) if attribute else None
    if attribute and loaded is None:
        raise LoadError(f"{name} has no attribute {attribute!r}")
    if isinstance(loaded, Task):
        return [loaded]
    tasks = list(loaded.tasks.values()) if isinstance(loaded, FunctionApp) else collect_tasks(module)
    if not tasks and not attribute:  # an attribute may be an ASGI app that contains jobfn's
        raise LoadError(f'{target} has no task: decorate a function with @task("an_identifier")')
    return tasks


def _check_empty_payload(task: AnyTask) -> None:
    """Check that a task with a schedule accepts the payload {}, which its jobs have."""
    if task.schedule_info is None:
        return
    try:
        task.decode(b"{}")
    except RequestError as error:
        raise ConfigurationError(
            f"{task.location}: @task({task.identifier!r}): the jobs of its schedule have the payload {{}}. {error}. "
            'Give the fields defaults, or the schedule a payload: schedule=Schedule("0 9 * * *", payload=...)'
        ) from None
