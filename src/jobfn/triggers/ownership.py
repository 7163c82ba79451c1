"""Tag the triggers and functions that jobfn creates, in their comments, and read the tags back.

A tag holds the fingerprint of the SQL that created the object and, for a function, the parameters of its trigger. It
survives dump and restore. jobfn never changes or drops an object without a tag.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, Final

_PREFIX: Final = "Made by jobfn; `jobfn triggers apply` overwrites changes. "
_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class OwnershipTag:
    """The content of an object's comment.

    Attributes:
        task: Task that the trigger enqueues, or its signal.
        fingerprint: Fingerprint of the SQL that created the object.
        event: Event of a trigger; None for a function.
        parameters: For a function, the node's parameters that differ from their defaults.
    """

    task: str
    fingerprint: str
    event: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)

    def to_comment(self) -> str:
        """Return the text of the comment."""
        content: dict[str, Any] = {"v": _VERSION, "task": self.task, "hash": self.fingerprint}
        if self.event is not None:
            content["event"] = self.event
        if self.parameters:
            content["parameters"] = self.parameters
        return _PREFIX + json.dumps(content, ensure_ascii=True)

    @classmethod
    def parse(cls, comment: str | None) -> "OwnershipTag | None":
        """Parse the tag in a comment; None if jobfn did not create the object."""
        if comment is None or not comment.startswith(_PREFIX):
            return None
        try:
            content = json.loads(comment.removeprefix(_PREFIX))
            return cls(
                task=str(content["task"]),
                fingerprint=str(content["hash"]),
                event=content.get("event"),
                parameters=dict(content.get("parameters") or {}),
            )
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None


def fingerprint(sql: str) -> str:
    """Return 16 hexadecimal digits that identify a definition."""
    return hashlib.sha256(sql.encode()).hexdigest()[:16]
