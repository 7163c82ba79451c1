"""Log of all deliveries of a chaos run and of the faults that affected them.

A repeated delivery must have a cause that is older than the repetition: the handler failed as planned, the connection
was cut, or a process that it depends on was killed before its report was acknowledged.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chaos.faults import POSTGRES

#: Cause of a repetition that ``stall_detector.py`` finds.
STALL = "stall"


@dataclass(slots=True)
class Delivery:
    """One request to a function. Times are seconds of the run.

    Attributes:
        function: Name of the function process. None: not chosen yet.
        failed_at: Time of the first failure response or report.
        acknowledged_at: Time when a report was answered with 200 or 409.
        settled: Whether a report was answered with 200.
        rejected: Whether no function ran it.
    """

    sequence: int
    number: int
    job: int
    attempt: int
    worker: str
    started_at: float
    function: str | None = None
    faults: list[tuple[float, str]] = field(default_factory=list)
    failed_at: float | None = None
    acknowledged_at: float | None = None
    settled: bool = False
    rejected: bool = False

    def causes_before(self, moment: float) -> list[str]:
        """Return the faults until a moment, the most probable cause of a repetition first."""
        return sorted((fault for at, fault in self.faults if at <= moment), key=_cause_rank)


def _cause_rank(cause: str) -> int:
    """Rank causes: a kill, a cut delivery, a cut heartbeat, a stall."""
    if cause.endswith(("killed", "was down")):
        return 0
    return 3 if cause == STALL else 2 if cause.startswith("heartbeat") else 1


class DeliveryLog:
    """See the module."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self._down: set[str] = set()
        self._stalled_until = -1.0
        self._requests: Counter[str] = Counter()
        self.deliveries: list[Delivery] = []
        self._by_job: defaultdict[int, list[Delivery]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.report_statuses: Counter[str] = Counter()
        self.stale_reports: list[str] = []

    def count_request(self, kind: str, number: int) -> int:
        """Count a request for a job. Return how many of this kind there were."""
        self._requests[f"{kind} {number}"] += 1
        return self._requests[f"{kind} {number}"]

    def start_delivery(self, *, number: int, job: int, attempt: int, worker: str) -> Delivery:
        """Add a delivery."""
        delivery = Delivery(len(self.deliveries) + 1, number, job, attempt, worker, self.now())
        for name in self._down & {worker, POSTGRES}:
            delivery.faults.append((delivery.started_at, f"{name} was down"))
        if delivery.started_at < self._stalled_until:
            delivery.faults.append((delivery.started_at, STALL))
        self.deliveries.append(delivery)
        self._by_job[job].append(delivery)
        return delivery

    def add_fault(self, delivery: Delivery, fault: str) -> None:
        """Record that a fault affects a delivery now."""
        delivery.faults.append((self.now(), fault))

    def on_function_disconnected(self, delivery: Delivery) -> None:
        """Record that a function closed the connection. One that was just killed may have accepted the job."""
        if delivery.function in self._down:
            self.add_fault(delivery, f"{delivery.function} was down")

    def on_killed(self, name: str) -> None:
        """Record that a process is killed, which affects every unacknowledged delivery that depends on it."""
        self._down.add(name)
        self.counts[f"kill {name}"] += 1
        for delivery in self.deliveries:
            if delivery.acknowledged_at is None and name in {delivery.worker, delivery.function, POSTGRES}:
                self.add_fault(delivery, f"{name} killed")

    def on_stalled(self, name: str, *, since: float, lease_seconds: float) -> None:
        """Record a stall. Leases were not renewed meanwhile, and jobs claimed before are still being delivered."""
        self.counts[f"stall {name}"] += 1
        self._stalled_until = self.now() + lease_seconds
        for delivery in self.deliveries:
            if delivery.acknowledged_at is None or delivery.acknowledged_at > since:
                delivery.faults.append((since, STALL))

    def on_started(self, name: str) -> None:
        """Record that a process runs again."""
        self._down.discard(name)

    def on_failed(self, delivery: Delivery) -> None:
        """Record that a response or a report says that the handler failed."""
        if delivery.failed_at is None:
            delivery.failed_at = self.now()

    def on_report_answered(self, delivery: Delivery, *, status: int, sent_at: float, repeated: bool) -> None:
        """Record the response to a report."""
        self.report_statuses[f"{status} {'repeated' if repeated else 'first'}"] += 1
        if status not in {200, 409}:
            return
        delivery.acknowledged_at = self.now()
        if status == 200:
            if delivery.settled:
                self.stale_reports.append(
                    f"two reports of delivery {delivery.sequence} (job {delivery.job}) were accepted"
                )
            delivery.settled = True
            for later in self.started_deliveries(delivery.job, after=delivery.sequence):
                # An earlier attempt may arrive later than this one.
                if later.started_at < sent_at and later.attempt >= delivery.attempt:
                    self.stale_reports.append(
                        f"a report of delivery {delivery.sequence} (job {delivery.job}, attempt {delivery.attempt}) "
                        f"was accepted after delivery {later.sequence} (attempt {later.attempt}) had started"
                    )

    def lines(self) -> Iterator[str]:
        """Yield one line per delivery, for debugging."""
        for each in self.deliveries:
            faults = ", ".join(f"{fault} at {at:.3f}" for at, fault in each.faults)
            failed = "" if each.failed_at is None else f" failed at {each.failed_at:.3f}"
            acknowledged = "" if each.acknowledged_at is None else f" acknowledged at {each.acknowledged_at:.3f}"
            yield (
                f"{each.sequence}: number {each.number} job {each.job} attempt {each.attempt} {each.worker} "
                f"{each.function} at {each.started_at:.3f}{' rejected' * each.rejected}{failed}{acknowledged}; {faults}"
            )

    def started_deliveries(self, job: int, *, after: int = 0) -> Iterator[Delivery]:
        """Yield the deliveries of a job that a function ran, in order."""
        return (each for each in self._by_job[job] if each.sequence > after and not each.rejected)

    def unexplained_repetitions(self) -> list[str]:
        """Return the repeated deliveries without a cause."""
        repetitions: list[str] = []
        for job in self._by_job:
            for first, second in itertools.pairwise(self.started_deliveries(job)):
                failed = first.failed_at is not None and first.failed_at <= second.started_at
                if not failed and not first.causes_before(second.started_at):
                    repetitions.append(
                        f"delivery {first.sequence} (job {job}, attempt {first.attempt}, {first.worker}) was repeated "
                        f"as {second.sequence} (attempt {second.attempt}, {second.worker}) without a cause"
                    )
        return repetitions
