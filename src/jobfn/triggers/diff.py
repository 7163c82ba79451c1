"""The difference between the triggers that are wanted and those that are there, as values.

Pure. ``plan.py`` gives both sides and runs the statements; the command line shows the changes.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

from jobfn.errors import BlueprintError
from jobfn.triggers.introspect import Existing, ExistingFunction, ExistingTrigger
from jobfn.triggers.node import EVENTS
from jobfn.triggers.quoting import quote_identifier
from jobfn.triggers.sql import NodeSql, ObjectSql
from jobfn.triggers.table import label_of


class Action(StrEnum):
    """What happens to a trigger of a blueprint."""

    CREATE = "create"
    CHANGE = "change"
    DROP = "drop"
    KEEP = "keep"


class Step(IntEnum):
    """The order of statements: a trigger goes before its function and comes after it."""

    DROP_TRIGGER = 0
    FUNCTION = 1
    TRIGGER = 2
    DROP_FUNCTION = 3


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement and its place in the order."""

    step: Step
    sql: str


@dataclass(frozen=True, slots=True)
class NodeChange:
    """What happens to one trigger of a blueprint: its function, and its triggers in the database.

    Attributes:
        action: What.
        table: The table's name as a message has it; None where the table is gone.
        task: The task it enqueues.
        events: Of the blueprint, or of what is dropped.
        before: The parameters it was made from, those that differ from their defaults; None where it is new.
        after: The parameters as they are to be; None where it goes.
        each_statement: Whether it fires once a statement; None where it goes.
        statements: What to run; empty where everything is as it should be.
    """

    action: Action
    table: str | None
    task: str
    events: tuple[str, ...]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    each_statement: bool | None = None
    statements: tuple[Statement, ...] = field(default=())


def compare(wanted: Sequence[NodeSql], existing: Existing) -> Iterator[NodeChange]:
    """What to do so that the database has the wanted triggers on the tables in question, and no other of ours.

    Raises:
        BlueprintError: A function or a trigger that is not ours has a name that we need.
    """
    keep: set[int] = set()
    replaced: list[ExistingTrigger] = []
    for node in wanted:
        change, function = _node_change(node, existing)
        if function is not None:
            keep.add(function.oid)
        replaced += [
            there
            for trigger in node.triggers
            for there in [existing.trigger(node.table.schema, node.table.name, trigger.name)]
            if there is not None
        ]
        yield change
    gone = [
        trigger
        for trigger in existing.triggers
        if trigger.mark is not None and trigger not in replaced and trigger.function_oid not in keep
    ]
    yield from _drops(gone, existing, keep=keep, freed=Counter(trigger.function_oid for trigger in replaced))


def dropping(existing: Existing) -> Iterator[NodeChange]:
    """What removes everything of ours."""
    yield from _drops([trigger for trigger in existing.triggers if trigger.mark is not None], existing)


def _node_change(node: NodeSql, existing: Existing) -> tuple[NodeChange, ExistingFunction | None]:
    """The change of one node, and its function as it is now."""
    function = existing.function(node.function_schema, node.function.name)
    if function is not None and function.mark is None:
        label = label_of(function.schema, function.name)
        raise BlueprintError(f"function {label} is not jobfn's, and its name is needed: rename it")
    there = [existing.trigger(node.table.schema, node.table.name, trigger.name) for trigger in node.triggers]
    statements = _function_statements(node, function)
    for trigger, before in zip(node.triggers, there, strict=True):
        statements += _trigger_statements(node, trigger, before)
    if function is not None:
        statements += _stale_events(node, function, existing)
    # With another jobs schema, the triggers are there and execute a function of the same name elsewhere.
    executed = {before.function_oid for before in there if before is not None}
    previous = function or next((found for found in existing.functions if found.oid in executed), None)
    return (
        NodeChange(
            action=Action.KEEP if not statements else Action.CREATE if previous is None else Action.CHANGE,
            table=node.table.label,
            task=node.node.task_identifier,
            events=node.node.events,
            before=previous.mark.parameters if previous is not None and previous.mark is not None else None,
            after=node.node.parameters(),
            each_statement=node.each_statement,
            statements=tuple(statements),
        ),
        function,
    )


