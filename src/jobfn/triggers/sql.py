"""Generate the SQL of a trigger: one function, and one database trigger per event.

Pure. On jobfn's own schema and a plain table, the trigger fires for each statement and adds the jobs of all rows at
once, at about a fifth of the cost (docs/triggers.md). On the platform's schema, or on a table with partitions or
children, it fires for each row and calls ``add_job``. Next step: ``diff.py``.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from jobfn.errors import BlueprintError
from jobfn.sql.quoting import quote_body, quote_identifier, quote_literal
from jobfn.triggers.expressions import INDENT, TRIGGER_ROWS, firing_condition, needs_both_rows
from jobfn.triggers.node import DataJobTrigger, Event
from jobfn.triggers.ownership import OwnershipTag, fingerprint
from jobfn.triggers.plpgsql import NEW_ROWS, OLD_ROWS, function_body
from jobfn.triggers.table import EnqueueMethod, EntitySource, JobsSchema, Table
from jobfn.triggers.validate_columns import error_prefix

_SLUG_CHARACTERS: Final = 24


@dataclass(frozen=True, slots=True)
class ObjectSql:
    """The SQL of a function or a trigger."""

    name: str
    create: str
    drop: str
    comment: str
    tag: OwnershipTag


@dataclass(frozen=True, slots=True)
class NodeSql:
    """The SQL of one node of a blueprint.

    Attributes:
        function: Function that the triggers execute.
        body: Body of the function, as PostgreSQL stores it.
        triggers: One trigger per event, in the order of ``node.events``.
        each_statement: Whether the triggers fire for each statement; otherwise for each row.
        function_owner: Role to own the function; None for the role that creates it.
    """

    table: Table
    node: DataJobTrigger
    function_schema: str
    function: ObjectSql
    body: str
    triggers: tuple[ObjectSql, ...]
    each_statement: bool
    function_owner: str | None = None

    @property
    def set_owner(self) -> str:
        """Statement that gives the function to its owner."""
        owner = quote_identifier(self.function_owner) if self.function_owner is not None else "current_user"
        name = f"{quote_identifier(self.function_schema)}.{quote_identifier(self.function.name)}"
        return f"alter function {name}() owner to {owner};"

    def script(self) -> str:
        """Return all statements as an idempotent script."""
        triggers = [f"{_if_exists(trigger.drop)}\n{trigger.create}\n{trigger.comment}" for trigger in self.triggers]
        owner = f"\n{self.set_owner}" if self.function_owner is not None else ""
        return "\n\n".join([f"{self.function.create}\n{self.function.comment}{owner}", *triggers])


def generate(
    node: DataJobTrigger, table: Table, jobs: JobsSchema, *, position: int = 0, entity: EntitySource | None = None
) -> NodeSql:
    """Generate the SQL of one node.

    Args:
        node: A trigger that passed ``validate_columns``.
        table: Table of the trigger.
        jobs: Schema of the jobs and of the function.
        position: Index among the table's nodes with the same task; part of the generated name.
        entity: Source of the jobs' entity id.

    Raises:
        BlueprintError: The trigger sets an entity id, and the schema's ``add_job`` takes none; or it sends a signal,
            and the schema has none.
    """
    base = base_name(node.label, table, position)
    function_name = f"{jobs.sql}.{quote_identifier(base)}"
    # add_jobs takes no entities: only a job key, which makes one job of all rows, can have one per statement.
    takes_sets = jobs.enqueue_method is EnqueueMethod.INSERT or (
        jobs.enqueue_method is EnqueueMethod.ADD_JOBS and (entity is None or node.job_key is not None)
    )
    if node.is_unique and entity is not None:
        takes_sets = False
    each_statement = takes_sets and table.is_plain_table
    calls_add_job = not each_statement or node.job_key is not None
    if entity is not None and calls_add_job and not jobs.accepts_entity:
        raise BlueprintError(
            f"{error_prefix(table, node)}: entity_field: add_job of schema {jobs.name} takes no entity_id: upgrade the "
            "schema (the platform's has it since database-jobs 0.26), or remove entity_field"
        )
    if node.signal is not None and not jobs.accepts_signals:
        raise BlueprintError(
            f"{error_prefix(table, node)}: signal: schema {jobs.name} has no signals: run `jobfn db migrate`; the "
            "platform's schema has none"
        )
    parameter = _unsupported_parameter(node, jobs)
    if parameter is not None:
        raise BlueprintError(
            f"{error_prefix(table, node)}: {parameter}: schema {jobs.name} does not have it: run `jobfn db migrate`; "
            "the platform's schema does not have it"
        )
    body = function_body(node, table, jobs, each_statement=each_statement, entity=entity)
    pairs_rows = each_statement and any(needs_both_rows(node, event) for event in node.events)
    function = _function(function_name, base, body, node, pairs_rows=pairs_rows)
    triggers = tuple(
        _trigger(f"{base}_{event.lower()}", event, node, table, function_name, each_statement=each_statement)
        for event in node.events
    )
    return NodeSql(table, node, jobs.name, function, f"\n{body}\n", triggers, each_statement, jobs.function_owner)


def _unsupported_parameter(node: DataJobTrigger, jobs: JobsSchema) -> str | None:
    if node.expires_in is not None and not jobs.accepts_expiry:
        return "expires_in"
    if jobs.accepts_unique:
        return None
    if node.max_delay is not None:
        return "max_delay"
    return "unique" if node.is_unique else None


def base_name(task: str, table: Table, position: int) -> str:
    """Return a stable name of at most 43 bytes for a task on a table."""
    slug = re.sub(r"[^a-z0-9]+", "_", task.lower()).strip("_")[:_SLUG_CHARACTERS].strip("_")
    key = "\0".join((table.schema, table.name, task, str(position)))
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    return "_".join(part for part in ("jobfn", slug, digest) if part)


def _function(name: str, base: str, body: str, node: DataJobTrigger, *, pairs_rows: bool) -> ObjectSql:
    lines = [
        f"create or replace function {name}() returns trigger",
        f"{INDENT}language plpgsql",
        f"{INDENT}security definer",
        f"{INDENT}set search_path = pg_catalog, pg_temp",
    ]
    if pairs_rows:
        # PostgreSQL caches the plan: a nested loop planned for one row would be used for a million.
        lines.append(f"{INDENT}set enable_nestloop = off")
    create = "\n".join([*lines, f"as {quote_body(body)};", f"revoke all on function {name}() from public;"])
    tag = OwnershipTag(node.label, fingerprint(create), parameters=node.parameters())
    return ObjectSql(
        base,
        create,
        f"drop function {name}();",
        f"comment on function {name}() is {quote_literal(tag.to_comment())};",
        tag,
    )


def _trigger(
    name: str, event: Event, node: DataJobTrigger, table: Table, function: str, *, each_statement: bool
) -> ObjectSql:
    quoted = quote_identifier(name)
    lines = [f"create trigger {quoted}", f"{INDENT}after {event.lower()} on {table.sql}"]
    if each_statement:
        lines += [f"{INDENT}referencing {_transition_tables(node, event)}", f"{INDENT}for each statement"]
    else:
        lines.append(f"{INDENT}for each row")
        condition = firing_condition(node, table, event, TRIGGER_ROWS)
        lines += [f"{INDENT}when ({condition})"] if condition is not None else []
    create = "\n".join([*lines, f"{INDENT}execute function {function}();"])
    tag = OwnershipTag(node.label, fingerprint(create), event=event)
    return ObjectSql(
        name,
        create,
        f"drop trigger {quoted} on {table.sql};",
        f"comment on trigger {quoted} on {table.sql} is {quote_literal(tag.to_comment())};",
        tag,
    )


def _transition_tables(node: DataJobTrigger, event: Event) -> str:
    new, old = f"new table as {NEW_ROWS}", f"old table as {OLD_ROWS}"
    if needs_both_rows(node, event):
        return f"{new} {old}"
    return old if event == "DELETE" else new


def _if_exists(drop: str) -> str:
    return drop.replace("drop trigger ", "drop trigger if exists ", 1)
