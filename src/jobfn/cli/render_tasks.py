"""Settings of tasks as text and as JSON."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from jobfn.limits import Rate
from jobfn.operations.task_settings import Change, TaskChange

_SIGNS = {Change.ADDED: "+", Change.CHANGED: "~", Change.REMOVED: "-", Change.KEPT: "=", Change.UNCHANGED: "="}
_COUNTED = ((Change.ADDED, "to add"), (Change.CHANGED, "to change"), (Change.REMOVED, "to remove"))


def values_as_text(values: Mapping[str, Any]) -> str:
    """Return settings as ``queue=syncs priority=5``."""
    shown = dict(values)
    if "rate_count" in shown:
        shown["rate"] = Rate(shown.pop("rate_count"), shown.pop("rate_interval"))
    return " ".join(f"{name}={_as_text(value)}" for name, value in shown.items())


def values_as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON values: intervals in seconds."""
    return {name: value.total_seconds() if isinstance(value, timedelta) else value for name, value in values.items()}


def plan_as_text(changes: Sequence[TaskChange]) -> str:
    """Return a plan with a line for each change, and the counts."""
    lines = []
    for change in changes:
        if change.change is Change.UNCHANGED and not change.overrides and not change.has_own_limit:
            continue
        lines.append(f"  {_SIGNS[change.change]} {change.change.value:9} {change.task}  {_difference(change)}".rstrip())
        if change.overrides:
            lines.append(f"      an operator has set {values_as_text(change.overrides)}, which comes first")
        if change.has_own_limit:
            lines.append("      an operator has set the limit, which stays as it is")
    counts = [
        f"{count} {what}" for kind, what in _COUNTED if (count := sum(change.change is kind for change in changes))
    ]
    return "\n".join([*lines, ", ".join(counts) or "no changes"])


def plan_as_json(changes: Sequence[TaskChange]) -> list[dict[str, Any]]:
    """Return a plan as JSON values."""
    return [
        {
            "task": change.task,
            "change": change.change.value,
            "before": values_as_json(change.before),
            "after": values_as_json(change.after),
            "overrides": values_as_json(change.overrides),
            "operator_limit": change.has_own_limit,
        }
        for change in changes
    ]


def _difference(change: TaskChange) -> str:
    if change.change is Change.KEPT:
        return "(its task is in none of these files; --prune removes it)"
    if change.change is Change.REMOVED:
        return values_as_text(change.before)
    if change.change is not Change.CHANGED:
        return values_as_text(change.after)
    names = [name for name in {**change.before, **change.after} if change.before.get(name) != change.after.get(name)]
    return ", ".join(
        f"{name} {_as_text(change.before.get(name))} -> {_as_text(change.after.get(name))}" for name in names
    )


def _as_text(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return "[" + ",".join(map(str, value)) + "]"
    return f"{value.total_seconds():g}s" if isinstance(value, timedelta) else str(value)
