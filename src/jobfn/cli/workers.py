"""``jobfn workers``: who is at work."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from jobfn.cli import render_jobs
from jobfn.cli.database import DatabaseUrl
from jobfn.cli.session import with_operations
from jobfn.operations import Operations, WorkerRow


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("workers", epilog="example: jobfn workers --json")(workers_command)


def workers_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Show the processes at work, when each was last heard of, and how much it has in hand."""

    async def work(operations: Operations) -> tuple[WorkerRow, ...]:
        return await operations.workers()

    workers = with_operations(work, database_url, doing="looking")
    typer.echo(
        render_jobs.as_json(workers) if as_json else "\n".join(render_jobs.worker_lines(workers, datetime.now(UTC)))
    )
