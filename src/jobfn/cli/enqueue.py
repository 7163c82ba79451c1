"""``jobfn enqueue``: add one job, and wait until it ends with ``--follow``."""

import os
import sys
from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.follow import follow_job
from jobfn.cli.options import DatabaseId, DatabaseUrl, OwnMaxAttempts, OwnPriority, check_json, parse_time, str_or_none
from jobfn.cli.output import echo
from jobfn.cli.session import complete_tasks
from jobfn.database.enqueue import enqueue
from jobfn.database.records import NewJob
from jobfn.errors import ConfigurationError
from jobfn.telemetry import logs, otel

EXAMPLE = """example: jobfn enqueue process_invoice '{"id": "42"}' --follow"""


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("enqueue", epilog=EXAMPLE)(enqueue_command)


def enqueue_command(
    task: Annotated[str, typer.Argument(help="The task identifier.", autocompletion=complete_tasks)],
    payload: Annotated[str, typer.Argument(help="The payload as JSON; - reads it from standard input.")] = "{}",
    key: Annotated[str | None, typer.Option(help="Job key: only one waiting job can have it.")] = None,
    queue: Annotated[str | None, typer.Option(help="Named queue: its jobs run one at a time.")] = None,
    run_at: Annotated[
        str | None, typer.Option(help="Earliest start, ISO 8601: 2030-01-31T09:00+01:00.", metavar="TIME")
    ] = None,
    expires_at: Annotated[
        str | None, typer.Option(help="Latest start, ISO 8601. Afterwards, the job ends as expired.", metavar="TIME")
    ] = None,
    priority: OwnPriority = None,
    max_attempts: OwnMaxAttempts = None,
    database_id: DatabaseId = None,
    entity_id: Annotated[UUID | None, typer.Option(help="The record that the job is about.", metavar="UUID")] = None,
    organization_id: Annotated[UUID | None, typer.Option(help="The entity's organization.", metavar="UUID")] = None,
    entity_type: Annotated[str | None, typer.Option(help="Type of the entity, such as org.", metavar="NAME")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait until the job ends; exit with 5 if it fails permanently.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0.1, metavar="SECONDS", help="With --follow: exit with 124 after this.")
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add one job and print its id."""
    if timeout is not None and not follow:
        raise ConfigurationError("--timeout requires --follow")
    job = NewJob(
        task=task,
        payload=check_json(sys.stdin.read() if payload == "-" else payload),
        key=key,
        queue=queue,
        run_at=parse_time(run_at, "--run-at"),
        expires_at=parse_time(expires_at, "--expires-at"),
        max_attempts=max_attempts,
        priority=priority,
        database_id=str_or_none(database_id),
        entity_id=str_or_none(entity_id),
        organization_id=str_or_none(organization_id),
        entity_type=entity_type,
    )
    logs.configure(level=os.environ.get("LOG_LEVEL") or "warning")  # standard output is the id alone
    otel.configure(os.environ, role="jobfn-enqueue")
    job_id = with_connection(
        lambda connection: enqueue(connection, jobs_schema(), job),
        database_url,
        application_name="jobfn-enqueue",
        grant="enqueue",
    )
    echo(job_id)
    if follow:
        raise typer.Exit(follow_job(job_id, database_url, timeout_seconds=timeout))
