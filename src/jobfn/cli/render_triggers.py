"""Format a plan of triggers: aligned text, coloured in a terminal, or JSON."""

import json
import sys
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from jobfn.triggers.diff import Action, NodeChange
from jobfn.triggers.plan import Plan
from jobfn.triggers.table import printable

_SIGNS: Final = {Action.CREATE: "+", Action.CHANGE: "~", Action.DROP: "-", Action.KEEP: "="}
_COLOURS: Final = {Action.CREATE: "green", Action.CHANGE: "yellow", Action.DROP: "red", Action.KEEP: "dim"}
_APPLIED: Final = {
    Action.CREATE: "created",
    Action.CHANGE: "changed",
    Action.DROP: "dropped",
    Action.KEEP: "unchanged",
}
_PLANNED: Final = {
    Action.CREATE: "to create",
    Action.CHANGE: "to change",
    Action.DROP: "to drop",
    Action.KEEP: "unchanged",
}


def print_plan(plan: Plan, *, applied: bool) -> None:
    """Print a plan to standard output."""
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    task_width = max((len(printable(change.task)) for change in plan.changes), default=0)
    for table, changes in groupby(plan.changes, key=lambda change: change.table):
        console.print(Text(table or "(functions without a table)"))
        for change in changes:
            console.print(_headline(change, task_width))
            for line in _parameter_lines(change):
                console.print(line)
    labels = _APPLIED if applied else _PLANNED
    counts = {action: sum(change.action is action for change in plan.changes) for action in Action}
    summary = ", ".join(f"{count} {labels[action]}" for action, count in counts.items() if count)
    console.print(Text(summary or "no triggers, and none to drop"))


def as_json(plan: Plan) -> dict[str, Any]:
    """Convert a plan to JSON types."""
    return {
        "changes": [
            {
                "action": change.action.value,
                "table": change.table,
                "task": change.task,
                "events": list(change.events),
                "each_statement": change.each_statement,
                "before": change.before,
                "after": change.after,
                "statements": [statement.sql for statement in change.statements],
            }
            for change in plan.changes
        ],
        "notices": list(plan.notices),
    }


def _headline(change: NodeChange, task_width: int) -> Text:
    text = f"  {_SIGNS[change.action]} {change.action.value:<6}  {printable(change.task):<{task_width}}"
    text += f"  {', '.join(change.events)}"
    return Text(text.rstrip(), style=_COLOURS[change.action])


def _parameter_lines(change: NodeChange) -> Iterator[Text]:
    """Format the parameters that differ, or why there is a change without any."""
    if change.action is not Action.CHANGE:
        return
    before, after = change.before or {}, change.after or {}
    differing = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    width = max((len(name) for name in differing), default=0)
    for name in differing:
        for sign, values, colour in (("-", before, "red"), ("+", after, "green")):
            if name in values:
                value = printable(json.dumps(values[name], ensure_ascii=False))
                yield Text(f"      {sign} {name:<{width}}  {value}", style=colour)
    if change.changes_owner:
        yield Text("      the function gets another owner: it must not run code of the table's owner with other rights")
    elif not differing:
        yield Text("      same parameters; the SQL differs: the table or jobfn changed, or it was edited", style="dim")
