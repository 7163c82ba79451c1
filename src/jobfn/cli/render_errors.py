"""Format groups of errors as a table."""

import shlex
from datetime import datetime

from jobfn.cli.render_times import ago, columns
from jobfn.operations import ErrorGroups


def group_lines(found: ErrorGroups, now: datetime) -> list[str]:
    """Format the groups, with the commands for the largest one."""
    if not found.groups:
        return ["no errors"]
    rows = [("GROUP", "FAILED", "RETRYING", "FIRST", "LAST", "TASK", "ERROR")]
    rows += [
        (
            group.id,
            f"{group.failed:,}",
            f"{group.retrying:,}",
            ago(group.first_at, now),
            ago(group.last_at, now),
            group.task,
            group.error,
        )
        for group in found.groups
    ]
    lines = columns(rows)
    others = found.jobs - sum(group.count for group in found.groups)
    if others:
        lines.append(f"{others:,} jobs are in further groups: see --limit")
    if found.is_partial:
        lines.append(f"of the newest {found.jobs:,} jobs with an error")
    first = found.groups[0]
    verb = "retry" if first.failed else "list"
    lines.append(f"{verb} a group: jobfn jobs {verb} --task {shlex.quote(first.task)} --error-group {first.id}")
    return lines