def _function_statements(node: NodeSql, function: ExistingFunction | None) -> list[Statement]:
    if function is None or not _is_up_to_date(function, node):
        return [Statement(Step.FUNCTION, f"{node.function.create}\n{node.function.comment}")]
    if function.mark != node.function.mark:
        return [Statement(Step.FUNCTION, node.function.comment)]  # other parameters, to the same effect
    return []


def _stale_events(node: NodeSql, function: ExistingFunction, existing: Existing) -> Iterator[Statement]:
    """The function's triggers for events that the node does not have any more."""
    wanted = {trigger.name for trigger in node.triggers}
    for trigger in existing.triggers:
        if trigger.function_oid == function.oid and trigger.mark is not None and trigger.name not in wanted:
            yield Statement(Step.DROP_TRIGGER, _drop_trigger(trigger))


def _is_up_to_date(function: ExistingFunction, node: NodeSql) -> bool:
    """By its mark; and by its body, in case somebody changed that and left the mark."""
    return (
        function.mark is not None
        and function.mark.fingerprint == node.function.mark.fingerprint
        and function.body == node.body
    )


def _trigger_statements(node: NodeSql, trigger: ObjectSql, there: ExistingTrigger | None) -> list[Statement]:
    if there is None:
        return [Statement(Step.TRIGGER, f"{trigger.create}\n{trigger.comment}")]
    if there.mark is None:
        raise BlueprintError(
            f"table {node.table.label}: trigger {trigger.name} is not jobfn's, and its name is needed: rename it"
        )
    if there.mark.fingerprint == trigger.mark.fingerprint:
        return []
    create = f"{trigger.create}\n{trigger.comment}"
    if there.state is not None:  # switched off, or over, by somebody: that stays
        create += f"\nalter table {node.table.sql} {there.state} trigger {quote_identifier(trigger.name)};"
    return [Statement(Step.DROP_TRIGGER, _drop_trigger(there)), Statement(Step.TRIGGER, create)]


def _drops(
    gone: Sequence[ExistingTrigger],
    existing: Existing,
    *,
    keep: Collection[int] = (),
    freed: Mapping[int, int] = MappingProxyType({}),
) -> Iterator[NodeChange]:
    """Triggers to drop, each with its function where no other trigger executes that; and functions left over.

    Args:
        gone: The triggers.
        existing: All that is there.
        keep: Functions that stay.
        freed: How many triggers of each function go on with another.
    """
    functions = {function.oid: function for function in existing.functions if function.mark is not None}
    left_over = [oid for oid, function in functions.items() if function.users == freed.get(oid, 0)]
    for oid in dict.fromkeys([*(trigger.function_oid for trigger in gone), *left_over]):
        if oid in keep:
            continue
        triggers = [trigger for trigger in gone if trigger.function_oid == oid]
        statements = [Statement(Step.DROP_TRIGGER, _drop_trigger(trigger)) for trigger in triggers]
        function = functions.get(oid)
        if function is not None and function.users == len(triggers) + freed.get(oid, 0):
            name = f"{quote_identifier(function.schema)}.{quote_identifier(function.name)}"
            statements.append(Statement(Step.DROP_FUNCTION, f"drop function {name}();"))
        marks = [trigger.mark for trigger in triggers if trigger.mark is not None]
        marks += [function.mark] if function is not None and function.mark is not None else []
        yield NodeChange(
            action=Action.DROP,
            table=label_of(triggers[0].schema, triggers[0].table) if triggers else None,
            task=marks[0].task,
            events=tuple(event for event in EVENTS if event in {mark.event for mark in marks}),
            before=marks[-1].parameters,
            statements=tuple(statements),
        )


def _drop_trigger(trigger: ExistingTrigger) -> str:
    table = f"{quote_identifier(trigger.schema)}.{quote_identifier(trigger.table)}"
    return f"drop trigger {quote_identifier(trigger.name)} on {table};"
