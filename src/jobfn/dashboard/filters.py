"""The filter of the job list: from a query string to ``JobFilter``, and back into links and hidden fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from jobfn.operations import JobFilter, JobState

#: The ages that can be chosen, and their seconds.
AGES = {"15m": 900.0, "1h": 3600.0, "1d": 86_400.0, "7d": 604_800.0}
AGE_NAMES = {"15m": "15 minutes", "1h": "an hour", "1d": "a day", "7d": "a week"}
FIELDS = ("state", "task", "queue", "q", "error", "worker", "tenant", "since", "before")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a person asked the list for.

    Attributes:
        given: The fields that were given, by their names in the query string.
        problems: What cannot be meant, by field.
    """

    given: Mapping[str, str] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, query: str | Mapping[str, str]) -> "Filter":
        """The filter in a query string; fields that are none of its own are left alone."""
        values = dict(parse_qsl(query)) if isinstance(query, str) else query
        given = {name: values[name].strip() for name in FIELDS if values.get(name, "").strip()}
        problems = {}
        if given.get("state", "ready") not in set(JobState):
            problems["state"] = f"choose one of {', '.join(JobState)}"
        for name in ("since", "before"):
            if given.get(name, "1h") not in AGES:
                problems[name] = f"choose one of {', '.join(AGES)}"
        if not is_uuid(given.get("tenant")):
            problems["tenant"] = "a tenant is a UUID"
        return cls(given, problems)

    @property
    def meant(self) -> JobFilter:
        """The filter for the operations; fields that cannot be meant are left out."""
        usable = {name: value for name, value in self.given.items() if name not in self.problems}
        values: dict[str, Any] = {
            "task": usable.get("task"),
            "queue": usable.get("queue"),
            "state": JobState(usable["state"]) if "state" in usable else None,
            "error": usable.get("error"),
            "search": usable.get("q"),
            "tenant": usable.get("tenant"),
            "worker": usable.get("worker"),
            "newer_than_seconds": AGES.get(usable.get("since", "")),
            "older_than_seconds": AGES.get(usable.get("before", "")),
        }
        return JobFilter(**values)

    @property
    def query(self) -> str:
        """As a query string, for links."""
        return urlencode(self.given)

    @property
    def is_empty(self) -> bool:
        """Whether it lets every job through."""
        return not self.given

    def get(self, name: str) -> str:
        """What was given for a field; empty where nothing was."""
        return self.given.get(name, "")

    def having(self, **changes: str | None) -> str:
        """The link to the list with some fields changed; None takes one away."""
        changed = {name: value for name, value in {**self.given, **changes}.items() if value}
        return f"/jobs?{urlencode(changed)}" if changed else "/jobs"


def is_uuid(text: str | None) -> bool:
    """Whether a text is a UUID; none at all counts as one."""
    try:
        return text is None or UUID(text) is not None
    except ValueError:
        return False
