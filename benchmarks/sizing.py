"""Size rounds to the machine: seconds and jobs of a round, and the subjects for which the time suffices. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

MIN_ROUND_SECONDS, MAX_ROUND_SECONDS = 1.0, 4.0
MAX_ROUND_JOBS = 120_000


@dataclass(frozen=True)
class WarmUp:
    """Result of the warm-up round of a subject.

    Attributes:
        rate: Jobs per second.
        fill_seconds: Time to add one job.
        fixed_seconds: Time to start and to stop the subject.
    """

    rate: float
    fill_seconds: float
    fixed_seconds: float


@dataclass(frozen=True)
class RoundSize:
    """Size of a round, the same for all subjects.

    Attributes:
        jobs: Number of waiting jobs. The fastest subject needs about ``seconds`` for them.
        seconds: A subject that has not settled all jobs by then is stopped.
    """

    jobs: int
    seconds: float


def size_round(warm_ups: Sequence[WarmUp], *, seconds: float) -> RoundSize:
    """Return the size of a round in which each subject runs once.

    Args:
        warm_ups: One for each subject.
        seconds: Time for the whole round.
    """
    fastest = max(each.rate for each in warm_ups)
    fixed = sum(each.fixed_seconds for each in warm_ups)
    per_second = sum(1 + each.fill_seconds * fastest for each in warm_ups)
    round_seconds = min(MAX_ROUND_SECONDS, max(MIN_ROUND_SECONDS, (seconds - fixed) / per_second))
    return RoundSize(min(MAX_ROUND_JOBS, _round(fastest * round_seconds)), round_seconds)


def minimum_seconds(warm_up: WarmUp, *, fastest: float) -> float:
    """Return the time of a subject in the shortest round, if the fastest subject has this rate."""
    return warm_up.fixed_seconds + MIN_ROUND_SECONDS * (1 + warm_up.fill_seconds * fastest)


def count_fitting(costs: Sequence[float], *, seconds: float, required: int) -> int:
    """Return how many of the first subjects fit into the time, but not fewer than the required ones.

    Args:
        costs: Seconds of each subject, the most important one first.
        seconds: Time for all of them.
        required: Number of subjects that are measured in any case.
    """
    count = len(costs)
    while count > required and sum(costs[:count]) > seconds:
        count -= 1
    return count


def _round(jobs: float) -> int:
    """Round to two significant digits, for readable notes. At least 100."""
    return max(100, int(float(f"{jobs:.2g}")))
