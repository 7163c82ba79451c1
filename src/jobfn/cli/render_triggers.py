"""How a plan of triggers looks: aligned, coloured in a terminal, plain in a pipe; and the same as JSON."""

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
_DONE: Final = {Action.CREATE: "created", Action.CHANGE: "changed", Action.DROP: "dropped", Action.KEEP: "as before"}
_TO_DO: Final = {
    Action.CREATE: "to create",
    Action.CHANGE: "to change",
    Action.DROP: "to drop",
    Action.KEEP: "as it is",
}


def print_plan(plan: Plan, *, done: bool) -> None:
    """Print a plan to standard output.

    Args:
        plan: What to show.
        done: Whether it was carried out, which the last line says.
    """
    console = Console(file=sys.stdout, highlight=False, soft_wrap=True)
    task_width = max((len(printable(change.task)) for change in plan.changes), default=0)
    for table, changes in groupby(plan.changes, key=lambda change: change.table):
        console.print(Text(table or "(functions that no table uses)"))
        for change in changes:
            console.print(_headline(change, task_width))
            for line in _parameter_lines(change):
                console.print(line)
    words = _DONE if done else _TO_DO
    counts = {action: sum(change.action is action for change in plan.changes) for action in Action}
    said = ", ".join(f"{count} {words[action]}" for action, count in counts.items() if count)
    console.print(Text(said or "no triggers, and none to drop"))


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan as JSON values."""
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
    """What a change changes; where the parameters are the same, why it is one."""
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
    if not differing:
        yield Text(
            "      the parameters are the same; the table, jobfn or somebody's hand changed the rest", style="dim"
        )
