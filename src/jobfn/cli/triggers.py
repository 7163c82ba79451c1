"""``jobfn triggers``: create database triggers from blueprints."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from jobfn.cli.database import jobs_schema, resolve_database_url, with_connection
from jobfn.cli.exit_codes import CHECK_FAILED, FAILED
from jobfn.cli.options import AsJson, DatabaseUrl, Target
from jobfn.cli.output import echo
from jobfn.cli.render_triggers import as_json, print_plan
from jobfn.errors import ConfigurationError
from jobfn.function.loading import load_function_app
from jobfn.triggers.blueprint import Blueprint, load_blueprints
from jobfn.triggers.compatibility import Mismatch
from jobfn.triggers.plan import (
    Plan,
    apply_triggers,
    check_triggers,
    drop_triggers,
    generate_sql,
    plan_triggers,
)
from jobfn.triggers.sql import NodeSql

Blueprints = Annotated[
    list[Path], typer.Argument(metavar="BLUEPRINT", help="Files ending in .json, .yaml, .yml or .toml.")
]

app = typer.Typer(
    help="Create triggers that enqueue jobs when rows change.", no_args_is_help=True, rich_markup_mode=None
)

TrustOwners = Annotated[
    bool,
    typer.Option(
        "--trust-owners",
        help="Apply even if code of a table's or type's owner, such as casts, runs with the rights of another role.",
    ),
]

_with_connection = partial(with_connection, application_name="jobfn-triggers")


@app.command("sql", epilog="example: jobfn triggers sql blueprint.yaml > triggers.sql")
def sql_command(
    blueprints: Blueprints,
    no_database: Annotated[
        bool, typer.Option("--no-database", help="Take the columns from the blueprint's fields, for review in CI.")
    ] = False,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Print the SQL of a blueprint's triggers.

    Changes nothing. The SQL is one transaction and can be run repeatedly. Without a database, notices name what was not
    checked.
    """
    blueprint = _load(blueprints)
    if no_database:
        from jobfn.triggers.offline import generate_without_database  # noqa: PLC0415  - only for this option

        nodes, notices = generate_without_database(blueprint.tables, jobs_schema=jobs_schema())
    else:
        try:
            database_url = resolve_database_url(database_url)
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, or take the columns from the blueprint: --no-database") from None
        nodes, notices = _with_connection(
            lambda connection: generate_sql(connection, blueprint.tables, jobs_schema=jobs_schema()), database_url
        )
    _print_notices(notices)
    if json_output:
        echo(json.dumps([_sql_as_json(node) for node in nodes], indent=2))
    else:
        echo(_script(nodes))


