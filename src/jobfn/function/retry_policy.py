"""Decide whether and when a failed job is retried. Pure: the attempt and the random number are arguments.

If the task has no policy, the jobs schema decides: retry after ``exp(least(attempts, 10))`` seconds, up to the job's
``max_attempts``.
"""

import math
from dataclasses import dataclass

from jobfn.errors import PermanentError, RetryLater


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Delay before the next attempt: ``min(seconds * factor ** (attempt - 1), cap)``, plus or minus the jitter.

    Args:
        seconds: Delay after the first attempt. Default 2.
        factor: Growth with each further attempt. Default 2.
        cap: Maximum delay in seconds. Default 3600.
        jitter: Maximum random deviation as a fraction of the delay, 0 to 1. Default 0.1.

    Raises:
        ValueError: An argument is out of range.
    """

    seconds: float = 2.0
    factor: float = 2.0
    cap: float = 3600.0
    jitter: float = 0.1

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("seconds", 0, math.inf),
            ("factor", 1, math.inf),
            ("cap", 0, math.inf),
            ("jitter", 0, 1),
        ):
            value = getattr(self, name)
            if not lowest <= value <= highest or math.isinf(value):
                span = f"from {lowest} to {highest}" if highest == 1 else f"a finite number, {lowest} or more"
                raise ValueError(f"Backoff({name}={value!r}): {name} must be {span}")

    def delay_seconds(self, attempt: int, rand: float) -> float:
        """Return the delay after this attempt."""
        try:
            delay = min(self.seconds * self.factor ** (attempt - 1), self.cap)
        except OverflowError:
            delay = self.cap
        return delay * (1 + self.jitter * (2 * rand - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryDecision:
    """Whether and when to retry. By default, the jobs schema decides.

    Attributes:
        permanent: Whether the job is not to be retried.
        retry_after_seconds: Delay before the next attempt; None: the schema's.
        snooze_max_age_seconds: The attempt does not count until the first snooze is longer ago; None: it counts.
    """

    permanent: bool = False
    retry_after_seconds: float | None = None
    snooze_max_age_seconds: float | None = None


NO_RETRY = RetryDecision(permanent=True)
DEFAULT_RETRY = RetryDecision()


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The retry options of a task.

    Attributes:
        max_attempts: Maximum number of attempts; None: the job's own.
        backoff: Delay between attempts; None: the schema's.
    """

    max_attempts: int | None = None
    backoff: Backoff | None = None

    def decide(self, error: BaseException | None, attempt: int | None, rand: float) -> RetryDecision:
        """Decide on the next attempt of a job whose attempt, None if unknown, failed with ``error``."""
        if isinstance(error, PermanentError):
            return NO_RETRY
        if isinstance(error, RetryLater) and not error.counts:
            return RetryDecision(retry_after_seconds=error.seconds, snooze_max_age_seconds=error.max_age_seconds)
        if attempt is not None and self.max_attempts is not None and attempt >= self.max_attempts:
            return NO_RETRY
        if isinstance(error, RetryLater):
            return RetryDecision(retry_after_seconds=error.seconds)
        if attempt is not None and self.backoff is not None:
            return RetryDecision(retry_after_seconds=round(self.backoff.delay_seconds(attempt, rand), 3))
        return DEFAULT_RETRY
