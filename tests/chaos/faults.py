"""What goes wrong in a chaos run, and when: all of it follows from the seed. Pure.

Which exchange is hurt depends on the job's number and on how often it was tried, not on the order in which exchanges
happen to arrive; so a seed hurts the same ones again, however the processes are scheduled.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

WORKERS = ("worker-0", "worker-1")
FUNCTIONS = ("function-0", "function-1")
POSTGRES = "postgres"


class Fault(StrEnum):
    """What happens to one exchange."""

    NONE = "none"
    CUT_REQUEST = "cut in the request"
    CUT_RUNNING = "cut before the response"
    CUT_RESPONSE = "cut in the response"
    DELAYED = "delayed"
    TWICE = "sent twice"
    BOTH = "sent twice at the same moment"


DELIVERIES = {Fault.CUT_REQUEST: 0.02, Fault.CUT_RUNNING: 0.02, Fault.CUT_RESPONSE: 0.02}
REPORTS = {
    Fault.CUT_REQUEST: 0.03,
    Fault.CUT_RUNNING: 0.02,
    Fault.CUT_RESPONSE: 0.03,
    Fault.DELAYED: 0.06,
    Fault.TWICE: 0.04,
    Fault.BOTH: 0.04,
}
HEARTBEATS = {Fault.CUT_REQUEST: 0.03, Fault.CUT_RESPONSE: 0.02}


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill -9.

    Attributes:
        at_seconds: When, from the start of the run.
        target: One of the processes.
        down_seconds: For how long it stays dead.
    """

    at_seconds: float
    target: str
    down_seconds: float


@dataclass(frozen=True, slots=True)
class Hurt:
    """What happens to one exchange, and how.

    Attributes:
        fault: What.
        share: Where in the message it is cut, 0 to 1.
        seconds: How long it is delayed, or how long after the request it is cut.
        route: Which of the upstreams it goes to, 0 to 1.
    """

    fault: Fault
    share: float
    seconds: float
    route: float


class Faults:
    """Decides about exchanges.

    Args:
        seed: The run's.
        longest_delay_seconds: Of a report.
    """

    def __init__(self, seed: int, *, longest_delay_seconds: float) -> None:
        self._seed = seed
        self._longest_delay_seconds = longest_delay_seconds
        self.calm = False

    def of_delivery(self, number: int, nth: int) -> Hurt:
        """Of the nth delivery of a job."""
        return self._decide(f"delivery {number} {nth}", DELIVERIES, 0.1)

    def of_report(self, number: int, nth: int) -> Hurt:
        """Of the nth try of any report on a job."""
        return self._decide(f"report {number} {nth}", REPORTS, self._longest_delay_seconds)

    def of_heartbeat(self, number: int, nth: int) -> Hurt:
        """Of the nth sign of life of a job."""
        return self._decide(f"heartbeat {number} {nth}", HEARTBEATS, 0.1)

    def _decide(self, what: str, odds: dict[Fault, float], longest_seconds: float) -> Hurt:
        chance = random.Random(f"{self._seed} {what}")  # noqa: S311  - repeatable, not secret
        fault = chance.choices([Fault.NONE, *odds], [1 - sum(odds.values()), *odds.values()])[0]
        share, seconds, route = chance.random(), chance.uniform(0, longest_seconds), chance.random()
        return Hurt(Fault.NONE if self.calm else fault, share, seconds, route)


def kills(seed: int, *, seconds: float, every_seconds: float, longest_down_seconds: float) -> Sequence[Kill]:
    """Who is killed when. In each round every process once, in another order.

    Args:
        seed: The run's.
        seconds: How long the run is.
        every_seconds: The mean time between two kills.
        longest_down_seconds: For how long a process stays dead at most.
    """
    chance = random.Random(f"{seed} kills")  # noqa: S311  - repeatable, not secret
    found: list[Kill] = []
    at_seconds = 0.0
    while True:
        for target in chance.sample([*WORKERS, *FUNCTIONS, POSTGRES], 5):
            at_seconds += chance.uniform(0.4, 1.6) * every_seconds
            if at_seconds > seconds:
                return found
            found.append(Kill(at_seconds, target, chance.uniform(0, longest_down_seconds)))
