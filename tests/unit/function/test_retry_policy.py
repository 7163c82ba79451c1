"""Retry decisions and backoff delays."""

import math

import pytest

from jobfn import Backoff, PermanentError, RetryLater, TaskDefinitionError, task
from jobfn.function.retry_policy import RetryDecision, RetryPolicy

MIDDLE = 0.5
SNOOZE = RetryDecision(retry_after_seconds=90.0, snooze_max_age_seconds=604_800.0)


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff(seconds=2, factor=2, cap=3600, jitter=0), [2, 4, 8, 16, 32]),
        (Backoff(seconds=10, factor=3, cap=60, jitter=0), [10, 30, 60, 60]),
        (Backoff(seconds=0, jitter=0), [0, 0]),
    ],
)
def test_delay_grows_by_the_factor_up_to_the_cap(backoff: Backoff, delays: list[float]) -> None:
    assert [backoff.delay_seconds(attempt, MIDDLE) for attempt in range(1, len(delays) + 1)] == delays


def test_jitter_spreads_the_delay() -> None:
    backoff = Backoff(seconds=8, jitter=0.25)
    assert [backoff.delay_seconds(1, rand) for rand in (0.0, 0.5, 1.0)] == [6.0, 8.0, 10.0]


def test_delay_that_overflows_a_float_is_the_cap() -> None:
    assert Backoff(jitter=0).delay_seconds(10**6, MIDDLE) == 3600


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seconds": -1}, "seconds must be a finite number, 0 or more"),
        ({"factor": 0.5}, "factor must be a finite number, 1 or more"),
        ({"cap": math.nan}, "cap must be a finite number, 0 or more"),
        ({"jitter": 1.5}, "jitter must be from 0 to 1"),
        ({"seconds": math.inf}, "seconds must be a finite number, 0 or more"),
    ],
)
def test_backoff_out_of_range_is_an_error(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Backoff(**options)


@pytest.mark.parametrize(
    ("policy", "error", "attempt", "decision"),
    [
        (RetryPolicy(), ValueError("x"), 1, RetryDecision()),
        (RetryPolicy(), PermanentError("never"), 1, RetryDecision(permanent=True)),
        (RetryPolicy(), RetryLater(seconds=90), 1, SNOOZE),
        (RetryPolicy(), RetryLater(seconds=90, counts=True), 1, RetryDecision(retry_after_seconds=90.0)),
        (RetryPolicy(max_attempts=3), ValueError("x"), 2, RetryDecision()),
        (RetryPolicy(max_attempts=3), ValueError("x"), 3, RetryDecision(permanent=True)),
        (RetryPolicy(max_attempts=3), RetryLater(seconds=90), 3, SNOOZE),
        (RetryPolicy(max_attempts=3), RetryLater(seconds=9, counts=True), 3, RetryDecision(permanent=True)),
        (RetryPolicy(max_attempts=3), ValueError("x"), None, RetryDecision()),
        (RetryPolicy(backoff=Backoff(jitter=0)), ValueError("x"), 3, RetryDecision(retry_after_seconds=8.0)),
        (RetryPolicy(backoff=Backoff(jitter=0)), ValueError("x"), None, RetryDecision()),
        (RetryPolicy(backoff=Backoff(jitter=0)), RetryLater(seconds=90), 3, SNOOZE),
        (
            RetryPolicy(),
            RetryLater(seconds=1, max_age_seconds=3600),
            None,
            RetryDecision(retry_after_seconds=1.0, snooze_max_age_seconds=3600.0),
        ),
    ],
)
def test_decision_prefers_the_exception_to_the_policy(
    policy: RetryPolicy, error: BaseException | None, attempt: int | None, decision: RetryDecision
) -> None:
    assert policy.decide(error, attempt, MIDDLE) == decision


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_retry_later_without_a_finite_delay_is_an_error(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite number of seconds"):
        RetryLater(seconds=seconds)


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_maximum_age_that_is_not_a_positive_number_is_an_error(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite number of seconds above 0"):
        RetryLater(seconds=1, max_age_seconds=seconds)


@pytest.mark.parametrize("number", [0, -1, 1.5, True])
def test_max_attempts_that_is_not_a_positive_integer_is_an_error(number: int) -> None:
    message = r"test_retry_policy.py:\d+: @task on handler: max_attempts=.* must be an integer of at least 1"
    with pytest.raises(TaskDefinitionError, match=message):

        @task("t", max_attempts=number)
        def handler(payload: dict[str, int]) -> None: ...


def test_backoff_that_is_a_number_is_an_error() -> None:
    with pytest.raises(TaskDefinitionError, match=r"backoff=5 must be a Backoff, for example Backoff\(seconds=5\)"):
        task("t", backoff=5)(lambda payload: payload)  # type: ignore[arg-type]
