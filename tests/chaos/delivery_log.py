"""Log of all deliveries of a chaos run and of the faults that affected them.

A repeated delivery must have a cause that is older than the repetition and not younger than the end of its attempt in
the database: the handler failed as planned, the connection was cut, or a process that it depends on was killed.
"""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from chaos.faults import POSTGRES, mode_of

#: Outcome in the history of an attempt that was not settled.
LOST = "lost"


@dataclass(slots=True)
class Delivery:
    """One job in a request to a function. Times are seconds of the run.

    Attributes:
        original: The delivery that the gateway repeated; None: sent by the worker.
        function: Name of the function process. None: not chosen yet.
        answered_at: Time when the worker was sent the response to this job.
        failed_at: Time of the first failure response or report.
        ended_at: Time when the attempt ended in the database. None: it did not end after this delivery started.
        outcome: Outcome of the attempt in the database.
        is_repeated: Whether the gateway repeated it.
        settled: Whether a report was answered with 200.
        rejected: Whether no function ran it.
    """

    sequence: int
    number: int
    job: int
    attempt: int
    worker: str
    started_at: float
    original: "Delivery | None" = None
    function: str | None = None
    faults: list[tuple[float, str]] = field(default_factory=list)
    answered_at: float | None = None
    failed_at: float | None = None
    ended_at: float | None = None
    outcome: str | None = None
    is_repeated: bool = False
    settled: bool = False
    rejected: bool = False

    @property
    def origin(self) -> "Delivery":
        """The delivery that the worker sent."""
        return self.original or self


@dataclass(slots=True)
class Incident:
    """An event that affects all deliveries of a process for some time.

    Attributes:
        process: Name of the process; None: all processes.
    """

    process: str | None
    cause: str
    starts_at: float
    ends_at: float = math.inf

    def affects(self, delivery: Delivery, end: float) -> bool:
        """Whether it affects a delivery until this time."""
        is_involved = self.process in {None, POSTGRES, delivery.worker, delivery.function}
        return is_involved and self.starts_at <= end and self.ends_at >= delivery.started_at


