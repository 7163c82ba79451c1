"""Plan and apply the triggers of blueprints (contract, section 4).

``plan_triggers`` changes nothing. ``apply_triggers`` and ``drop_triggers`` compute the plan again under a lock and
execute it in the same transaction. Only objects with jobfn's ownership tag are changed or dropped, and only on the
given tables.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import asyncpg

from jobfn.errors import BlueprintError, DatabaseError
from jobfn.sql.locks import TRIGGER_APPLY_LOCK
from jobfn.triggers.blueprint import TableTriggers
from jobfn.triggers.catalog import read_jobs_schema, read_tables
from jobfn.triggers.compatibility import Mismatch, Schema, check_compatibility
from jobfn.triggers.diff import NodeChange, diff_triggers, drop_changes
from jobfn.triggers.entity import resolve_entity
from jobfn.triggers.introspect import read_existing_objects
from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.rights import FunctionRole, read_function_roles
from jobfn.triggers.sql import NodeSql, generate
from jobfn.triggers.table import EntitySource, JobsSchema, Table, printable, qualified_label
from jobfn.triggers.validate_columns import error_prefix, validate_columns
from jobfn.triggers.validate_in_database import error_message, validate_in_database

#: Default lock timeout: while ``apply_triggers`` waits for a table, later transactions on it wait too.
LOCK_TIMEOUT_SECONDS: Final = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """The difference between blueprints and the database.

    Attributes:
        changes: One change for each trigger of the blueprints, and for each trigger to drop.
        notices: Warnings about allowed but suspicious parameters.
    """

    changes: tuple[NodeChange, ...]
    notices: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[NodeChange, ...]:
        """The changes that execute statements."""
        return tuple(change for change in self.changes if change.statements)

    @property
    def statements(self) -> tuple[str, ...]:
        """The statements of all changes, in execution order."""
        statements = (statement for change in self.changes for statement in change.statements)
        return tuple(statement.sql for statement in sorted(statements, key=lambda statement: statement.phase))


async def plan_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    *,
    jobs_schema: str = "app_jobs",
    trust_owners: bool = False,
) -> Plan:
    """Compare blueprints with the database.

    Args:
        connection: Connection that can read the catalog; no other rights are needed.
        tables: Tables and their triggers.
        jobs_schema: Schema of the jobs and of the triggers' functions.
        trust_owners: As for ``apply_triggers``.

    Raises:
        BlueprintError: A table or a column does not exist, or a parameter does not match its column.
        SchemaError: The jobs schema does not exist.
        DatabaseError: The database reported an error.
    """
    async with _session(connection):
        plan, problems, _ = await _plan(connection, tables, jobs_schema, trust_owners=trust_owners)
    return replace(plan, notices=(*plan.notices, *_refusals(problems)))


async def apply_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    *,
    jobs_schema: str = "app_jobs",
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    trust_owners: bool = False,
) -> Plan:
    """Create, change and drop triggers so that the tables match the blueprints, in one transaction.

    Idempotent. Drops jobfn's triggers on these tables that are not in ``tables`` any more.

    Args:
        connection: Connection whose role owns the tables, or is a superuser, and has CREATE on the jobs schema. The
            triggers run with the rights of each table's owner.
        tables: Tables and their triggers.
        jobs_schema: Schema of the jobs and of the triggers' functions.
        lock_timeout_seconds: Maximum time to wait for a locked table, in seconds. Default: 10.
        trust_owners: Apply even if code of the owners of tables and types runs with the rights of another role, and run
            triggers with the rights of the current role if a table's owner may not enqueue.

    Returns:
        The applied plan.

    Raises:
        BlueprintError, SchemaError: As ``plan_triggers``. Also BlueprintError if code of an owner would run with the
            rights of another role.
        DatabaseError: The database reported an error, or a table stayed locked. Nothing was changed.
    """
    async with _session(connection, lock_timeout_seconds=lock_timeout_seconds, exclusive=True):
        plan, problems, roles = await _plan(connection, tables, jobs_schema, trust_owners=trust_owners, lock=True)
        if any(change.after is not None for change in plan.pending):
            _check_rights(problems, roles, jobs_schema)
        await _execute(connection, plan)
    return plan


async def drop_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[tuple[str, str]] | None,
    *,
    jobs_schema: str = "app_jobs",
    dry_run: bool = False,
) -> Plan:
    """Drop the triggers and functions that jobfn created.

    Args:
        connection: As for ``apply_triggers``.
        tables: Schema and name of each table; None for all tables.
        jobs_schema: Schema of the triggers' functions.
        dry_run: Only compute the plan.

    Raises:
        BlueprintError, SchemaError, DatabaseError: As ``apply_triggers``.
    """
    async with _session(connection, exclusive=not dry_run):
        jobs = await read_jobs_schema(connection, jobs_schema)
        oids = list(await read_tables(connection, tables, jobs_schema)) if tables is not None else None
        plan = Plan(tuple(drop_changes(await read_existing_objects(connection, jobs, oids))))
        if not dry_run:
            await _execute(connection, plan)
    return plan


async def generate_sql(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    *,
    jobs_schema: str = "app_jobs",
) -> tuple[list[NodeSql], tuple[str, ...]]:
    """Return the SQL of every trigger, and notices. Arguments and errors are those of ``plan_triggers``."""
    async with _session(connection):
        jobs = await read_jobs_schema(connection, jobs_schema)
        validated = await _validate(connection, tables, jobs)
    return generate_nodes(validated.nodes), (*validated.notices, *_refusals(validated.problems))


async def check_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    tasks: Mapping[str, Schema],
    *,
    jobs_schema: str = "app_jobs",
) -> tuple[list[Mismatch], tuple[str, ...]]:
    """Compare the payload of every trigger with its task. Works before the triggers and the jobs schema exist.

    Args:
        connection: As for ``plan_triggers``.
        tables: Tables and their triggers.
        tasks: JSON Schema of each task's payload, by task identifier.
        jobs_schema: Schema of the jobs; its tables cannot have triggers.

    Returns:
        Mismatches and notices. A notice names each function that runs code of a table's owner with other rights.

    Raises:
        BlueprintError, DatabaseError: As ``plan_triggers``.
    """
    jobs = JobsSchema(jobs_schema)
    async with _session(connection):
        validated = await _validate(connection, tables, jobs)
        existing = await read_existing_objects(connection, jobs, list(validated.tables))
    mismatches = [each for node, table, *_ in validated.nodes for each in check_compatibility(node, table, tasks)]
    return mismatches, (*validated.notices, *existing.unsafe_functions())


#: A trigger that passed validation, its table, the jobs schema, and the source of its jobs' entity id.
ValidNode = tuple[DataJobTrigger, Table, JobsSchema, EntitySource | None]


def generate_nodes(nodes: Sequence[ValidNode]) -> list[NodeSql]:
    """Generate the SQL of valid nodes."""
    positions: Counter[tuple[str, str]] = Counter()
    generated: list[NodeSql] = []
    for node, table, jobs, entity in nodes:
        key = (table.sql, node.label)
        generated.append(generate(node, table, jobs, position=positions[key], entity=entity))
        positions[key] += 1
    return generated


@dataclass(frozen=True, slots=True)
class _ValidatedTriggers:
    """Triggers that passed both validations."""

    tables: dict[int, Table]
    nodes: tuple[ValidNode, ...]
    notices: tuple[str, ...]
    problems: tuple[str, ...]
    roles: tuple[FunctionRole, ...]


async def _validate(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    jobs: JobsSchema,
    *,
    trust_owners: bool = False,
    lock: bool = False,
) -> _ValidatedTriggers:
    """Validate every trigger against its table; raise the first error."""
    names = [(table.schema, table.table) for table in tables]
    duplicate = next((name for name, count in Counter(names).items() if count > 1), None)
    if duplicate is not None:
        raise BlueprintError(f"table {qualified_label(*duplicate)} occurs twice: merge its triggers into one entry")
    tables_by_oid = await read_tables(connection, names, jobs.name, lock=lock)
    roles_by_oid = await read_function_roles(connection, jobs, tables_by_oid, trust_owners=trust_owners)
    notices: list[str] = []
    problems: list[str] = []
    nodes: list[ValidNode] = []
    roles: list[FunctionRole] = []
    for entry, (oid, table) in zip(tables, tables_by_oid.items(), strict=True):
        role = roles_by_oid[oid]
        for node in entry.triggers:
            notices += [f"{error_prefix(table, node)}: {notice}" for notice in validate_columns(node, table)]
            await validate_in_database(connection, node, table, may_run_code=role.may_run_code)
            entity, risks = await resolve_entity(connection, node, table, role)
            nodes.append((node, table, role.jobs, entity))
            problems += risks
        if entry.triggers:
            problems += role.problems(table)
            roles.append(role)
    if trust_owners:
        notices += dict.fromkeys(problems)
        problems = []
    return _ValidatedTriggers(tables_by_oid, tuple(nodes), tuple(notices), tuple(dict.fromkeys(problems)), tuple(roles))


async def _plan(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    jobs_schema: str,
    *,
    trust_owners: bool,
    lock: bool = False,
) -> tuple[Plan, tuple[str, ...], tuple[FunctionRole, ...]]:
    """Return the plan, why it must not be applied, and the roles of the triggers' functions."""
    jobs = await read_jobs_schema(connection, jobs_schema)
    validated = await _validate(connection, tables, jobs, trust_owners=trust_owners, lock=lock)
    nodes = generate_nodes(validated.nodes)
    existing = await read_existing_objects(connection, jobs, list(validated.tables), nodes)
    plan = Plan(tuple(diff_triggers(nodes, existing)), (*validated.notices, *existing.notices()))
    return plan, validated.problems, validated.roles


