"""``jobfn db``: install the jobs schema, show its status, open a SQL prompt, and print the development address."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.db_shell import shell_command
from jobfn.cli.exit_codes import CHECK_FAILED
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.database.migrate import SchemaKind, SchemaStatus, migrate, prerelease_message, status
from jobfn.database.privileges import Grants
from jobfn.devserver.state import DevState
from jobfn.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncpg

#: Rights of each group of roles.
_GRANTED = {
    "enqueue": "add jobs and schedules",
    "result": "wait for results",
    "steps": "record steps with ctx.transaction",
    "worker": "run `jobfn service`",
    "viewer": "look at jobs, schedules and workers",
    "operator": "look, and add and change jobs and schedules",
}

app = typer.Typer(
    help="Install the jobs schema, show its status, open psql.\n\nIts name is JOBS_SCHEMA, by default app_jobs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("migrate", epilog="example: jobfn db migrate --database-url postgresql://localhost/shop")
def migrate_command(
    database_url: DatabaseUrl = None,
    grant_enqueue: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Let this role add jobs and schedules; repeatable.")
    ] = None,
    grant_result: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Let this role wait for results; repeatable.")
    ] = None,
    grant_steps: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="Let this role of functions use ctx.transaction; repeatable."),
    ] = None,
    grant_worker: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Let this role run `jobfn service` only; repeatable.")
    ] = None,
    grant_viewer: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Let this role look at everything; repeatable.")
    ] = None,
    grant_operator: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="Let this role look, and add and change jobs and schedules; repeatable."),
    ] = None,
    max_payload_bytes: Annotated[
        int | None,
        typer.Option(min=2**14, max=2**30, help="Maximum size of the payloads of new jobs; at first 10 MiB."),
    ] = None,
    audit_days: Annotated[
        int | None,
        typer.Option(min=1, max=36_500, help="Keep the entries of the audit list for so many days; at first 365."),
    ] = None,
) -> None:
    """Bring the jobs schema up to date."""
    roles = {
        "enqueue": grant_enqueue,
        "result": grant_result,
        "steps": grant_steps,
        "worker": grant_worker,
        "viewer": grant_viewer,
        "operator": grant_operator,
    }
    grants = Grants(**{group: tuple(names or ()) for group, names in roles.items()})

    async def work(connection: "asyncpg.Connection[Any]") -> None:
        applied = await migrate(
            connection,
            jobs_schema(),
            grants=grants,
            max_payload_bytes=max_payload_bytes,
            audit_days=audit_days,
        )
        for migration in applied:
            echo(f"applied {migration.version:04d} {migration.name}")
        echo(f"schema {jobs_schema()} is up to date")
        for group, text in _GRANTED.items():
            for role in getattr(grants, group):
                echo(f"granted to {role}: {text}")
        if max_payload_bytes is not None:
            echo(f"payloads of new jobs have at most {max_payload_bytes} bytes")
        if audit_days is not None:
            echo(f"the audit list keeps its entries for {audit_days} days")

    with_connection(work, database_url, application_name="jobfn-migrate")


@app.command("status", epilog="example: jobfn db status --json")
def status_command(database_url: DatabaseUrl = None, as_json: AsJson = False) -> None:
    """Show which migrations are applied.

    Exits with 3 if some are missing, or the schema cannot be migrated.
    """
    schema_status = with_connection(
        lambda connection: status(connection, jobs_schema()), database_url, application_name="jobfn-status"
    )
    echo(_as_json(schema_status) if as_json else _as_text(schema_status))
    if schema_status.pending or schema_status.unknown or schema_status.kind is SchemaKind.PRERELEASE:
        raise typer.Exit(CHECK_FAILED)


def _as_text(schema_status: SchemaStatus) -> str:
    schema = schema_status.schema
    if schema_status.kind is SchemaKind.PLATFORM:
        return f"schema {schema}: the platform's own, which jobfn supports as it is"
    if schema_status.kind is SchemaKind.PRERELEASE:
        return prerelease_message(schema)
    is_absent = schema_status.kind is SchemaKind.ABSENT
    lines = [f"schema {schema}: {'not installed' if is_absent else 'installed by jobfn'}"]
    width = max(len(step.name) for step in schema_status.migrations)
    lines += [
        f"  {step.version:04d} {step.name:<{width}} {'applied' if step.applied else 'missing'}"
        for step in schema_status.migrations
    ]
    lines += [
        f"  {version:04d} {'(unknown)':<{width}} newer than this jobfn: upgrade it" for version in schema_status.unknown
    ]
    if schema_status.pending:
        lines.append("run `jobfn db migrate` to bring it up to date")
    return "\n".join(lines)


def _as_json(schema_status: SchemaStatus) -> str:
    return json.dumps(
        {
            "schema": schema_status.schema,
            "kind": schema_status.kind.value,
            "migrations": [
                {"version": step.version, "name": step.name, "applied": step.applied}
                for step in schema_status.migrations
            ],
            "unknown": list(schema_status.unknown),
        },
        indent=2,
    )


app.command("shell", epilog="examples: jobfn db shell; echo 'select * from app_jobs.jobs;' | jobfn db shell")(
    shell_command
)


@app.command("url", epilog='example: psql "$(jobfn db url)"')
def url_command() -> None:
    """Print the address of the development database.

    For clients that need TCP. It changes only with the port, if another process has taken it.
    """
    state = DevState.find(Path.cwd())
    if state is None:
        raise ConfigurationError("jobfn dev does not run here: start `jobfn dev functions.py` in this folder")
    if state.loopback_url is None:
        raise ConfigurationError(
            "jobfn dev has no database with a port here: use its --database-url, or see the file `log` in its data"
        )
    echo(state.loopback_url)