class DeliveryLog:
    """See the module."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.now = clock
        self._incidents: list[Incident] = []
        self._requests: Counter[str] = Counter()
        self.deliveries: list[Delivery] = []
        self._by_job: defaultdict[int, list[Delivery]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.report_statuses: Counter[str] = Counter()
        self.stale_reports: list[str] = []
        self.gateway_errors: list[str] = []

    def count_request(self, kind: str, number: int) -> int:
        """Count a request for a job. Return how many of this kind there were."""
        self._requests[f"{kind} {number}"] += 1
        return self._requests[f"{kind} {number}"]

    def start_delivery(
        self, *, number: int, job: int, attempt: int, worker: str, original: Delivery | None = None
    ) -> Delivery:
        """Add a delivery."""
        delivery = Delivery(len(self.deliveries) + 1, number, job, attempt, worker, self.now(), original)
        if original is not None:
            original.is_repeated = True
        self.deliveries.append(delivery)
        self._by_job[job].append(delivery)
        return delivery

    def add_fault(self, delivery: Delivery, fault: str) -> None:
        """Record that a fault affects a delivery now."""
        delivery.faults.append((self.now(), fault))

    def on_killed(self, name: str) -> None:
        """Record that a process is killed."""
        self._incidents.append(Incident(name, f"{name} killed", self.now()))
        self.counts[f"kill {name}"] += 1

    def on_started(self, name: str) -> None:
        """Record that a process runs again."""
        for incident in self._incidents:
            if incident.process == name:
                incident.ends_at = min(incident.ends_at, self.now())

    def on_stalled(self, name: str, *, since: float, lease_seconds: float) -> None:
        """Record a stall. Leases were not renewed meanwhile, and jobs claimed before are still being delivered."""
        self.counts[f"stall {name}"] += 1
        self._incidents.append(Incident(None, "stall", since, self.now() + lease_seconds))

    def on_answered(self, delivery: Delivery) -> None:
        """Record that the worker is sent the response to a job."""
        delivery.answered_at = self.now()

    def on_failed(self, delivery: Delivery) -> None:
        """Record that a response or a report says that the handler failed."""
        for each in (delivery, delivery.origin):
            if each.failed_at is None:
                each.failed_at = self.now()

    def on_report_answered(self, delivery: Delivery, *, status: int, sent_at: float, repeated: bool) -> None:
        """Record the response to a report."""
        self.report_statuses[f"{status} {'repeated' if repeated else 'first'}"] += 1
        if status != 200:
            return
        if delivery.settled:
            self.stale_reports.append(f"two reports of delivery {delivery.sequence} (job {delivery.job}) were accepted")
        delivery.settled = True
        for later in self.started_deliveries(delivery.job, after=delivery.sequence):
            # An earlier attempt may arrive later than this one.
            is_newer = later.attempt >= delivery.attempt and later.origin is not delivery.origin
            if later.started_at < sent_at and is_newer:
                self.stale_reports.append(
                    f"a report of delivery {delivery.sequence} (job {delivery.job}, attempt {delivery.attempt}) "
                    f"was accepted after delivery {later.sequence} (attempt {later.attempt}) had started"
                )

    def on_attempt_ended(self, *, job: int, attempt: int, outcome: str, at: float) -> None:
        """Record an attempt of the history. Call it in the order of the times."""
        for delivery in self._by_job[job]:
            if delivery.attempt == attempt and delivery.ended_at is None and delivery.started_at <= at:
                delivery.ended_at, delivery.outcome = at, outcome

    def lines(self) -> Iterator[str]:
        """Yield one line per delivery, for debugging."""
        for each in self.deliveries:
            times = [
                ("answered", each.answered_at),
                ("failed", each.failed_at),
                (f"ended {each.outcome}", each.ended_at),
            ]
            events = [f"{name} at {at:.3f}" for name, at in times if at is not None]
            events += [f"{fault} at {at:.3f}" for at, fault in each.faults]
            copy = f" copy of {each.original.sequence}" if each.original else ""
            yield (
                f"{each.sequence}: number {each.number} job {each.job} attempt {each.attempt} {each.worker} "
                f"{each.function} at {each.started_at:.3f}{copy}{' rejected' * each.rejected}: {', '.join(events)}"
            )
        for incident in self._incidents:
            yield f"{incident.cause} from {incident.starts_at:.3f} to {incident.ends_at:.3f}"

    def started_deliveries(self, job: int, *, after: int = 0) -> Iterator[Delivery]:
        """Yield the deliveries of a job that a function ran, in order."""
        return (each for each in self._by_job[job] if each.sequence > after and not each.rejected)

    def causes(self, delivery: Delivery, *, before: float) -> list[str]:
        """Return what affected a delivery until this time or its attempt's end, the most probable cause first."""
        end = before if delivery.ended_at is None else min(before, delivery.ended_at)
        faults = [(at, fault) for at, fault in delivery.faults if at <= end]
        faults += [(each.starts_at, each.cause) for each in self._incidents if each.affects(delivery, end)]
        return [fault for _, fault in sorted(faults, key=lambda each: (_cause_rank(each[1], delivery), each[0]))]

    def incidents(self, processes: Collection[str], *, since: float, until: float) -> list[str]:
        """Return what affected one of these processes in a time."""
        return [
            each.cause
            for each in self._incidents
            if each.process in {None, *processes} and each.starts_at <= until and each.ends_at >= since
        ]

    def unexplained_repetitions(self) -> list[str]:
        """Return the repeated deliveries without a cause."""
        repetitions: list[str] = []
        for job in self._by_job:
            deliveries = [each for each in self.started_deliveries(job) if each.original is None]
            for first, second in itertools.pairwise(deliveries):
                failed = first.failed_at is not None and first.failed_at <= second.started_at
                if not failed and not self.causes(first, before=second.started_at):
                    repetitions.append(
                        f"delivery {first.sequence} (job {job}, attempt {first.attempt}, {first.worker}) was repeated "
                        f"as {second.sequence} (attempt {second.attempt}, {second.worker}) without a cause"
                    )
        return repetitions


def _cause_rank(cause: str, delivery: Delivery) -> int:
    """Rank causes: a killed worker if the attempt was lost, other kills, a cut delivery, a cut heartbeat, a stall."""
    name, _, event = cause.partition(" ")
    if event == "killed":
        return 0 if (mode_of(name) is not None) == (delivery.outcome == LOST) else 1
    return 4 if cause == "stall" else 3 if name == "heartbeat" else 2