def _refusals(problems: Sequence[str]) -> list[str]:
    return [f"apply refuses: {problem}" for problem in problems]


def _check_rights(problems: Sequence[str], roles: Sequence[FunctionRole], jobs_schema: str) -> None:
    """Raise if code of other roles would get rights, or if the triggers would fail every write to their tables."""
    if problems:
        raise BlueprintError(
            f"{'; '.join(problems)}. Or trust the owners: --trust-owners (trust_owners=True). Nothing was changed"
        )
    barred = next((role for role in roles if not role.may_enqueue), None)
    if barred is not None:
        raise DatabaseError(
            f"role {printable(barred.name)} must be allowed to enqueue into schema {jobs_schema}, because triggers use "
            "its rights: use for example the schema's owner. Nothing was changed"
        )


async def _execute(connection: "asyncpg.Connection[Any]", plan: Plan) -> None:
    for statement in plan.statements:
        await connection.execute(statement)


@contextlib.asynccontextmanager
async def _session(
    connection: "asyncpg.Connection[Any]",
    *,
    lock_timeout_seconds: float = LOCK_TIMEOUT_SECONDS,
    exclusive: bool = False,
) -> AsyncIterator[None]:
    """Open a transaction with a fixed search path and a lock timeout."""
    settings = {"search_path": "pg_catalog", "lock_timeout": f"{round(lock_timeout_seconds * 1000)}ms"}
    role: str | None = None
    try:
        async with connection.transaction():
            role = await connection.fetchval("select current_user")
            before = {name: await connection.fetchval("select current_setting($1)", name) for name in settings}
            for name, value in settings.items():
                await connection.execute("select set_config($1, $2, true)", name, value)
            if exclusive:
                await connection.execute("select pg_advisory_xact_lock($1::bigint)", TRIGGER_APPLY_LOCK)
            yield
            for name, value in before.items():  # the caller may already have a transaction
                await connection.execute("select set_config($1, $2, true)", name, value)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"role {role} lacks a privilege: {error_message(error)}. "
            "Use the tables' owner, with CREATE on the jobs schema"
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseError(
            f"another transaction held a lock for {lock_timeout_seconds:g} s: {error_message(error)}. "
            "Nothing was changed; try again"
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"PostgreSQL reported an error, nothing was changed: {error_message(error)}") from error
