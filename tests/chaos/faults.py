"""Faults and kills of a chaos run, derived from the seed. Pure.

A fault depends on the job's number and on the count of its requests, not on the order in which requests arrive. So a
seed injects the same faults again, however the processes are scheduled.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

WORKERS = ("worker-0", "worker-1")
FUNCTIONS = ("function-0", "function-1")
POSTGRES = "postgres"
MAX_CUT_DELAY_SECONDS = 0.1


class FaultKind(StrEnum):
    """What happens to one request."""

    NONE = "none"
    CUT_REQUEST = "request cut"
    CUT_BEFORE_RESPONSE = "cut before the response"
    CUT_RESPONSE = "response cut"
    DELAYED = "delayed"
    REPEATED = "repeated"
    CONCURRENT = "sent twice concurrently"


#: Probabilities by kind of request.
DELIVERY_FAULTS = {
    FaultKind.CUT_REQUEST: 0.02,
    FaultKind.CUT_BEFORE_RESPONSE: 0.02,
    FaultKind.CUT_RESPONSE: 0.02,
}
REPORT_FAULTS = {
    FaultKind.CUT_REQUEST: 0.03,
    FaultKind.CUT_BEFORE_RESPONSE: 0.02,
    FaultKind.CUT_RESPONSE: 0.03,
    FaultKind.DELAYED: 0.06,
    FaultKind.REPEATED: 0.04,
    FaultKind.CONCURRENT: 0.04,
}
HEARTBEAT_FAULTS = {FaultKind.CUT_REQUEST: 0.03, FaultKind.CUT_RESPONSE: 0.02}


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill -9."""

    at_seconds: float
    target: str
    down_seconds: float


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to one request, and how."""

    kind: FaultKind
    fraction: float
    delay_seconds: float
    route: float


class FaultInjector:
    """Choose the fault of each request."""

    def __init__(self, seed: int, *, max_report_delay_seconds: float) -> None:
        self._seed = seed
        self._max_report_delay_seconds = max_report_delay_seconds
        self.enabled = True

    def for_delivery(self, number: int, count: int) -> Fault:
        """Return the fault of a job's nth delivery."""
        return self._choose(f"delivery {number} {count}", DELIVERY_FAULTS, MAX_CUT_DELAY_SECONDS)

    def for_report(self, number: int, count: int) -> Fault:
        """Return the fault of a job's nth report."""
        return self._choose(f"report {number} {count}", REPORT_FAULTS, self._max_report_delay_seconds)

    def for_heartbeat(self, number: int, count: int) -> Fault:
        """Return the fault of a job's nth heartbeat."""
        return self._choose(f"heartbeat {number} {count}", HEARTBEAT_FAULTS, MAX_CUT_DELAY_SECONDS)

    def _choose(self, request: str, probabilities: dict[FaultKind, float], max_delay_seconds: float) -> Fault:
        rand = random.Random(f"{self._seed} {request}")  # noqa: S311  - repeatable, not secret
        weights = [1 - sum(probabilities.values()), *probabilities.values()]
        kind = rand.choices([FaultKind.NONE, *probabilities], weights)[0]
        fraction, delay_seconds, route = rand.random(), rand.uniform(0, max_delay_seconds), rand.random()
        return Fault(kind if self.enabled else FaultKind.NONE, fraction, delay_seconds, route)


def plan_kills(seed: int, *, seconds: float, mean_interval_seconds: float, max_down_seconds: float) -> Sequence[Kill]:
    """Return the kills of a run. Each round kills every process once, in random order."""
    rand = random.Random(f"{seed} kills")  # noqa: S311  - repeatable, not secret
    kills: list[Kill] = []
    at_seconds = 0.0
    while True:
        for target in rand.sample([*WORKERS, *FUNCTIONS, POSTGRES], 5):
            at_seconds += rand.uniform(0.4, 1.6) * mean_interval_seconds
            if at_seconds > seconds:
                return kills
            kills.append(Kill(at_seconds, target, rand.uniform(0, max_down_seconds)))
