"""``jobfn workers``: list the running processes."""

from datetime import UTC, datetime

import typer

from jobfn.cli import render_jobs
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.cli.session import with_operations
from jobfn.operations import Operations


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("workers", epilog="example: jobfn workers --json")(workers_command)


def workers_command(as_json: AsJson = False, database_url: DatabaseUrl = None) -> None:
    """List workers with their last heartbeat and jobs in flight."""
    workers = with_operations(Operations.workers, database_url, spinner="Loading workers")
    echo(render_jobs.as_json(workers) if as_json else "\n".join(render_jobs.worker_lines(workers, datetime.now(UTC))))
