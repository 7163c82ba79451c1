"""Steps of durable functions in tests: as a test sees them, and in memory for a delivery without a database."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobfn.wire.steps import StepKind, StepPage, StepRecord, StepState, decode_request


@dataclass(frozen=True)
class RecordedStep:
    """A step that a delivery recorded.

    Attributes:
        name: Its name: ``charge``, ``wait:approved``, ``call:print_label#2``.
        kind: ``step``, ``sleep``, ``wait``, ``call`` or ``then``.
        state: ``completed``, ``failed``, or ``waiting``, when it was recorded.
        result: The result of a step; the payload of a signal that came before its wait.
        error: Why a step failed.
    """

    name: str
    kind: StepKind
    state: StepState
    result: Any = None
    error: str | None = None

    @classmethod
    def from_record(cls, record: StepRecord) -> "RecordedStep":
        """Return what a test sees of a record."""
        result = None if record.result is None or record.state != "completed" else json.loads(record.result)
        return cls(record.name, record.kind, record.state, result, record.error)


class MemorySteps:
    """The steps of one delivery: sleeps of no time end at once, other waits do not."""

    def __init__(self) -> None:
        self._records: list[StepRecord] = []

    @property
    def recorded(self) -> tuple[RecordedStep, ...]:
        """The steps, in order."""
        return tuple(map(RecordedStep.from_record, self._records))

    def names(self, groups: Sequence[int]) -> tuple[str, ...]:
        """Return the names of the waiting steps of these groups."""
        return tuple(record.name for record in self._records if record.state == "waiting" and record.group in groups)

    def respond(self, body: bytes) -> bytes:
        """Return the response of a callback server to a request."""
        request = decode_request(body)
        if isinstance(request, int):
            return StepPage([]).to_json()
        records = [_stored(record) for record in request]
        self._records += records
        return StepPage(records).to_json()


def _stored(record: StepRecord) -> StepRecord:
    if record.kind == "sleep" and (record.spec or {}).get("seconds") == 0:
        return record._replace(state="completed")
    return record._replace(group=record.group or record.position)
