"""When a failed job is tried again: pure arithmetic."""

import math

import pytest

from jobfn import Backoff, PermanentError, RetryLater, TaskDefinitionError, task
from jobfn.function.retry_policy import RetryDecision, RetryPolicy

MIDDLE = 0.5


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (Backoff(seconds=2, factor=2, cap=3600, jitter=0), [2, 4, 8, 16, 32]),
        (Backoff(seconds=5, factor=1, cap=3600, jitter=0), [5, 5, 5]),
        (Backoff(seconds=10, factor=3, cap=60, jitter=0), [10, 30, 60, 60]),
        (Backoff(seconds=0, jitter=0), [0, 0]),
    ],
)
def test_waits_grow_by_the_factor_to_the_cap(backoff: Backoff, waits: list[float]) -> None:
    """seconds * factor ** (attempt - 1), never more than cap."""
    assert [backoff.delay_seconds(attempt, MIDDLE) for attempt in range(1, len(waits) + 1)] == waits


def test_jitter_spreads_a_wait_around_itself() -> None:
    """With jitter 0.25 a wait of 8 seconds lies between 6 and 10, by chance."""
    backoff = Backoff(seconds=8, jitter=0.25)
    assert [backoff.delay_seconds(1, chance) for chance in (0.0, 0.5, 1.0)] == [6.0, 8.0, 10.0]


def test_a_late_attempt_waits_for_the_cap() -> None:
    """Numbers too large for a float are the cap too."""
    assert Backoff(jitter=0).delay_seconds(10**6, MIDDLE) == 3600


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": -1}, "seconds"),
        ({"factor": 0.5}, "factor"),
        ({"cap": -1}, "cap"),
        ({"jitter": 1.5}, "jitter"),
        ({"seconds": math.inf}, "seconds"),
        ({"cap": math.nan}, "cap"),
    ],
)
def test_a_backoff_out_of_range_is_refused(options: dict[str, float], said: str) -> None:
    """The error names the number and its range."""
    with pytest.raises(ValueError, match=f"{said} must be "):
        Backoff(**options)


@pytest.mark.parametrize(
    ("retries", "error", "attempt", "verdict"),
    [
        (RetryPolicy(), ValueError("x"), 1, RetryDecision()),
        (RetryPolicy(), None, 1, RetryDecision()),
        (RetryPolicy(), PermanentError("never"), 1, RetryDecision(permanent=True)),
        (RetryPolicy(), RetryLater(seconds=90), 1, RetryDecision(retry_after_seconds=90.0)),
        (RetryPolicy(max_attempts=3), ValueError("x"), 2, RetryDecision()),
        (RetryPolicy(max_attempts=3), ValueError("x"), 3, RetryDecision(permanent=True)),
        (RetryPolicy(max_attempts=3), RetryLater(seconds=9), 3, RetryDecision(permanent=True)),
        (RetryPolicy(max_attempts=3), ValueError("x"), None, RetryDecision()),
        (RetryPolicy(backoff=Backoff(jitter=0)), ValueError("x"), 3, RetryDecision(retry_after_seconds=8.0)),
        (RetryPolicy(backoff=Backoff(jitter=0)), ValueError("x"), None, RetryDecision()),
        (RetryPolicy(backoff=Backoff(jitter=0)), RetryLater(seconds=1), 3, RetryDecision(retry_after_seconds=1.0)),
    ],
)
def test_the_handler_s_word_goes_before_the_task_s_and_that_before_the_contract(
    retries: RetryPolicy, error: BaseException | None, attempt: int | None, verdict: RetryDecision
) -> None:
    """Permanent, then the last attempt, then RetryLater, then the backoff; else nothing is said."""
    assert retries.decide(error, attempt, MIDDLE) == verdict


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_retry_later_wants_a_time_that_comes(seconds: float) -> None:
    """A negative or endless wait is refused where it is written."""
    with pytest.raises(ValueError, match="finite number of seconds"):
        RetryLater(seconds=seconds)


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_max_attempts_is_a_whole_number_from_one(number: int) -> None:
    """Anything else is refused when the module is imported, by file and line."""
    with pytest.raises(TaskDefinitionError, match=r"test_retries.py:\d+: @task on handler: max_attempts"):

        @task("t", max_attempts=number)
        def handler(payload: dict[str, int]) -> None: ...


def test_backoff_is_a_backoff() -> None:
    """A number of seconds by itself does not say how it grows."""
    with pytest.raises(TaskDefinitionError, match=r"backoff=5 must be a Backoff, for example Backoff\(seconds=5\)"):
        task("t", backoff=5)(lambda payload: payload)  # type: ignore[arg-type]
