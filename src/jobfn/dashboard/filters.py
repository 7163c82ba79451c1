"""The filter of the job list: parsed from a query string, converted to ``JobFilter``, and written into links."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from jobfn.operations import JobFilter, JobOrder, JobState

#: Ages that can be selected, in seconds.
AGES: Final = {"15m": 900.0, "1h": 3600.0, "1d": 86_400.0, "7d": 604_800.0}
AGE_LABELS: Final = {"15m": "15 minutes", "1h": "an hour", "1d": "a day", "7d": "a week"}
FIELDS: Final = (
    "state",
    "task",
    "queue",
    "q",
    "error",
    "worker",
    "tenant",
    "since",
    "before",
    "failed_before",
    "payload",
    "group",
    "sort",
)


@dataclass(frozen=True, slots=True)
class ListFilter:
    """The filter of the job list."""

    values: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, query: str | Mapping[str, str]) -> "ListFilter":
        """Parse a query string; ignore unknown fields."""
        parameters = dict(parse_qsl(query)) if isinstance(query, str) else query
        values = {name: parameters[name].strip() for name in FIELDS if parameters.get(name, "").strip()}
        problems = {}
        if values.get("state", "ready") not in set(JobState):
            problems["state"] = f"choose one of {', '.join(JobState)}"
        if values.get("sort", "newest") not in set(JobOrder):
            problems["sort"] = f"choose one of {', '.join(JobOrder)}"
        for name in ("since", "before", "failed_before"):
            if values.get(name, "1h") not in AGES:
                problems[name] = f"choose one of {', '.join(AGES)}"
        if not is_uuid(values.get("tenant")):
            problems["tenant"] = "a tenant must be a UUID"
        if not all(values.get("payload", "field=value").partition("=")[:2]):
            problems["payload"] = "write FIELD=VALUE"
        if re.fullmatch("[0-9a-f]{12}", values.get("group", "0" * 12)) is None:
            problems["group"] = "choose a group of the page Errors"
        return cls(values, problems)

    def to_job_filter(self) -> JobFilter:
        """Convert to the filter of the operations, without invalid fields."""
        valid = {name: value for name, value in self.values.items() if name not in self.problems}
        conditions: dict[str, Any] = {
            "task": valid.get("task"),
            "queue": valid.get("queue"),
            "state": JobState(valid["state"]) if "state" in valid else None,
            "error": valid.get("error"),
            "search": valid.get("q"),
            "tenant": valid.get("tenant"),
            "worker": valid.get("worker"),
            "newer_than_seconds": AGES.get(valid.get("since", "")),
            "older_than_seconds": AGES.get(valid.get("before", "")),
            "failed_before_seconds": AGES.get(valid.get("failed_before", "")),
            "error_group": valid.get("group"),
            "payload": tuple(valid["payload"].split("=", 1)) if "payload" in valid else None,
        }
        return JobFilter(**conditions)

    @property
    def query(self) -> str:
        """The filter as a query string."""
        return urlencode(self.values)

    @property
    def is_empty(self) -> bool:
        """Whether the filter matches every job."""
        return not self.values.keys() - {"sort"}

    @property
    def order(self) -> JobOrder:
        """The order of the list. Completed jobs, which the history has, are always listed newest first."""
        is_updated = self.get("sort") == JobOrder.UPDATED and self.get("state") != JobState.COMPLETED
        return JobOrder.UPDATED if is_updated else JobOrder.NEWEST

    def get(self, name: str) -> str:
        """Return the value of a field; empty if it is not set."""
        return self.values.get(name, "")

    def replace(self, **changes: str | None) -> str:
        """Return the link to the list with some fields replaced; None removes a field."""
        values = {name: value for name, value in {**self.values, **changes}.items() if value}
        return f"/jobs?{urlencode(values)}" if values else "/jobs"


def is_uuid(text: str | None) -> bool:
    """Whether the text is a UUID or None."""
    try:
        return text is None or UUID(text) is not None
    except ValueError:
        return False
