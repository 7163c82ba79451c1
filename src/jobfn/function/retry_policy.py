"""When a failed job is tried again, as its task says. Pure: the attempt and the chance come in, an answer goes out.

Without a word of the task's, the contract decides: again after ``exp(least(attempts, 10))`` seconds, up to the job's
``max_attempts``.
"""

import math
from dataclasses import dataclass

from jobfn.errors import PermanentError, RetryLater


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait before the next attempt: ``min(seconds * factor ** (attempt - 1), cap)``, more or less.

    Args:
        seconds: After the first attempt. Default 2.
        factor: So much longer after each further one. Default 2.
        cap: Never longer than so many seconds. Default 3600.
        jitter: A share of the wait, 0 to 1, by which it is longer or shorter, at random. Default 0.1.

    Raises:
        ValueError: One of them is out of its range; names it.
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
                raise ValueError(f"Backoff({name}={value!r}): {name} is {span}")

    def wait_seconds(self, attempt: int, chance: float) -> float:
        """The wait after this attempt.

        Args:
            attempt: 1 for the first.
            chance: 0 to 1: where in the jitter the wait lies.
        """
        try:
            wait = min(self.seconds * self.factor ** (attempt - 1), self.cap)
        except OverflowError:
            wait = self.cap
        return wait * (1 + self.jitter * (2 * chance - 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """A task's own word on retries.

    Attributes:
        max_attempts: Fail for good after so many; None: the job's own number counts.
        backoff: How long to wait; None: the contract's.
    """

    max_attempts: int | None = None
    backoff: Backoff | None = None

    def after(self, error: BaseException | None, attempt: int | None, chance: float) -> "Verdict":
        """What is to become of a job that failed.

        Args:
            error: What its handler raised; None where it did not end at all.
            attempt: Which attempt this was; None where the worker does not say.
            chance: 0 to 1, for the jitter.
        """
        if isinstance(error, PermanentError):
            return Verdict(permanent=True)
        if attempt is not None and self.max_attempts is not None and attempt >= self.max_attempts:
            return Verdict(permanent=True)
        if isinstance(error, RetryLater):
            return Verdict(retry_after_seconds=error.seconds)
        if attempt is not None and self.backoff is not None:
            return Verdict(retry_after_seconds=round(self.backoff.wait_seconds(attempt, chance), 3))
        return Verdict()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a failed job; nothing said leaves it to the contract.

    Attributes:
        permanent: It is not tried again.
        retry_after_seconds: It is tried again after so long.
    """

    permanent: bool = False
    retry_after_seconds: float | None = None


NO_RETRY = Verdict(permanent=True)
DEFAULT_RETRY = Verdict()
