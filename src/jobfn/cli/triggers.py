"""``jobfn triggers``: blueprints become triggers in a database."""

import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from jobfn.cli.database import DatabaseUrl, database_of, in_loop, schema_of
from jobfn.cli.render_triggers import as_json, print_plan
from jobfn.database.connection import connect
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

if TYPE_CHECKING:
    import asyncpg

T = TypeVar("T")

PENDING = 3
MISMATCHES = 1

Blueprints = Annotated[
    list[Path],
    typer.Argument(metavar="BLUEPRINT", help="Files ending in .json, .yaml, .yml or .toml.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

app = typer.Typer(
    help="Make triggers from blueprints, so that a table's changes enqueue jobs.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("sql", epilog="example: jobfn triggers sql blueprint.yaml > triggers.sql")
def sql_command(blueprints: Blueprints, database_url: DatabaseUrl = None, as_json_text: AsJson = False) -> None:
    """Print the SQL of a blueprint's triggers.

    To review, or to run: it is one transaction, and running it twice is fine. Changes nothing by itself.
    """
    blueprint = _load(blueprints)
    nodes, notices = _ask(
        database_url, lambda connection: generate_sql(connection, blueprint.tables, jobs_schema=schema_of())
    )
    _say(notices)
    if as_json_text:
        typer.echo(json.dumps([_sql_as_json(node) for node in nodes], indent=2))
    else:
        typer.echo(_script(nodes))


@app.command("plan", epilog="example: jobfn triggers plan blueprint.yaml || jobfn triggers apply blueprint.yaml")
def plan_command(blueprints: Blueprints, database_url: DatabaseUrl = None, as_json_text: AsJson = False) -> None:
    """Show what apply would create, change and drop.

    Exits with 0 when that is nothing, with 3 when it is something.
    """
    blueprint = _load(blueprints)
    plan = _ask(database_url, lambda connection: plan_triggers(connection, blueprint.tables, jobs_schema=schema_of()))
    _show(plan, as_json_text=as_json_text, done=False)
    if plan.pending:
        raise typer.Exit(PENDING)


@app.command("apply", epilog="example: jobfn triggers apply blueprint.yaml --database-url postgresql://localhost/shop")
def apply_command(blueprints: Blueprints, database_url: DatabaseUrl = None, as_json_text: AsJson = False) -> None:
    """Give the blueprint's tables the triggers it says.

    In one transaction; doing it twice changes nothing.
    What jobfn made on these tables and the blueprint does not name any more is dropped; an empty nodes list drops all
    of a table's. Tables that it does not name are left alone.
    """
    blueprint = _load(blueprints)
    plan = _ask(database_url, lambda connection: apply_triggers(connection, blueprint.tables, jobs_schema=schema_of()))
    _show(plan, as_json_text=as_json_text, done=True)


@app.command("drop", epilog="example: jobfn triggers drop blueprint.yaml --dry-run")
def drop_command(
    blueprints: Annotated[
        list[Path] | None, typer.Argument(metavar="BLUEPRINT", help="On the tables of these.", show_default=False)
    ] = None,
    everywhere: Annotated[bool, typer.Option("--all", help="On every table of the database.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be dropped.")] = False,
    database_url: DatabaseUrl = None,
    as_json_text: AsJson = False,
) -> None:
    """Remove the triggers that jobfn made.

    And their functions, and nothing else, in one transaction.
    """
    if everywhere == bool(blueprints):
        raise ConfigurationError("name the blueprints whose tables lose their triggers, or give --all; not both")
    tables = None if everywhere else [(table.schema, table.table) for table in _load(blueprints or ()).tables]
    plan = _ask(
        database_url,
        lambda connection: drop_triggers(connection, tables, jobs_schema=schema_of(), dry_run=dry_run),
    )
    _show(plan, as_json_text=as_json_text, done=not dry_run)


@app.command("check", epilog="example: jobfn triggers check functions.py blueprint.yaml")
def check_command(
    target: Annotated[
        str,
        typer.Argument(metavar="FILE_OR_MODULE[:app]", help="functions.py, or shop.functions.", show_default=False),
    ],
    blueprints: Blueprints,
    database_url: DatabaseUrl = None,
    as_json_text: AsJson = False,
) -> None:
    """Compare what triggers send with what tasks take.

    What is sent follows from the columns and their types as the database has them. Changes nothing. Exits with 0 when
    all fit, with 1 when one does not.
    """
    schemas = {identifier: task.payload_schema() for identifier, task in load_function_app(target).tasks.items()}
    blueprint = _load(blueprints)
    mismatches, notices = _ask(
        database_url,
        lambda connection: check_triggers(connection, blueprint.tables, schemas, jobs_schema=schema_of()),
    )
    _say(notices)
    triggers = sum(len(table.triggers) for table in blueprint.tables)
    typer.echo(
        json.dumps([asdict(mismatch) for mismatch in mismatches], indent=2)
        if as_json_text
        else _mismatches_as_text(mismatches, triggers)
    )
    if mismatches:
        raise typer.Exit(MISMATCHES)


def _load(paths: Iterable[Path]) -> Blueprint:
    blueprint = load_blueprints(paths)
    _say(blueprint.notices)
    return blueprint


def _ask(database_url: str | None, question: "Callable[[asyncpg.Connection[Any]], Awaitable[T]]") -> T:
    async def work() -> T:
        connection = await connect(database_of(database_url), application_name="jobfn-triggers")
        try:
            return await question(connection)
        finally:
            await connection.close()

    return in_loop(work())


def _show(plan: Plan, *, as_json_text: bool, done: bool) -> None:
    _say(plan.notices)
    if as_json_text:
        typer.echo(json.dumps(as_json(plan), indent=2))
    else:
        print_plan(plan, done=done)


def _say(notices: Iterable[str]) -> None:
    for notice in notices:
        typer.echo(f"jobfn: notice: {notice}", err=True)


def _script(nodes: Iterable[NodeSql]) -> str:
    """All statements in one transaction. Names go into comments as JSON, which has no line breaks."""
    parts = ["begin;", "set local search_path = pg_catalog;"]
    for node in nodes:
        title = json.dumps([node.table.schema, node.table.name, node.node.task_identifier])
        parts.append(f"-- {title}: {', '.join(node.node.events)}\n{node.script()}")
    return "\n\n".join([*parts, "commit;"])


def _sql_as_json(node: NodeSql) -> dict[str, Any]:
    return {
        "schema": node.table.schema,
        "table": node.table.name,
        "task": node.node.task_identifier,
        "events": list(node.node.events),
        "each_statement": node.each_statement,
        "sql": node.script(),
    }


def _mismatches_as_text(mismatches: list[Mismatch], triggers: int) -> str:
    if not mismatches:
        return f"{triggers} trigger{'s fit their tasks' if triggers != 1 else ' fits its task'}"
    lines = [
        f"{mismatch.table}, {mismatch.task} on {', '.join(mismatch.events)}: "
        + (f"{mismatch.field}: " if mismatch.field else "")
        + mismatch.problem
        for mismatch in mismatches
    ]
    return "\n".join([*lines, f"{len(mismatches)} mismatch{'es' if len(mismatches) > 1 else ''}"])
