"""Compute the difference between the generated triggers and the existing ones.

Pure. Next steps: ``plan.py`` executes the statements; the command line prints the changes.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

from jobfn.errors import BlueprintError
from jobfn.sql.quoting import quote_identifier
from jobfn.triggers.introspect import ExistingFunction, ExistingObjects, ExistingTrigger
from jobfn.triggers.node import EVENTS
from jobfn.triggers.sql import NodeSql, ObjectSql
from jobfn.triggers.table import qualified_label


class Action(StrEnum):
    """What ``apply`` does with a trigger of a blueprint."""

    CREATE = "create"
    CHANGE = "change"
    DROP = "drop"
    KEEP = "keep"


class Phase(IntEnum):
    """Execution order of statements: a trigger is dropped before its function and created after it."""

    DROP_TRIGGER = 0
    FUNCTION = 1
    FUNCTION_OWNER = 2
    TRIGGER = 3
    DROP_FUNCTION = 4


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and its place in the execution order."""

    phase: Phase
    sql: str


@dataclass(frozen=True, slots=True)
class NodeChange:
    """The change of one trigger of a blueprint: its function and its database triggers.

    Attributes:
        action: Kind of change.
        table: Qualified table name, for messages; None if the table was dropped.
        task: Task that the trigger enqueues, or its signal.
        events: Events of the trigger.
        before: Applied parameters that differ from their defaults; None for a new trigger.
        after: Parameters of the blueprint that differ from their defaults; None for a dropped trigger.
        each_statement: Whether it fires for each statement; None for a dropped trigger.
        statements: Statements to execute; empty if nothing changes.
        changes_owner: Whether an existing function gets another owner, with whose rights it runs.
    """

    action: Action
    table: str | None
    task: str
    events: tuple[str, ...]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    each_statement: bool | None = None
    statements: tuple[Statement, ...] = ()
    changes_owner: bool = False


def diff_triggers(nodes: Sequence[NodeSql], existing: ExistingObjects) -> Iterator[NodeChange]:
    """Yield the changes after which the tables have exactly the triggers of these nodes, besides foreign ones.

    Raises:
        BlueprintError: A function or trigger that jobfn did not create already has a needed name.
    """
    kept_functions: set[int] = set()
    replaced: list[ExistingTrigger] = []
    for node in nodes:
        change, function = _node_change(node, existing)
        if function is not None:
            kept_functions.add(function.oid)
        replaced += [trigger for trigger in _existing_triggers(node, existing) if trigger is not None]
        yield change
    obsolete = [
        trigger
        for trigger in existing.triggers
        if trigger.tag is not None and trigger not in replaced and trigger.function_oid not in kept_functions
    ]
    replaced_counts = Counter(trigger.function_oid for trigger in replaced)
    yield from _drops(obsolete, existing, kept_functions=kept_functions, replaced_counts=replaced_counts)


def drop_changes(existing: ExistingObjects) -> Iterator[NodeChange]:
    """Yield the changes that drop everything jobfn created."""
    yield from _drops([trigger for trigger in existing.triggers if trigger.tag is not None], existing)


def _existing_triggers(node: NodeSql, existing: ExistingObjects) -> list[ExistingTrigger | None]:
    """Return the existing trigger, or None, for each trigger of a node."""
    return [existing.trigger(node.table.schema, node.table.name, trigger.name) for trigger in node.triggers]


def _node_change(node: NodeSql, existing: ExistingObjects) -> tuple[NodeChange, ExistingFunction | None]:
    """Return the change of a node, and its existing function."""
    function = existing.function(node.function_schema, node.function.name)
    if function is not None and function.tag is None:
        label = qualified_label(function.schema, function.name)
        raise BlueprintError(f"function {label} was not created by jobfn, but jobfn needs its name: rename it")
    triggers = _existing_triggers(node, existing)
    statements = _function_statements(node, function, existing)
    for trigger, existing_trigger in zip(node.triggers, triggers, strict=True):
        statements += _trigger_statements(node, trigger, existing_trigger)
    if function is not None:
        statements += _drop_stale_events(node, function, existing)
    # After a change of the jobs schema, existing triggers execute a function in the previous schema.
    executed = {trigger.function_oid for trigger in triggers if trigger is not None}
    gives_away = any(statement.phase is Phase.FUNCTION_OWNER for statement in statements)
    previous = function or next((each for each in existing.functions if each.oid in executed), None)
    return (
        NodeChange(
            action=Action.KEEP if not statements else Action.CREATE if previous is None else Action.CHANGE,
            table=node.table.label,
            task=node.node.label,
            events=node.node.events,
            before=previous.tag.parameters if previous is not None and previous.tag is not None else None,
            after=node.node.parameters(),
            each_statement=node.each_statement,
            statements=tuple(statements),
            changes_owner=gives_away and function is not None,
        ),
        function,
    )


