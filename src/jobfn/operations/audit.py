"""The audit list: who did what, when. The database writes its entries (``schema/0049_audit.sql``)."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from jobfn.errors import ConfigurationError
from jobfn.operations.statements import Database

_NO_AUDIT = "has no audit list: use jobfn's schema (`jobfn db migrate`)"
MAX_LISTED: Final = 1000
#: Everything that is recorded.
ACTIONS: Final = (
    *("retry", "run_now", "run_again", "wake", "cancel", "remove", "fail", "reschedule", "set_expiry"),
    *("retry_from_step", "signal", "unlock_workers"),
    *("add_schedule", "change_schedule", "remove_schedule", "run_schedule", "pause_schedule", "resume_schedule"),
    *("pause", "resume", "set_limit", "remove_limit", "pause_limit_key", "resume_limit_key"),
    *("set_tenant_weight", "set_task", "set_audit_retention"),
)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An action of a person or a program.

    Attributes:
        at: When it began.
        actor: Who acted, as the client says.
        role: The role that logged in to PostgreSQL.
        source: ``cli``, ``dashboard`` or ``mcp``, as the client says; else ``sql``.
        target: What it was about: ``job 12``, ``jobs``, ``task send_email``.
        job_count: Number of jobs that it changed.
        details: Reasons, filters and changed values.
    """

    id: int
    at: datetime
    actor: str
    role: str
    source: str
    action: str
    target: str
    job_count: int | None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def who(self) -> str:
        """The actor, with the role if its name is another one."""
        return self.actor if self.actor == self.role else f"{self.actor} ({self.role})"

    @property
    def what(self) -> str:
        """The target with the number of jobs."""
        if self.target != "jobs":
            return self.target
        return f"{self.job_count:,} job{'' if self.job_count == 1 else 's'}"

    @property
    def text(self) -> str:
        """The details in one line."""
        jobs = self.details.get("jobs", ())
        more = (self.job_count or 0) - len(jobs)
        parts = [f"{name} {_value_text(value)}" for name, value in self.details.items() if name != "jobs"]
        if jobs:
            ids = ", ".join(map(str, jobs))
            parts.append(f"jobs {ids}" + (f" and {more:,} more" if more > 0 else ""))
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class AuditPage:
    """A page of entries, newest first. ``next`` is the ``before`` of the next page; None on the last one."""

    entries: tuple[AuditEntry, ...]
    next: int | None = None


async def list_entries(
    database: Database,
    *,
    since: datetime | None,
    actor: str | None,
    action: str | None,
    limit: int,
    before: int | None,
) -> AuditPage:
    """See ``Operations.audit``."""
    database.require_native(_NO_AUDIT)
    if action is not None and action not in ACTIONS:
        raise ConfigurationError(f"{action!r} is not an action of the audit list: choose one of {', '.join(ACTIONS)}")
    if not 1 <= limit <= MAX_LISTED:
        raise ConfigurationError(f"the limit is {limit}: give 1 to {MAX_LISTED:,}")
    rows = await database.fetch("audit_log", since, actor, action, before, limit + 1)
    entries = tuple(
        AuditEntry(**{**row, "details": json.loads(row["details"]) if row["details"] else {}}) for row in rows[:limit]
    )
    return AuditPage(entries, entries[-1].id if len(rows) > limit else None)


def _value_text(value: Any) -> str:
    """Format a value, or the values before and after a change."""
    if isinstance(value, list) and len(value) == 2:
        before, after = value
        if before is None:
            return _value_text(after)
        return f"{_value_text(before)} → {'none' if after is None else _value_text(after)}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
