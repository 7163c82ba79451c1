"""``jobfn schedules``: list, add, remove, run, and sync what the code says."""

import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer

from jobfn.cli.database import DatabaseUrl, database_of, in_loop, schema_of
from jobfn.cli.render_schedules import as_json, str_or_none
from jobfn.database.connection import connect
from jobfn.database.schedules import KEY_PREFIX, NewSchedule, ScheduleRow, ScheduleTable
from jobfn.errors import ConfigurationError, DatabaseError, LoadError, RequestError
from jobfn.function.app import FunctionApp, tasks_of
from jobfn.function.execution import AnyTask
from jobfn.function.loading import load_module
from jobfn.function.task import Task

T = TypeVar("T")

app = typer.Typer(
    help="Jobs that are made again and again: cron rules, and what became of them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="ID|KEY|TASK", help="Which one.", show_default=False)]
DatabaseId = Annotated[UUID | None, typer.Option(help="The tenant.", metavar="UUID")]


@app.command("list", epilog="example: jobfn schedules list --json")
def list_command(database_url: DatabaseUrl = None, as_json_too: AsJson = False) -> None:
    """Show every schedule: its rule, in words too, the next three times, and what became of the last job."""

    async def work(table: ScheduleTable) -> list[ScheduleRow]:
        return await table.all()

    rows = _with_table(work, database_url)
    typer.echo(as_json(rows) if as_json_too else str_or_none(rows))


@app.command(
    "add",
    epilog="""examples: jobfn schedules add daily_report '0 9 * * *' '{"report_type": "daily"}' --tz Europe/Paris; """
    """jobfn schedules add sweep '{"minute": [0, 30]}' --key sweep""",
)
def add_command(
    task: Annotated[str, typer.Argument(help="The task identifier.", show_default=False)],
    rule: Annotated[
        str,
        typer.Argument(
            help="A cron rule (5 fields, or 6 with seconds first, or @daily), or a schedule_info as JSON.",
            show_default=False,
        ),
    ],
    payload: Annotated[str, typer.Argument(help="The payload of its jobs, JSON.")] = "{}",
    tz: Annotated[str | None, typer.Option(help="Time zone, such as Europe/Paris. Default: UTC.")] = None,
    start: Annotated[str | None, typer.Option(help="Not before: ISO 8601.", metavar="TIME")] = None,
    end: Annotated[str | None, typer.Option(help="Not after: ISO 8601.", metavar="TIME")] = None,
    catch_up: Annotated[
        str | None, typer.Option(help="Times missed in a downtime make: one job (the default), all, or none.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Replaces the schedule of this key; its jobs carry it.")] = None,
    queue: Annotated[str | None, typer.Option(help="Named queue of its jobs: they run one at a time.")] = None,
    priority: Annotated[int, typer.Option(help="Lower runs first.", min=-(2**31), max=2**31 - 1)] = 0,
    max_attempts: Annotated[int, typer.Option(help="How often a job may be tried.", min=1, max=2**31 - 1)] = 25,
    database_id: DatabaseId = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add a schedule and print its id. A broken rule is refused, with the reason and the place."""
    from jobfn.scheduler.rule import parse  # noqa: PLC0415  - each verb loads what it runs

    given = {"tz": tz, "start": start, "end": end, "catch_up": catch_up}
    info = _schedule_info(rule) | {name: value for name, value in given.items() if value is not None}
    parse(info, strict=True)
    if key is not None and key.startswith(KEY_PREFIX):
        raise ConfigurationError(f"--key {key}: keys that begin with {KEY_PREFIX} belong to `jobfn schedules sync`")
    new = NewSchedule(
        task,
        info,
        payload=_json_text(payload),
        key=key,
        queue=queue,
        max_attempts=max_attempts,
        priority=priority,
        database_id=str(database_id) if database_id is not None else None,
    )
    typer.echo(_with_table(lambda table: table.add(new), database_url))


@app.command("remove", epilog="example: jobfn schedules remove 7")
def remove_command(name: Name, database_url: DatabaseUrl = None) -> None:
    """Remove a schedule. A job that it made already stays."""

    async def work(table: ScheduleTable) -> ScheduleRow:
        row = await table.find(name)
        await table.remove(row.id)
        return row

    row = _with_table(work, database_url)
    typer.echo(f"removed {row.id} {row.task}")


@app.command("run", epilog="example: jobfn schedules run daily_report")
def run_command(name: Name, database_url: DatabaseUrl = None) -> None:
    """Make a schedule's job now, beside its due times, and print the job's id.

    Refused while its last job is still waiting or running, as a due time would be.
    """

    async def work(table: ScheduleTable) -> int:
        row = await table.find(name)
        job = await table.run(row.id)
        if job is None:
            raise DatabaseError(f"schedule {row.id} was removed a moment ago: no job was made")
        return job

    typer.echo(_with_table(work, database_url))


@app.command("sync", epilog="example: jobfn schedules sync functions.py")
def sync_command(
    targets: Annotated[
        list[str],
        typer.Argument(metavar="FILE_OR_MODULE[:app]...", help="functions.py, shop.functions.", show_default=False),
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove also schedules from code whose task is in none of these files.")
    ] = False,
    database_id: DatabaseId = None,
    database_url: DatabaseUrl = None,
    as_json_too: AsJson = False,
) -> None:
    """Bring the schedules of @task(..., schedule=...) into the database: add, change, remove.

    They have keys such as jobfn:daily_report; no other schedule is touched. If anything is wrong, nothing changes.
    """
    from jobfn.scheduler.sync import CodeTask, sync  # noqa: PLC0415  - each verb loads what it runs

    tasks: dict[str, CodeTask] = {}
    for target in targets:
        for task in _tasks_in(target):
            _check_empty_payload(task)
            found = CodeTask(task.identifier, task.location, task.schedule_info)
            other = tasks.setdefault(task.identifier, found)
            if other.location != found.location:
                raise ConfigurationError(
                    f"{found.location}: a second task {task.identifier!r}; the first is at {other.location}. Rename one"
                )

    async def work() -> list[tuple[Any, str]]:
        connection = await connect(database_of(database_url), application_name="jobfn-schedules")
        try:
            return await sync(
                connection,
                schema_of(),
                list(tasks.values()),
                prune=prune,
                database_id=str(database_id) if database_id is not None else None,
            )
        finally:
            await connection.close()

    changes = in_loop(work())
    if as_json_too:
        typer.echo(json.dumps([{"change": change.value, "task": name} for change, name in changes], indent=2))
        return
    if not changes:
        typer.echo("no schedules in the code")
    for change, identifier in changes:
        left = " (its task is in none of these files; --prune removes it)" if change.value == "kept" else ""
        typer.echo(f"{change.value} {identifier}{left}")


def _with_table(work: Callable[[ScheduleTable], Awaitable[T]], database_url: str | None) -> T:
    async def connected() -> T:
        connection = await connect(database_of(database_url), application_name="jobfn-schedules")
        try:
            return await work(ScheduleTable(connection, schema_of()))
        finally:
            await connection.close()

    return in_loop(connected())


def _schedule_info(text: str) -> dict[str, Any]:
    """A rule as an argument: cron text, or JSON that begins with a brace."""
    if not text.lstrip().startswith("{"):
        return {"rule": text}
    found: dict[str, Any] = json.loads(_json_text(text, what="the schedule"))
    return found


def _json_text(text: str, *, what: str = "the payload") -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{what} is no JSON ({error}): quote it for the shell, '{{\"id\": 1}}'") from None
    return text


def _tasks_in(target: str) -> list[AnyTask]:
    name, _, attribute = target.partition(":")
    module = load_module(name)
    found = getattr(module, attribute, None) if attribute else None
    if attribute and found is None:
        raise LoadError(f"{name} has no app {attribute!r}")
    if isinstance(found, Task):
        return [found]
    tasks = list(found.tasks.values()) if isinstance(found, FunctionApp) else tasks_of(module)
    if not tasks and not attribute:  # any ASGI app may hold jobfn's inside, with tasks that cannot be seen
        raise LoadError(f'{target} holds no task: decorate a handler with @task("an_identifier")')
    return tasks


def _check_empty_payload(task: AnyTask) -> None:
    """A job of a schedule in code has the payload {}: whether the handler takes that is better known now."""
    if task.schedule_info is None:
        return
    try:
        task.decode(b"{}")
    except RequestError as error:
        raise ConfigurationError(
            f"{task.location}: @task({task.identifier!r}): jobs of its schedule have the payload {{}}. {error}. "
            "Give the fields defaults, or schedule it with a payload: jobfn schedules add"
        ) from None
