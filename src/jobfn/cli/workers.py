"""``jobfn workers``: who is at work."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from jobfn.cli import job_texts
from jobfn.cli.operating import with_operations
from jobfn.cli.targets import DatabaseUrl
from jobfn.operations import Operations, WorkerRow


def add_to(app: typer.Typer) -> None:
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
    typer.echo(job_texts.as_json(workers) if as_json else "\n".join(job_texts.worker_lines(workers, datetime.now(UTC))))
