"""From a trigger and its table to SQL: one function, and one trigger for each event.

Pure. On jobfn's own schema and an ordinary table, a trigger fires once a statement and inserts the jobs of all its
rows at once. It means the same as firing for each row, and many rows cost about a fifth (docs/triggers.md).
Elsewhere, on the platform's schema or on a table with partitions or children, it fires for each row and calls
``add_job``. ``plan.py`` compares the result with what is there.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from jobfn.triggers.expressions import INDENT, TRIGGER_ROWS, firing_condition, needs_both_rows
from jobfn.triggers.node import DataJobTrigger, Event
from jobfn.triggers.ownership import Mark, fingerprint
from jobfn.triggers.plpgsql import NEW_ROWS, OLD_ROWS, function_body
from jobfn.triggers.quoting import quote_body, quote_identifier, quote_literal
from jobfn.triggers.table import AddJob, JobsSchema, Table

_SLUG_CHARACTERS: Final = 24


@dataclass(frozen=True, slots=True)
class ObjectSql:
    """A function or a trigger of ours.

    Attributes:
        name: Its name, unquoted.
        create: The statement that makes it.
        drop: The statement that removes it.
        comment: The statement that marks it as ours.
        mark: What the mark says.
    """

    name: str
    create: str
    drop: str
    comment: str
    mark: Mark


@dataclass(frozen=True, slots=True)
class NodeSql:
    """One node of a blueprint as SQL.

    Attributes:
        table: Its table.
        node: The node.
        function_schema: Where its function lives.
        function: What its triggers execute.
        body: The function's body, as PostgreSQL keeps it.
        triggers: One for each event, in the order of ``node.events``.
        each_statement: Whether they fire once a statement; else, for each row.
    """

    table: Table
    node: DataJobTrigger
    function_schema: str
    function: ObjectSql
    body: str
    triggers: tuple[ObjectSql, ...]
    each_statement: bool

    def script(self) -> str:
        """All statements, to read or to run; running them again changes nothing."""
        triggers = [f"{_if_exists(trigger.drop)}\n{trigger.create}\n{trigger.comment}" for trigger in self.triggers]
        return "\n\n".join([f"{self.function.create}\n{self.function.comment}", *triggers])


def generate(node: DataJobTrigger, table: Table, jobs: JobsSchema, *, position: int = 0) -> NodeSql:
    """The SQL of one node. ``resolve`` has looked at it before.

    Args:
        node: The trigger.
        table: Its table.
        jobs: Where its jobs go, and where its function lives.
        position: Which of the table's nodes with this task it is, 0 for the first: its name depends on it.
    """
    base = base_name(node.task_identifier, table, position)
    function_name = f"{jobs.sql}.{quote_identifier(base)}"
    each_statement = jobs.add_job is AddJob.TABLE and table.is_plain_table
    body = function_body(node, table, jobs, each_statement=each_statement)
    pairs_rows = each_statement and any(needs_both_rows(node, event) for event in node.events)
    function = _function(function_name, base, body, node, pairs_rows=pairs_rows)
    triggers = tuple(
        _trigger(f"{base}_{event.lower()}", event, node, table, function_name, each_statement=each_statement)
        for event in node.events
    )
    return NodeSql(table, node, jobs.name, function, f"\n{body}\n", triggers, each_statement)


def base_name(task: str, table: Table, position: int) -> str:
    """A name of at most 43 bytes, always the same for the same task on the same table."""
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
        # The plan is kept from one statement to the next: made for one row, a nested loop would meet a million.
        lines.append(f"{INDENT}set enable_nestloop = off")
    create = "\n".join([*lines, f"as {quote_body(body)};", f"revoke all on function {name}() from public;"])
    mark = Mark(node.task_identifier, fingerprint(create), parameters=node.parameters())
    return ObjectSql(
        base,
        create,
        f"drop function {name}();",
        f"comment on function {name}() is {quote_literal(mark.comment())};",
        mark,
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
        fires = firing_condition(node, table, event, TRIGGER_ROWS)
        lines += [f"{INDENT}when ({fires})"] if fires is not None else []
    create = "\n".join([*lines, f"{INDENT}execute function {function}();"])
    mark = Mark(node.task_identifier, fingerprint(create), event=event)
    return ObjectSql(
        name,
        create,
        f"drop trigger {quoted} on {table.sql};",
        f"comment on trigger {quoted} on {table.sql} is {quote_literal(mark.comment())};",
        mark,
    )


def _transition_tables(node: DataJobTrigger, event: Event) -> str:
    new, old = f"new table as {NEW_ROWS}", f"old table as {OLD_ROWS}"
    if needs_both_rows(node, event):
        return f"{new} {old}"
    return old if event == "DELETE" else new


def _if_exists(drop: str) -> str:
    return drop.replace("drop trigger ", "drop trigger if exists ", 1)
