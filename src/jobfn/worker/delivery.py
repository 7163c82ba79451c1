"""``Deliverer`` delivers jobs to their tasks. The result of a delivery is a value; ``worker.py`` matches on it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jobfn.database.records import Job
from jobfn.wire import StoredResult


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The response completes the job, perhaps with a result to store.

    Attributes:
        kept: The result to store.
        awaits_report: Whether the function's report takes precedence, and is expected.
        output: Of a node of a flow graph: its output, as JSON text.
        waiting_for: The job is not completed but parked, for these groups of steps (``wire/steps.py``).
    """

    kept: StoredResult | None = None
    awaits_report: bool = False
    output: str | None = None
    waiting_for: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The response fails the attempt.

    Attributes:
        error: The response's message; its URL, status and body if it has none.
        permanent: Whether the job must not be retried.
        retry_after_seconds: Delay before the retry; None: the contract's backoff.
        awaits_report: As in ``Succeeded``.
        snooze_max_age_seconds: The attempt does not count unless the job's first snooze is longer ago. None: it counts.
        traceback: The lines of code that failed.
    """

    error: str
    permanent: bool = False
    retry_after_seconds: float | None = None
    awaits_report: bool = False
    snooze_max_age_seconds: float | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The function runs the job in the background (HTTP 202), and will report its outcome.

    Attributes:
        accepts_cancel: Whether the function accepts a message when the job is cancelled (``X-Accept-Cancel``).
    """

    accepts_cancel: bool = False


@dataclass(frozen=True, slots=True)
class Unreachable:
    """There was no response: the connection failed, or the request timed out.

    Attributes:
        error: What failed.
        awaits_report: Whether the function may have got the job, and then reports it.
        permanent: Whether the task allows no further attempt.
    """

    error: str
    awaits_report: bool = False
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Busy:
    """The function, or a proxy before it, accepts no more jobs at present (HTTP 429 or 503, ``Retry-After``)."""

    error: str
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class NotStarted:
    """The function did not start this job of a batch."""


DeliveryResult = Succeeded | Failed | Accepted | Busy | Unreachable | NotStarted


OnResult = Callable[[Job, DeliveryResult], None]


class Deliverer(Protocol):
    """Delivers jobs to their tasks: over HTTP (``Dispatcher``), or in this process (``InProcessDispatcher``)."""

    async def deliver(self, job: Job) -> DeliveryResult:
        """Run a job. Failures are results, not exceptions."""

    def cancel(self, job: Job) -> bool:  # noqa: ARG002  - the default of a protocol
        """Stop the handler of a cancelled job that is being delivered.

        Returns:
            Whether the caller must do it, by cancelling the delivery.
        """
        return True

    async def cancel_accepted(self, job: Job) -> bool:  # noqa: ARG002  - as above
        """Make the function of an accepted job look whether it was cancelled.

        Returns:
            Whether it does. Otherwise it learns it from its next heartbeat.
        """
        return False

    def batch_size(self, task: str, share: int) -> int:  # noqa: ARG002  - the default of a protocol
        """Return how many jobs of a task one call of ``deliver_batch`` may have at present; 1: use ``deliver``.

        Args:
            task: The task.
            share: Number of waiting jobs for each free slot.
        """
        return 1

    async def deliver_batch(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """Run jobs of one task one after the other. Call ``on_result`` once for each as soon as it has a result."""
        for job in jobs:
            on_result(job, await self.deliver(job))
