"""``jobfn enqueue``: add one job by hand, and wait for its end if that is wanted."""

import json
import os
import sys
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli.database import DatabaseUrl, database_of, in_loop, schema_of
from jobfn.cli.follow import followed
from jobfn.cli.session import complete_tasks
from jobfn.database.connection import connect
from jobfn.database.jobs import NewJob, enqueue
from jobfn.errors import ConfigurationError
from jobfn.telemetry import logs, otel

EXAMPLE = """example: jobfn enqueue process_invoice '{"id": "42"}' --follow"""


def register_commands(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("enqueue", epilog=EXAMPLE)(enqueue_command)


def enqueue_command(
    task: Annotated[
        str, typer.Argument(help="The task identifier.", autocompletion=complete_tasks, show_default=False)
    ],
    payload: Annotated[str, typer.Argument(help="The payload, JSON; - reads it from standard input.")] = "{}",
    key: Annotated[str | None, typer.Option(help="Job key: at most one waiting job has it.")] = None,
    queue: Annotated[str | None, typer.Option(help="Named queue: its jobs run one at a time.")] = None,
    run_at: Annotated[
        str | None, typer.Option(help="Not before: ISO 8601, such as 2030-01-31T09:00+01:00.", metavar="TIME")
    ] = None,
    priority: Annotated[int, typer.Option(help="Lower runs first.", min=-(2**31), max=2**31 - 1)] = 0,
    max_attempts: Annotated[int, typer.Option(help="How often it may be tried.", min=1, max=2**31 - 1)] = 25,
    database_id: Annotated[UUID | None, typer.Option(help="The tenant.", metavar="UUID")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for its end. Exits with 5 if it failed for good.")
    ] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.1, metavar="SECONDS", help="Of --follow: give up then, with 124.", show_default=False),
    ] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Add one job and print its id."""
    if timeout is not None and not follow:
        raise ConfigurationError("--timeout goes with --follow")
    job = NewJob(
        task=task,
        payload=_payload(payload),
        key=key,
        queue=queue,
        run_at=_time(run_at),
        max_attempts=max_attempts,
        priority=priority,
        database_id=str(database_id) if database_id is not None else None,
    )

    logs.configure(level=os.environ.get("LOG_LEVEL") or "warning")  # what it has to say is the id
    otel.configure(os.environ, role="jobfn-enqueue")

    async def work() -> int:
        connection = await connect(database_of(database_url), application_name="jobfn-enqueue")
        try:
            return await enqueue(connection, schema_of(), job)
        finally:
            await connection.close()

    added = in_loop(work())
    typer.echo(added)
    if follow:
        raise typer.Exit(followed(added, database_url, timeout_seconds=timeout))


def _payload(text: str) -> str:
    try:
        if text == "-":
            text = sys.stdin.read()
        text.encode()  # what is no UTF-8 came through in disguise
        json.loads(text, parse_constant=_refuse_constant, parse_int=str)  # PostgreSQL takes numbers of any length
    except RecursionError:
        raise ConfigurationError("the payload is nested too deeply: nothing could read it") from None
    except UnicodeError:
        raise ConfigurationError("the payload is not in UTF-8, which JSON is written in: convert it first") from None
    except ValueError as error:
        raise ConfigurationError(f"the payload is no JSON ({error}): quote it for the shell, '{{\"id\": 1}}'") from None
    return text


def _refuse_constant(name: str) -> None:
    raise ConfigurationError(f"the payload holds {name}, which JSON has no number for: send null or a text instead")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--run-at {text!r} is no ISO 8601 time, such as 2030-01-31T09:00+01:00") from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