@app.command("plan", epilog="example: jobfn triggers plan blueprint.yaml || jobfn triggers apply blueprint.yaml")
def plan_command(
    blueprints: Blueprints,
    trust_owners: TrustOwners = False,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Show what apply would create, change and drop.

    Exits with 0 if there are no changes, with 3 if there are.
    """
    blueprint = _load(blueprints)
    plan = _with_connection(
        lambda connection: plan_triggers(
            connection, blueprint.tables, jobs_schema=jobs_schema(), trust_owners=trust_owners
        ),
        database_url,
    )
    _print_plan(plan, json_output=json_output, applied=False)
    if plan.pending:
        raise typer.Exit(CHECK_FAILED)


@app.command("apply", epilog="example: jobfn triggers apply blueprint.yaml --database-url postgresql://localhost/shop")
def apply_command(
    blueprints: Blueprints,
    trust_owners: TrustOwners = False,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Create, change and drop triggers as the blueprint says.

    Runs in one transaction and can be repeated. On the tables of the blueprint, jobfn's triggers that it does not name
    are dropped; an empty list of nodes drops all of them. Other tables do not change. The triggers of a table run with
    the rights of its owner.
    """
    blueprint = _load(blueprints)
    plan = _with_connection(
        lambda connection: apply_triggers(
            connection, blueprint.tables, jobs_schema=jobs_schema(), trust_owners=trust_owners
        ),
        database_url,
    )
    _print_plan(plan, json_output=json_output, applied=True)


@app.command("drop", epilog="example: jobfn triggers drop blueprint.yaml --dry-run")
def drop_command(
    blueprints: Annotated[
        list[Path] | None, typer.Argument(metavar="BLUEPRINT", help="Blueprints that name the tables.")
    ] = None,
    all_tables: Annotated[bool, typer.Option("--all", help="Drop them on every table of the database.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be dropped.")] = False,
    database_url: DatabaseUrl = None,
    json_output: AsJson = False,
) -> None:
    """Drop jobfn's triggers and their functions.

    Runs in one transaction.
    """
    if all_tables == bool(blueprints):
        raise ConfigurationError("the tables must be given by blueprints or --all: use one of them")
    tables = None if all_tables else [(table.schema, table.table) for table in _load(blueprints or ()).tables]
    plan = _with_connection(
        lambda connection: drop_triggers(connection, tables, jobs_schema=jobs_schema(), dry_run=dry_run), database_url
    )
    _print_plan(plan, json_output=json_output, applied=not dry_run)


@app.command("check", epilog="example: jobfn triggers check functions.py blueprint.yaml")
def check_command(
    target: Target, blueprints: Blueprints, database_url: DatabaseUrl = None, json_output: AsJson = False
) -> None:
    """Check that triggers send what their tasks accept.

    Compares the columns in the database with the payload schemas. Exits with 1 on a mismatch.
    """
    schemas = {identifier: task.payload_schema() for identifier, task in load_function_app(target).tasks.items()}
    blueprint = _load(blueprints)
    mismatches, notices = _with_connection(
        lambda connection: check_triggers(connection, blueprint.tables, schemas, jobs_schema=jobs_schema()),
        database_url,
    )
    _print_notices(notices)
    triggers = sum(len(table.triggers) for table in blueprint.tables)
    echo(
        json.dumps([asdict(mismatch) for mismatch in mismatches], indent=2)
        if json_output
        else _mismatches_as_text(mismatches, triggers)
    )
    if mismatches:
        raise typer.Exit(FAILED)


def _load(paths: Iterable[Path]) -> Blueprint:
    blueprint = load_blueprints(paths)
    _print_notices(blueprint.notices)
    return blueprint


def _print_plan(plan: Plan, *, json_output: bool, applied: bool) -> None:
    _print_notices(plan.notices)
    if json_output:
        echo(json.dumps(as_json(plan), indent=2))
    else:
        print_plan(plan, applied=applied)


def _print_notices(notices: Iterable[str]) -> None:
    for notice in notices:
        echo(f"jobfn: notice: {notice}", err=True)


def _script(nodes: Iterable[NodeSql]) -> str:
    """Join all statements into one transaction. Comments have names as JSON, which contains no line breaks."""
    parts = ["begin;", "set local search_path = pg_catalog;"]
    for node in nodes:
        title = json.dumps([node.table.schema, node.table.name, node.node.label])
        parts.append(f"-- {title}: {', '.join(node.node.events)}\n{node.script()}")
    return "\n\n".join([*parts, "commit;"])


def _sql_as_json(node: NodeSql) -> dict[str, Any]:
    return {
        "schema": node.table.schema,
        "table": node.table.name,
        "task": node.node.label,
        "events": list(node.node.events),
        "each_statement": node.each_statement,
        "sql": node.script(),
    }


def _mismatches_as_text(mismatches: list[Mismatch], triggers: int) -> str:
    if not mismatches:
        return f"{triggers} trigger{'s match their tasks' if triggers != 1 else ' matches its task'}"
    lines = [
        f"{mismatch.table}, {mismatch.task} on {', '.join(mismatch.events)}: "
        + (f"{mismatch.field}: " if mismatch.field else "")
        + mismatch.problem
        for mismatch in mismatches
    ]
    return "\n".join([*lines, f"{len(mismatches)} mismatch{'es' if len(mismatches) > 1 else ''}"])
