"""Faults and kills of a chaos run, derived from the seed. Pure.

A fault depends on the job's number and on the count of its requests, not on the order in which requests arrive. So a
seed injects the same faults again, however the processes are scheduled.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from jobfn.worker.settings import SettlementMode

FUNCTIONS = ("function-0", "function-1")
POSTGRES = "postgres"
MAX_CUT_DELAY_SECONDS = 0.1
#: Further requests of a kind for the same job have no faults, so that the run ends.
MAX_FAULTY_REQUESTS = 4


def worker_names(modes: Sequence[SettlementMode]) -> list[str]:
    """Return the names of workers with these settlement modes, such as ``auto-0``."""
    return [f"{mode}-{number}" for number, mode in enumerate(modes)]


def mode_of(process: str) -> SettlementMode | None:
    """Return the settlement mode of a worker, None for another process."""
    name = process.partition("-")[0]
    return SettlementMode(name) if name in set(SettlementMode) else None


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
    FaultKind.DELAYED: 0.02,
    FaultKind.REPEATED: 0.01,
    FaultKind.CONCURRENT: 0.01,
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

    def __init__(self, seed: int, *, max_delay_seconds: float, enabled: bool = True) -> None:
        self._seed = seed
        self._max_delay_seconds = max_delay_seconds
        self._enabled = enabled

    def for_delivery(self, number: int, count: int) -> Fault:
        """Return the fault of the request with a job's nth delivery, and of the other jobs in it."""
        return self._choose("delivery", number, count, DELIVERY_FAULTS)

    def for_report(self, number: int, count: int) -> Fault:
        """Return the fault of a job's nth report."""
        return self._choose("report", number, count, REPORT_FAULTS)

    def for_heartbeat(self, number: int, count: int) -> Fault:
        """Return the fault of a job's nth heartbeat."""
        return self._choose("heartbeat", number, count, HEARTBEAT_FAULTS)

    def _choose(self, request: str, number: int, count: int, probabilities: dict[FaultKind, float]) -> Fault:
        rand = random.Random(f"{self._seed} {request} {number} {count}")  # noqa: S311  - repeatable, not secret
        weights = [1 - sum(probabilities.values()), *probabilities.values()]
        kind = rand.choices([FaultKind.NONE, *probabilities], weights)[0]
        if not self._enabled or count > MAX_FAULTY_REQUESTS:
            kind = FaultKind.NONE
        max_delay_seconds = MAX_CUT_DELAY_SECONDS if kind is FaultKind.CUT_BEFORE_RESPONSE else self._max_delay_seconds
        fraction, delay_seconds, route = rand.random(), rand.uniform(0, max_delay_seconds), rand.random()
        return Fault(kind, fraction, delay_seconds, route)


def plan_kills(
    seed: int, targets: Sequence[str], *, seconds: float, mean_interval_seconds: float, max_down_seconds: float
) -> Sequence[Kill]:
    """Return the kills of a run. Each round kills every target once, in random order."""
    rand = random.Random(f"{seed} kills")  # noqa: S311  - repeatable, not secret
    kills: list[Kill] = []
    at_seconds = 0.0
    while True:
        for target in rand.sample(targets, len(targets)):
            at_seconds += rand.uniform(0.4, 1.6) * mean_interval_seconds
            if at_seconds > seconds:
                return kills
            kills.append(Kill(at_seconds, target, rand.uniform(0, max_down_seconds)))
