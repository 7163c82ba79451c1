"""Compare what blueprints say with what the database has, and bring it there (contract, section 4).

``plan_triggers`` looks and changes nothing; ``apply_triggers`` and ``drop_triggers`` look again under a lock and
change in the same transaction, so that what they change is what they saw. Only objects that carry jobfn's mark are
ever changed or dropped, and only on the tables that are named.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from jobfn.errors import BlueprintError, DatabaseError
from jobfn.triggers.blueprint import TableTriggers
from jobfn.triggers.catalog import read_jobs_schema, read_tables
from jobfn.triggers.compatibility import Mismatch, Schema, check
from jobfn.triggers.diff import NodeChange, compare, dropping
from jobfn.triggers.introspect import read_existing
from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.sql import NodeSql, generate
from jobfn.triggers.table import JobsSchema, Table, label_of
from jobfn.triggers.validate_columns import place, resolve
from jobfn.triggers.validate_in_database import message_of, verify

#: How long to wait for a table that somebody works on.
LOCK_SECONDS: Final = 10
#: One apply at a time in a database; the number after that of the migrations.
_ADVISORY_LOCK: Final = 456568465


@dataclass(frozen=True, slots=True)
class Plan:
    """What stands between the blueprints and the database.

    Attributes:
        changes: One for each trigger of a blueprint, and for each that is to go.
        notices: What is allowed and perhaps not meant.
    """

    changes: tuple[NodeChange, ...]
    notices: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[NodeChange, ...]:
        """The changes that change something."""
        return tuple(change for change in self.changes if change.statements)

    @property
    def statements(self) -> tuple[str, ...]:
        """What ``apply`` runs, in order."""
        ordered = sorted(
            (statement for change in self.changes for statement in change.statements), key=lambda s: s.step
        )
        return tuple(statement.sql for statement in ordered)


async def plan_triggers(
    connection: "asyncpg.Connection[Any]", tables: Sequence[TableTriggers], *, jobs_schema: str = "app_jobs"
) -> Plan:
    """Compare blueprints with the database.

    Args:
        connection: Its role must be able to read the catalog, nothing more.
        tables: The tables and the triggers they are to have.
        jobs_schema: Where jobs go, and where the triggers' functions live.

    Raises:
        BlueprintError: A table or a column is not there, or a parameter makes no sense for it.
        SchemaError: There is no jobs schema.
        DatabaseError: PostgreSQL could not be asked.
    """
    async with _session(connection):
        return await _plan(connection, tables, jobs_schema)


async def apply_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    *,
    jobs_schema: str = "app_jobs",
    lock_seconds: float = LOCK_SECONDS,
) -> Plan:
    """Give the tables the triggers that the blueprints say, in one transaction. Doing it twice changes nothing.

    Triggers that jobfn made on one of these tables and that are not among ``tables`` any more are dropped.

    Args:
        connection: Its role must own the tables, or have TRIGGER on them, and may create in the jobs schema. The
            triggers enqueue with its rights.
        tables: As for ``plan_triggers``.
        jobs_schema: As for ``plan_triggers``.
        lock_seconds: How long to wait for a table that somebody works on, in seconds. Default 10: meanwhile whoever
            comes after us waits too.

    Returns:
        What was changed.

    Raises:
        BlueprintError, SchemaError: As ``plan_triggers``.
        DatabaseError: PostgreSQL refused it, or a table stayed locked. Nothing was changed.
    """
    async with _session(connection, lock_seconds=lock_seconds, exclusive=True):
        plan = await _plan(connection, tables, jobs_schema)
        await _check_enqueue_privilege(connection, plan, jobs_schema)
        await _run(connection, plan)
    return plan


async def drop_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[tuple[str, str]] | None,
    *,
    jobs_schema: str = "app_jobs",
    dry_run: bool = False,
) -> Plan:
    """Remove what jobfn made: on these tables, given as schema and name, or on every table (None).

    Raises:
        BlueprintError, SchemaError, DatabaseError: As ``apply_triggers``.
    """
    async with _session(connection, lock_seconds=LOCK_SECONDS, exclusive=not dry_run):
        jobs = await read_jobs_schema(connection, jobs_schema)
        found = await read_tables(connection, tables, jobs_schema) if tables is not None else None
        existing = await read_existing(connection, jobs, None if found is None else list(found))
        plan = Plan(tuple(dropping(existing)))
        if not dry_run:
            await _run(connection, plan)
    return plan


async def generate_sql(
    connection: "asyncpg.Connection[Any]", tables: Sequence[TableTriggers], *, jobs_schema: str = "app_jobs"
) -> tuple[list[NodeSql], tuple[str, ...]]:
    """The SQL of every trigger, and notices. Arguments and errors as ``plan_triggers``."""
    async with _session(connection):
        jobs = await read_jobs_schema(connection, jobs_schema)
        fitting = await _fit(connection, tables, jobs_schema)
    return fitting.sql(jobs), fitting.notices


async def check_triggers(
    connection: "asyncpg.Connection[Any]",
    tables: Sequence[TableTriggers],
    tasks: Mapping[str, Schema],
    *,
    jobs_schema: str = "app_jobs",
) -> tuple[list[Mismatch], tuple[str, ...]]:
    """Compare what every trigger will send with what the tasks take. Nothing need be deployed, not even a jobs schema.

    Args:
        connection: As for ``plan_triggers``.
        tables: As for ``plan_triggers``.
        tasks: The JSON Schema of each task's payload, by task identifier.
        jobs_schema: As for ``plan_triggers``.

    Returns:
        The mismatches, and notices.

    Raises:
        BlueprintError, DatabaseError: As ``plan_triggers``.
    """
    async with _session(connection):
        fitting = await _fit(connection, tables, jobs_schema)
    return [mismatch for node, table in fitting.nodes for mismatch in check(node, table, tasks)], fitting.notices


@dataclass(frozen=True, slots=True)
class _ValidatedBlueprint:
    """Nodes that fit their tables."""

    tables: dict[int, Table]
    nodes: tuple[tuple[DataJobTrigger, Table], ...]
    notices: tuple[str, ...]

    def sql(self, jobs: JobsSchema) -> list[NodeSql]:
        positions: Counter[tuple[str, str]] = Counter()
        found: list[NodeSql] = []
        for node, table in self.nodes:
            key = (table.sql, node.task_identifier)
            found.append(generate(node, table, jobs, position=positions[key]))
            positions[key] += 1
        return found


async def _fit(
    connection: "asyncpg.Connection[Any]", tables: Sequence[TableTriggers], jobs_schema: str
) -> _ValidatedBlueprint:
    """Look at every node beside its table; the first that does not fit is an error."""
    names = [(table.schema, table.table) for table in tables]
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise BlueprintError(f"table {label_of(*twice)} is named twice: put its triggers together")
    found = await read_tables(connection, names, jobs_schema)
    nodes = [(node, table) for wanted, table in zip(tables, found.values(), strict=True) for node in wanted.triggers]
    notices: list[str] = []
    for node, table in nodes:
        notices += [f"{place(table.label, node)}: {notice}" for notice in resolve(node, table)]
        await verify(connection, node, table)
    return _ValidatedBlueprint(found, tuple(nodes), tuple(notices))


async def _plan(connection: "asyncpg.Connection[Any]", tables: Sequence[TableTriggers], jobs_schema: str) -> Plan:
    jobs = await read_jobs_schema(connection, jobs_schema)
    fitting = await _fit(connection, tables, jobs_schema)
    wanted = fitting.sql(jobs)
    existing = await read_existing(connection, jobs, list(fitting.tables), wanted)
    return Plan(tuple(compare(wanted, existing)), (*fitting.notices, *existing.notices()))


async def _check_enqueue_privilege(connection: "asyncpg.Connection[Any]", plan: Plan, jobs_schema: str) -> None:
    """A trigger of a role that may not add jobs would fail every write to its table."""
    is_needed = any(change.after is not None for change in plan.pending)
    if is_needed and not (await read_jobs_schema(connection, jobs_schema)).may_add:
        raise DatabaseError(
            f"this role may not add jobs to schema {jobs_schema}, and triggers enqueue with its rights: "
            "use a role that may, such as the schema's owner. Nothing was changed"
        )


async def _run(connection: "asyncpg.Connection[Any]", plan: Plan) -> None:
    for statement in plan.statements:
        await connection.execute(statement)


@contextlib.asynccontextmanager
async def _session(
    connection: "asyncpg.Connection[Any]", *, lock_seconds: float = LOCK_SECONDS, exclusive: bool = False
) -> AsyncIterator[None]:
    """A transaction in which names mean PostgreSQL's own first, whatever the role's search path is."""
    settings = {"search_path": "pg_catalog", "lock_timeout": f"{round(lock_seconds * 1000)}ms"}
    try:
        async with connection.transaction():
            before = {name: await connection.fetchval("select current_setting($1)", name) for name in settings}
            for name, value in settings.items():
                await connection.execute("select set_config($1, $2, true)", name, value)
            if exclusive:
                await connection.execute("select pg_advisory_xact_lock($1::bigint)", _ADVISORY_LOCK)
            yield
            for name, value in before.items():  # the transaction may be the caller's own
                await connection.execute("select set_config($1, $2, true)", name, value)
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(
            f"this role may not do that: {message_of(error)}. "
            "Use the tables' owner, with the right to create in the jobs schema"
        ) from error
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseError(
            f"somebody else's work held a lock for {lock_seconds:g} s: {message_of(error)}. "
            "Nothing was changed; try again"
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"PostgreSQL refused it, nothing was changed: {message_of(error)}") from error
