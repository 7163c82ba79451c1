r"""Steps of durable functions: what a function records with its callback server, and reads back. Pure.

An addition of jobfn (contract, section 8). A worker whose schema records steps sends the header ``X-Durable``. The URL
is that of heartbeats with ``steps`` as its last segment, and takes a POST with the headers that reports echo. A request
either records, or loads what earlier deliveries of the job have recorded, in order, from a position on::

    {"records": [{"position": 1, "name": "charge", "kind": "step", "state": "completed", "result": {"id": 7}}]}
    {"load": 0}

The response has the steps as they are recorded, and whether there are more::

    {"records": [{"position": 1, "name": "charge", "kind": "step", "state": "completed", "result": {"id": 7}}],
     "more": false}

A delivery that waits ends with the outcome *parked*: a report with ``{"status": "parked", "waitingFor": [2]}``, or a
response with the header ``X-Job-Outcome: parked`` and that body.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, cast, get_args

import pydantic_core

StepKind = Literal["step", "sleep", "wait", "call", "then"]
StepState = Literal["waiting", "completed", "failed", "timed_out"]

#: Maximum number of steps of a job.
MAX_STEPS: Final = 10_000
#: Maximum size of a step's result, of a child's payload and of a signal, as JSON.
MAX_STEP_BYTES: Final = 1024 * 1024
#: Maximum size of a request or response: one step of the maximum size, or many small ones.
MAX_STEPS_BODY_BYTES: Final = MAX_STEP_BYTES + 256 * 1024
#: A request with further steps is not made larger than this, and a response is not continued beyond it.
PLANNED_STEPS_BODY_BYTES: Final = 256 * 1024
#: Maximum length of the name of a step or of a signal.
MAX_STEP_NAME_CHARACTERS: Final = 200
#: Maximum number of groups that a parked job waits for.
MAX_WAIT_GROUPS: Final = 1000
_KINDS: Final = frozenset(get_args(StepKind))
_STATES: Final = frozenset(get_args(StepState))
_MAX_SECONDS: Final = 100 * 365.25 * 86_400
#: Fields of a record that say what is to be waited for, and what is to be called.
_SPEC_FIELDS: Final = (
    "event",
    "until",
    "seconds",
    "task",
    "payload",
    "queue",
    "priority",
    "maxAttempts",
    "delaySeconds",
)


class StepRecord(NamedTuple):
    """A step to record, or a recorded one.

    Attributes:
        position: Its place in the order of recording, 1 for the first.
        name: Its name, unique in the job.
        kind: ``step``: code that ran; ``sleep``; ``wait``: for a signal; ``call``: of a child job; ``then``: a job that
            is added when this one completes.
        state: ``waiting``, or how it ended.
        group: Position of the first step of its group: a parked job wakes when the whole group has ended.
        result: The result, JSON text. Of a failed step: its error's type, and whether it is permanent.
        error: Why it failed, or why the result of a child is not stored.
        seconds: How long the step ran.
        spec: What a sleep, wait, call or then needs: JSON.
    """

    position: int
    name: str
    kind: StepKind
    state: StepState = "completed"
    group: int | None = None
    result: str | None = None
    error: str | None = None
    seconds: float = 0.0
    spec: Mapping[str, Any] | None = None

    def to_json(self) -> str:
        """Return the step as a member of a request or response."""
        content: dict[str, Any] = {
            "position": self.position,
            "name": self.name,
            "kind": self.kind,
            "state": self.state,
        }
        if self.group is not None:
            content["group"] = self.group
        if self.error is not None:
            content["error"] = self.error
        if self.kind == "step" and self.seconds:
            content["ranSeconds"] = round(self.seconds, 6)
        if self.spec is not None:
            content |= self.spec
        text = json.dumps(content)
        return text if self.result is None else f'{text[:-1]}, "result": {self.result}}}'

    @classmethod
    def from_json(cls, member: object) -> "StepRecord":
        """Return the step of a member.

        Raises:
            ValueError: This is not a step. The message says why.
        """
        if not isinstance(member, dict):
            raise ValueError("a record must be an object")  # noqa: TRY004  - it came over the network
        position, name = member.get("position"), member.get("name")
        kind, state = member.get("kind"), member.get("state", "completed")
        group, error = member.get("group"), member.get("error")
        if type(position) is not int or not 1 <= position <= MAX_STEPS:
            raise ValueError(f"position must be from 1 to {MAX_STEPS}")
        if not isinstance(name, str) or not 1 <= len(name) <= MAX_STEP_NAME_CHARACTERS or "\0" in name:
            raise ValueError(f"name must have 1 to {MAX_STEP_NAME_CHARACTERS} characters")
        if kind not in _KINDS or state not in _STATES:
            raise ValueError(f"kind must be one of {sorted(_KINDS)}, and state one of {sorted(_STATES)}")
        if group is not None and (type(group) is not int or not 1 <= group <= MAX_STEPS):
            raise ValueError(f"group must be from 1 to {MAX_STEPS}")
        if error is not None and not isinstance(error, str):
            raise ValueError("error must be a text")
        result = None
        if member.get("result") is not None:
            result = json.dumps(member["result"], ensure_ascii=False)
            if len(result.encode("utf-8", "replace")) > MAX_STEP_BYTES:
                raise ValueError(f"result must have at most {MAX_STEP_BYTES} bytes")
        return cls(
            position,
            name,
            cast("StepKind", kind),
            cast("StepState", state),
            group,
            result,
            error,
            _seconds(member, "ranSeconds") or 0.0,
            _spec(kind, member),
        )


class StepPage(NamedTuple):
    """Recorded steps, in the order of their positions, and whether there are more."""

    records: Sequence[StepRecord]
    has_more: bool = False

    def to_json(self) -> bytes:
        """Return the body of a response."""
        records = ", ".join(record.to_json() for record in self.records)
        return f'{{"records": [{records}], "more": {"true" if self.has_more else "false"}}}'.encode("utf-8", "replace")

    @classmethod
    def from_json(cls, body: bytes) -> "StepPage":
        """Parse the body of a response.

        Raises:
            ValueError: This is not one.
        """
        return cls.from_content(_content(body))

    @classmethod
    def from_content(cls, content: object) -> "StepPage":
        """Parse the JSON of a response. Raises as ``from_json``."""
        if not isinstance(content, dict):
            raise ValueError("it must be a JSON object")  # noqa: TRY004  - it came over the network
        return cls([StepRecord.from_json(member) for member in _records(content)], content.get("more") is True)


def encode_load(after: int) -> bytes:
    """Return a request for the steps after a position."""
    return b'{"load": %d}' % after


def encode_records(records: Sequence[StepRecord]) -> bytes:
    """Return a request that records steps."""
    return f'{{"records": [{", ".join(record.to_json() for record in records)}]}}'.encode("utf-8", "replace")


def split_records(records: Sequence[StepRecord]) -> list[list[StepRecord]]:
    """Return the records in parts that fit into a request each."""
    parts: list[list[StepRecord]] = []
    size = PLANNED_STEPS_BODY_BYTES
    for record in records:
        length = len(record.result or "") + 200 + len(str(record.spec or ""))
        if size + length > PLANNED_STEPS_BODY_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(record)
        size += length
    return parts


def decode_request(body: bytes) -> int | Sequence[StepRecord]:
    """Return the steps of a request that records; of one that loads, the position.

    Raises:
        ValueError: This is neither. The message says why.
    """
    content = _content(body)
    if "load" in content:
        after = content["load"]
        if type(after) is not int or not 0 <= after <= MAX_STEPS:
            raise ValueError(f"load must be from 0 to {MAX_STEPS}")
        return after
    records = [StepRecord.from_json(member) for member in _records(content)]
    if not records:
        raise ValueError("records must have one at least")
    return records


def waiting_for_body(groups: Sequence[int]) -> bytes:
    """Return the body of a response or report that parks its job."""
    return json.dumps({"status": "parked", "waitingFor": list(groups)}).encode("ascii")


def parse_waiting_for(body: bytes) -> tuple[int, ...]:
    """Return the groups that a parked job waits for.

    Raises:
        ValueError: The body has none.
    """
    groups = _content(body).get("waitingFor")
    if (
        not isinstance(groups, list)
        or not 1 <= len(groups) <= MAX_WAIT_GROUPS
        or not all(type(group) is int and 1 <= group <= MAX_STEPS for group in groups)
    ):
        raise ValueError(f"waitingFor must have 1 to {MAX_WAIT_GROUPS} positions of steps")
    return tuple(groups)


def _content(body: bytes) -> dict[str, Any]:
    try:
        content = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError:
        raise ValueError("the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise ValueError("the body must be a JSON object")  # noqa: TRY004  - it came over the network
    return content


def _records(content: Mapping[str, Any]) -> list[Any]:
    members = content.get("records")
    if not isinstance(members, list):
        raise ValueError("the body must have records or load")  # noqa: TRY004  - as above
    return members


def _spec(kind: object, member: Mapping[str, Any]) -> dict[str, Any] | None:
    if kind == "step":
        return None
    spec = {name: member[name] for name in _SPEC_FIELDS if member.get(name) is not None}
    for name in ("seconds", "delaySeconds"):
        if name in spec:
            spec[name] = _seconds(spec, name)
    texts = [spec[name] for name in ("event", "until", "task", "queue") if name in spec]
    if not all(isinstance(text, str) and text and "\0" not in text for text in texts):
        raise ValueError("event, until, task and queue must be texts")
    if not all(type(spec[name]) is int for name in ("priority", "maxAttempts") if name in spec):
        raise ValueError("priority and maxAttempts must be whole numbers")
    return spec


def _seconds(member: Mapping[str, Any], name: str) -> float | None:
    value = member.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"{name} must be a number of seconds")  # noqa: TRY004  - as above
    return float(max(0.0, min(value, _MAX_SECONDS)))  # Python compares integers of any size with floats