def _function_statements(
    node: NodeSql, function: ExistingFunction | None, existing: ExistingObjects
) -> list[Statement]:
    create = f"{node.function.create}\n{node.function.comment}"
    if function is None:
        gift = [Statement(Phase.FUNCTION_OWNER, node.set_owner)] if node.function_owner is not None else []
        return [Statement(Phase.FUNCTION, create), *gift]
    statements: list[Statement] = []
    if not _is_up_to_date(function, node):
        statements.append(Statement(Phase.FUNCTION, create))
    elif function.tag != node.function.tag:
        statements.append(Statement(Phase.FUNCTION, node.function.comment))  # other parameters, but the same SQL
    if function.owner != node.function_owner and (statements or not function.is_safe):
        statements.append(Statement(Phase.FUNCTION_OWNER, _change_owner(node, function, existing)))
    return statements


def _change_owner(node: NodeSql, function: ExistingFunction, existing: ExistingObjects) -> str:
    """Give an existing function to its owner, without the triggers and grants that the previous owner allowed.

    Raises:
        BlueprintError: Another trigger executes the function, and would get the new owner's rights.
    """
    place = (node.table.schema, node.table.name)
    known = sum(
        each.function_oid == function.oid and each.tag is not None and (each.schema, each.table) == place
        for each in existing.triggers
    )
    label = qualified_label(function.schema, function.name)
    if function.trigger_count > known:
        raise BlueprintError(
            f"function {label} must get another owner, and another trigger executes it, which would get the owner's "
            "rights: drop that trigger first"
        )
    name = f"{quote_identifier(function.schema)}.{quote_identifier(function.name)}"
    grantees = f"revoke all on function {name}() from {', '.join(function.grantees)} cascade;\n"
    return (grantees if function.grantees else "") + node.set_owner


def _drop_stale_events(node: NodeSql, function: ExistingFunction, existing: ExistingObjects) -> Iterator[Statement]:
    """Drop the function's triggers for events that the node no longer has."""
    names = {trigger.name for trigger in node.triggers}
    for trigger in existing.triggers:
        if trigger.function_oid == function.oid and trigger.tag is not None and trigger.name not in names:
            yield Statement(Phase.DROP_TRIGGER, _drop_trigger(trigger))


def _is_up_to_date(function: ExistingFunction, node: NodeSql) -> bool:
    """Compare the fingerprint, and the body in case a user edited the function."""
    return (
        function.tag is not None
        and function.tag.fingerprint == node.function.tag.fingerprint
        and function.body == node.body
    )


def _trigger_statements(node: NodeSql, trigger: ObjectSql, existing: ExistingTrigger | None) -> list[Statement]:
    create = f"{trigger.create}\n{trigger.comment}"
    if existing is None:
        return [Statement(Phase.TRIGGER, create)]
    if existing.tag is None:
        raise BlueprintError(
            f"table {node.table.label}: trigger {trigger.name} was not created by jobfn, but jobfn needs its name: "
            "rename it"
        )
    if existing.tag.fingerprint == trigger.tag.fingerprint:
        return []
    if existing.state is not None:  # keep what a user set with alter table
        create += f"\nalter table {node.table.sql} {existing.state} trigger {quote_identifier(trigger.name)};"
    return [Statement(Phase.DROP_TRIGGER, _drop_trigger(existing)), Statement(Phase.TRIGGER, create)]


def _drops(
    obsolete: Sequence[ExistingTrigger],
    existing: ExistingObjects,
    *,
    kept_functions: Collection[int] = (),
    replaced_counts: Mapping[int, int] = MappingProxyType({}),
) -> Iterator[NodeChange]:
    """Drop triggers, and functions that no trigger executes afterwards."""
    functions = {function.oid: function for function in existing.functions if function.tag is not None}
    unused = [oid for oid, function in functions.items() if function.trigger_count == replaced_counts.get(oid, 0)]
    for oid in dict.fromkeys([*(trigger.function_oid for trigger in obsolete), *unused]):
        if oid in kept_functions:
            continue
        triggers = [trigger for trigger in obsolete if trigger.function_oid == oid]
        statements = [Statement(Phase.DROP_TRIGGER, _drop_trigger(trigger)) for trigger in triggers]
        function = functions.get(oid)
        if function is not None and function.trigger_count == len(triggers) + replaced_counts.get(oid, 0):
            name = f"{quote_identifier(function.schema)}.{quote_identifier(function.name)}"
            statements.append(Statement(Phase.DROP_FUNCTION, f"drop function {name}();"))
        tags = [trigger.tag for trigger in triggers if trigger.tag is not None]
        tags += [function.tag] if function is not None and function.tag is not None else []
        yield NodeChange(
            action=Action.DROP,
            table=qualified_label(triggers[0].schema, triggers[0].table) if triggers else None,
            task=tags[0].task,
            events=tuple(event for event in EVENTS if event in {tag.event for tag in tags}),
            before=tags[-1].parameters,
            statements=tuple(statements),
        )


def _drop_trigger(trigger: ExistingTrigger) -> str:
    table = f"{quote_identifier(trigger.schema)}.{quote_identifier(trigger.table)}"
    return f"drop trigger {quote_identifier(trigger.name)} on {table};"
