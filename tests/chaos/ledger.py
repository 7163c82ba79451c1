"""What the proxies saw of a chaos run, and what was done to it: which delivery was hurt how, and when.

A delivery that is repeated must have a reason that is older than its repetition: it failed as planned, its connection
was cut, or a process that it depended on was killed before its report was heard.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from chaos.faults import POSTGRES

#: Not a fault of ours: see ``pulse.py``.
STALL = "something stood still"


@dataclass(slots=True)
class Delivery:
    """One request that a function was sent.

    Attributes:
        sequence: Which one, 1 for the first of the run.
        number: Which job of the plan.
        job: Its id.
        attempt: As the worker says.
        worker: Who sent it.
        function: Who got it; None where nobody was there.
        began_at: When, by the run's clock, in seconds.
        hurt: What was done to it, and when.
        failed_at: When it was known to have failed.
        heard_at: When a report of it was answered for good: settled, or too late.
        settled: Whether a report of it was accepted.
        refused: Whether nobody ran it.
    """

    sequence: int
    number: int
    job: int
    attempt: int
    worker: str
    began_at: float
    function: str | None = None
    hurt: list[tuple[float, str]] = field(default_factory=list)
    failed_at: float | None = None
    heard_at: float | None = None
    settled: bool = False
    refused: bool = False

    def causes_before(self, moment: float) -> list[str]:
        """What had been done to it by then; what we did goes before what just happened."""
        found = [what for at, what in self.hurt if at <= moment]
        return sorted(found, key=_rank)


def _rank(cause: str) -> int:
    """What most probably was the reason goes first: a death, a cut delivery, a cut sign of life, a stall."""
    if cause.endswith(("killed", "was dead")):
        return 0
    return 3 if cause == STALL else 2 if cause.startswith("heartbeat") else 1


class Ledger:
    """See the module.

    Args:
        clock: Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._down: set[str] = set()
        self._stalled_until = -1.0
        self._tries: Counter[str] = Counter()
        self.deliveries: list[Delivery] = []
        self._by_job: defaultdict[int, list[Delivery]] = defaultdict(list)
        self.counts: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.stale: list[str] = []

    def now(self) -> float:
        """Seconds, by the run's clock."""
        return self._clock()

    def count(self, what: str, number: int) -> int:
        """How often this has happened to that job, this time included."""
        self._tries[f"{what} {number}"] += 1
        return self._tries[f"{what} {number}"]

    def begin(self, *, number: int, job: int, attempt: int, worker: str) -> Delivery:
        """A delivery is on its way."""
        found = Delivery(len(self.deliveries) + 1, number, job, attempt, worker, self._clock())
        for name in self._down & {worker, POSTGRES}:
            found.hurt.append((found.began_at, f"{name} was dead"))
        if found.began_at < self._stalled_until:
            found.hurt.append((found.began_at, STALL))
        self.deliveries.append(found)
        self._by_job[job].append(found)
        return found

    def hurt(self, delivery: Delivery, what: str) -> None:
        """This is being done to it now."""
        delivery.hurt.append((self._clock(), what))

    def abandon(self, delivery: Delivery) -> None:
        """Its function ended the connection: one that was killed a moment ago may still have accepted it."""
        if delivery.function in self._down:
            self.hurt(delivery, f"{delivery.function} was dead")

    def killed(self, name: str) -> None:
        """A process dies now: every delivery that depends on it is hurt."""
        self._down.add(name)
        self.counts[f"kill {name}"] += 1
        for delivery in self.deliveries:
            if delivery.heard_at is None and name in {delivery.worker, delivery.function, POSTGRES}:
                self.hurt(delivery, f"{name} killed")

    def stalled(self, name: str, *, since: float, lease_seconds: float) -> None:
        """It stood still since then: leases were not renewed, and what was claimed is still on its way."""
        self.counts[f"stall {name}"] += 1
        self._stalled_until = self._clock() + lease_seconds
        for delivery in self.deliveries:
            if delivery.heard_at is None or delivery.heard_at > since:
                delivery.hurt.append((since, STALL))

    def started(self, name: str) -> None:
        """It lives again."""
        self._down.discard(name)

    def failed(self, delivery: Delivery) -> None:
        """It said that it failed."""
        if delivery.failed_at is None:
            delivery.failed_at = self._clock()

    def reported(self, delivery: Delivery, *, status: int, sent_at: float, copy: bool) -> None:
        """A report of it was answered."""
        self.answers[f"{status} {'repeated' if copy else 'first'}"] += 1
        if status not in {200, 409}:
            return
        delivery.heard_at = self._clock()
        if status == 200:
            if delivery.settled:
                self.stale.append(f"two reports of delivery {delivery.sequence} (job {delivery.job}) were accepted")
            delivery.settled = True
            for later in self.of_job(delivery.job, after=delivery.sequence):
                # an earlier attempt may arrive later than this one: it was claimed before
                if later.began_at < sent_at and later.attempt >= delivery.attempt:
                    self.stale.append(
                        f"a report of delivery {delivery.sequence} (job {delivery.job}, attempt {delivery.attempt}) "
                        f"was accepted after delivery {later.sequence} (attempt {later.attempt}) had begun"
                    )

    def lines(self) -> Iterator[str]:
        """All deliveries, one a line, for whoever looks for the reason of something."""
        for each in self.deliveries:
            hurt = ", ".join(f"{what} at {at:.3f}" for at, what in each.hurt)
            failed = "" if each.failed_at is None else f" failed at {each.failed_at:.3f}"
            heard = "" if each.heard_at is None else f" heard at {each.heard_at:.3f}"
            yield (
                f"{each.sequence}: number {each.number} job {each.job} attempt {each.attempt} {each.worker} "
                f"{each.function} at {each.began_at:.3f}{' refused' * each.refused}{failed}{heard}; {hurt}"
            )

    def of_job(self, job: int, *, after: int = 0) -> Iterator[Delivery]:
        """The deliveries of one job that somebody ran, in order."""
        return (each for each in self._by_job[job] if each.sequence > after and not each.refused)

    def unexplained(self, jobs: Iterable[int]) -> list[str]:
        """The repeated deliveries that have no reason."""
        found: list[str] = []
        for job in jobs:
            for first, second in itertools.pairwise(self.of_job(job)):
                failed = first.failed_at is not None and first.failed_at <= second.began_at
                if not failed and not first.causes_before(second.began_at):
                    found.append(
                        f"delivery {first.sequence} (job {job}, attempt {first.attempt}, {first.worker}) was repeated "
                        f"as {second.sequence} (attempt {second.attempt}, {second.worker}) for no reason"
                    )
        return found
