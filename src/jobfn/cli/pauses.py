"""``jobfn pause``, ``jobfn resume`` and ``jobfn pauses``."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli import render_jobs
from jobfn.cli.options import AsJson, DatabaseUrl, PauseFor, PauseUntil, Yes, parse_pause
from jobfn.cli.output import echo
from jobfn.cli.render_times import ago, columns
from jobfn.cli.session import complete_tasks, confirm, with_operations
from jobfn.errors import ConfigurationError
from jobfn.operations import Operations
from jobfn.operations.actor import os_user
from jobfn.operations.pauses import Pause, PauseKind, PauseTarget

Task = Annotated[str | None, typer.Option("--task", help="The task.", autocompletion=complete_tasks)]
Queue = Annotated[str | None, typer.Option("--queue", help="The queue.")]
Tenant = Annotated[UUID | None, typer.Option("--tenant", help="The tenant.", metavar="UUID")]
Everything = Annotated[bool, typer.Option("--everything", help="All jobs.")]


def register_commands(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pause", epilog="example: jobfn pause --task send_email --for 2h --reason 'provider is down'")(
        pause_command
    )
    app.command("resume", epilog="example: jobfn resume --task send_email")(resume_command)
    app.command("pauses", epilog="example: jobfn pauses --json")(pauses_command)


def pause_command(
    task: Task = None,
    queue: Queue = None,
    tenant: Tenant = None,
    everything: Everything = False,
    duration: PauseFor = None,
    until: PauseUntil = None,
    reason: Annotated[str | None, typer.Option(help="Shown wherever jobs wait for the pause.")] = None,
    yes: Yes = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Pause a task, a queue, a tenant or everything.

    Running jobs go on. Without --for and --until, the pause lasts until `jobfn resume`.
    """
    target = _target(task, queue, tenant, everything=everything)
    seconds, end = parse_pause(duration, until)
    if everything:
        confirm("Pause all jobs?", yes=yes)
    with_operations(
        lambda operations: operations.pause(target, seconds=seconds, until=end, reason=reason, paused_by=os_user()),
        database_url,
    )
    echo(f"paused: {target}")


def resume_command(
    task: Task = None,
    queue: Queue = None,
    tenant: Tenant = None,
    everything: Everything = False,
    database_url: DatabaseUrl = None,
) -> None:
    """End a pause.

    `--everything` ends the pause of everything; those of single tasks, queues and tenants last on.
    """
    target = _target(task, queue, tenant, everything=everything)
    was_paused = with_operations(lambda operations: operations.resume(target), database_url)
    if not was_paused:
        raise ConfigurationError(f"{target} is not paused: see `jobfn pauses`")
    echo(f"resumed: {target}")


def pauses_command(as_json: AsJson = False, database_url: DatabaseUrl = None) -> None:
    """List what is paused, by whom and since when."""
    pauses = with_operations(Operations.pauses, database_url, spinner="Loading pauses")
    if as_json:
        echo(render_jobs.as_json(pauses))
    else:
        echo("\n".join(_table(pauses, datetime.now(UTC))) if pauses else "nothing is paused")


def _table(pauses: tuple[Pause, ...], now: datetime) -> list[str]:
    rows = [("PAUSED", "SINCE", "ENDS", "BY", "REASON")]
    for pause in pauses:
        ends = "when resumed" if pause.until is None else ago(pause.until, now)
        rows.append((str(pause.target), ago(pause.since, now), ends, pause.paused_by, pause.reason or ""))
    return columns(rows, whole=1)


def _target(task: str | None, queue: str | None, tenant: UUID | None, *, everything: bool) -> PauseTarget:
    names = {PauseKind.TASK: task, PauseKind.QUEUE: queue, PauseKind.TENANT: None if tenant is None else str(tenant)}
    targets = [PauseTarget(kind, name) for kind, name in names.items() if name is not None]
    targets += [PauseTarget(PauseKind.EVERYTHING)] if everything else []
    if len(targets) != 1:
        raise ConfigurationError("give one of --task, --queue, --tenant and --everything")
    return targets[0]
