"""``jobfn db``: install the jobs schema and show how it stands."""

import json
from typing import Annotated

import typer

from jobfn.cli.database import DatabaseUrl, database_of, in_loop, schema_of
from jobfn.database.connection import connect
from jobfn.database.migrate import SchemaKind, SchemaStatus, migrate, status
from jobfn.database.privileges import Grants

app = typer.Typer(
    help="Install the jobs schema (app_jobs, or JOBS_SCHEMA) and show how it stands.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PENDING = 3


@app.command("migrate", epilog="example: jobfn db migrate --database-url postgresql://localhost/shop")
def migrate_command(
    database_url: DatabaseUrl = None,
    grant_enqueue: Annotated[
        list[str] | None, typer.Option(metavar="ROLE", help="Let this role add jobs and schedules. Repeatable.")
    ] = None,
    grant_worker: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE", help="Let this role run jobfn service, and nothing else. Repeatable."),
    ] = None,
) -> None:
    """Bring the jobs schema up to date. Doing it twice changes nothing."""
    grants = Grants(enqueue=tuple(grant_enqueue or ()), work=tuple(grant_worker or ()))

    async def work() -> None:
        connection = await connect(database_of(database_url), application_name="jobfn-migrate")
        try:
            applied = await migrate(connection, schema_of(), grants=grants)
        finally:
            await connection.close()
        for migration in applied:
            typer.echo(f"applied {migration.version:04d} {migration.name}")
        typer.echo(f"schema {schema_of()} is up to date")
        for role in grants.enqueue:
            typer.echo(f"{role} may enqueue")
        for role in grants.work:
            typer.echo(f"{role} may work")

    in_loop(work())


@app.command("status", epilog="example: jobfn db status --json")
def status_command(
    database_url: DatabaseUrl = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show which migrations this database has. Exits with 3 when some are missing."""

    async def work() -> SchemaStatus:
        connection = await connect(database_of(database_url), application_name="jobfn-status")
        try:
            return await status(connection, schema_of())
        finally:
            await connection.close()

    found = in_loop(work())
    typer.echo(_as_json(found) if as_json else _as_text(found))
    if found.pending or found.unknown:
        raise typer.Exit(PENDING)


def _as_text(found: SchemaStatus) -> str:
    if found.kind is SchemaKind.PLATFORM:
        return f"schema {found.schema}: the platform's own; jobfn runs on it as it is"
    lines = [f"schema {found.schema}: {'not installed' if found.kind is SchemaKind.ABSENT else 'installed by jobfn'}"]
    lines += [
        f"  {step.version:04d} {step.name:<12} {'applied' if step.applied else 'missing'}" for step in found.migrations
    ]
    lines += [f"  {version:04d} {'(unknown)':<12} newer than this jobfn: upgrade it" for version in found.unknown]
    if found.pending:
        lines.append("run `jobfn db migrate` to bring it up to date")
    return "\n".join(lines)


def _as_json(found: SchemaStatus) -> str:
    return json.dumps(
        {
            "schema": found.schema,
            "kind": found.kind.value,
            "migrations": [
                {"version": step.version, "name": step.name, "applied": step.applied} for step in found.migrations
            ],
            "unknown": list(found.unknown),
        },
        indent=2,
    )
