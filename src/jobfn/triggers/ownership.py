"""How jobfn knows its own triggers and functions again: a mark in their comments.

The mark holds the fingerprint of the SQL that made the object and, on a function, the parameters it was made from.
It survives dump and restore, and nothing without one is ever changed or dropped.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

_BEGIN: Final = "Made by jobfn; `jobfn triggers apply` overwrites changes. "
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """What the comment of an object of ours says.

    Attributes:
        task: The task that it enqueues.
        fingerprint: Of the SQL that made it.
        event: Of a trigger: the event.
        parameters: Of a function: the node's parameters that differ from their defaults.
    """

    task: str
    fingerprint: str
    event: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def comment(self) -> str:
        """The comment's text."""
        content: dict[str, Any] = {"v": _VERSION, "task": self.task, "hash": self.fingerprint}
        if self.event is not None:
            content["event"] = self.event
        if self.parameters:
            content["parameters"] = self.parameters
        return _BEGIN + json.dumps(content, ensure_ascii=True)

    @classmethod
    def read(cls, comment: str | None) -> "Mark | None":
        """The mark in a comment; None where the object is not ours."""
        if comment is None or not comment.startswith(_BEGIN):
            return None
        try:
            content = json.loads(comment.removeprefix(_BEGIN))
            return cls(
                task=str(content["task"]),
                fingerprint=str(content["hash"]),
                event=content.get("event"),
                parameters=dict(content.get("parameters") or {}),
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def fingerprint(sql: str) -> str:
    """What tells two definitions apart: 16 hexadecimal digits."""
    return hashlib.sha256(sql.encode()).hexdigest()[:16]
