"""Records of a durable function: its steps, unread signals and child jobs, and what it waits for.

It is deleted with the job's row, so only jobs that have not completed have it.
"""

from dataclasses import dataclass
from datetime import datetime

#: Maximum number of steps, the latest ones.
MAX_STEPS = 500
#: Maximum number of signals.
MAX_SIGNALS = 100
#: Maximum number of children, with those of children.
MAX_CHILDREN = 200
#: Maximum number of things in the description of what a job waits for.
MAX_WAITS = 10
#: Results and payloads with more characters are not loaded.
MAX_VALUE_CHARACTERS = 2000


@dataclass(frozen=True, slots=True)
class Step:
    """A recorded step.

    Attributes:
        kind: ``step``, ``sleep``, ``wait``, ``call`` or ``then``.
        state: ``waiting``, ``completed``, ``failed`` or ``timed_out``.
        attempt: The attempt that recorded it.
        ended_at: When it ended; None if it waits.
        wake_at: Of a sleep: its end. Of a wait: its deadline, if any.
        event: Of a wait: the name of the signal.
        child_id: Of a call: the child job.
        result: The result, JSON text; of a ``then``, the job to add. None if it has none or is large.
        is_large: Whether the result has more than ``MAX_VALUE_CHARACTERS``.
    """

    position: int
    name: str
    kind: str
    state: str
    attempt: int
    started_at: datetime
    ended_at: datetime | None = None
    wake_at: datetime | None = None
    event: str | None = None
    child_id: int | None = None
    result: str | None = None
    is_large: bool = False
    error: str | None = None

    @property
    def duration_seconds(self) -> float | None:
        """How long it ran or waited; None if it waits."""
        return None if self.ended_at is None else max((self.ended_at - self.started_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class Signal:
    """A signal that the job has not read: as ``Step``, ``payload`` is None if it is large."""

    event: str
    sent_at: datetime
    payload: str | None = None
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class Child:
    """A child job.

    Attributes:
        id: The job.
        name: The name of the call.
        state: The state of its job, or how it ended.
        depth: 1 for a child, 2 for the child of a child. Children follow their parents.
        task: None if its row was deleted.
    """

    id: int
    name: str
    state: str
    depth: int
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Wait:
    """Something that a job waits for.

    Attributes:
        until: The end of a sleep, or the deadline of a wait for a signal; None if there is none.
        waiting: Of calls: the number of children that have not ended.
        total: Of calls: the number of children.
    """

    kind: str
    event: str | None = None
    until: datetime | None = None
    waiting: int = 1
    total: int = 1

    @property
    def text(self) -> str:
        """Description without the time: ``waits for the signal 'approved'``."""
        if self.kind == "sleep":
            return "sleeps"
        if self.kind == "wait":
            return f"waits for the signal {self.event!r}"
        return f"waits for {self.waiting:,} of {self.total:,} {'child' if self.total == 1 else 'children'}"


@dataclass(frozen=True, slots=True)
class DurableRun:
    """The records of a durable function.

    Attributes:
        waits: What a parked job waits for: it wakes when one of them ends. Empty if it is not parked.
        steps: The latest steps, at most ``MAX_STEPS``, in the order of recording.
        step_count: Number of all steps.
        signals: Signals that it has not read, at most ``MAX_SIGNALS``, in the order of arrival.
        signal_count: Number of all of these.
        children: Its child jobs and theirs, at most ``MAX_CHILDREN``, each before its own.
        child_count: Number of its direct children.
    """

    waits: tuple[Wait, ...] = ()
    steps: tuple[Step, ...] = ()
    step_count: int = 0
    signals: tuple[Signal, ...] = ()
    signal_count: int = 0
    children: tuple[Child, ...] = ()
    child_count: int = 0
