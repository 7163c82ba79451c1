"""How many jobs share a request."""

import pytest

from jobfn.wire.delivery_batch import MAX_BATCH_JOBS, PLANNED_SECONDS
from jobfn.worker.batching import IDLE_SECONDS, REFUSAL_SECONDS, Batching, BatchSizes
from support.clock import ManualClock

URL = "http://functions:8080/t"
#: More waiting jobs for each free slot than fit in a batch.
MANY = 1000


def test_limits() -> None:
    assert (MAX_BATCH_JOBS, PLANNED_SECONDS, IDLE_SECONDS, REFUSAL_SECONDS) == (50, 0.02, 0.002, 60.0)


@pytest.mark.parametrize(
    ("seconds", "size"),
    [
        (0.0, 50),
        (-1.0, 50),
        (0.0004, 50),
        (0.001, 20),
        (0.005, 4),
        (0.0101, 1),
        (0.02, 1),
        (3600.0, 1),
        (1e308, 1),
    ],
)
def test_size_is_what_runs_within_the_planned_time(seconds: float, size: int) -> None:
    sizes = BatchSizes()
    sizes.record("t", seconds)
    assert (sizes.size("t", MANY), sizes.size("other", MANY)) == (size, 1)


@pytest.mark.parametrize(
    ("seconds", "share", "size"),
    [
        (0.0001, 1, 20),  # a request costs as much as several quick jobs
        (0.0001, 30, 30),
        (0.001, 1, 2),
        (0.001, 7, 7),
        (0.001, 21, 20),
        (0.0015, 1, 1),
        (0.02, 7, 1),
    ],
)
def test_jobs_are_spread_over_the_free_slots_unless_they_are_very_quick(seconds: float, share: int, size: int) -> None:
    sizes = BatchSizes()
    sizes.record("t", seconds)
    assert sizes.size("t", share) == size


def test_estimate_follows_a_slow_job_at_once_and_quick_ones_slowly() -> None:
    sizes = BatchSizes()
    sizes.record("t", 0.0001)
    sizes.record("t", 1.0)
    seen = []
    for _ in range(60):
        sizes.record("t", 0.0001)
        seen.append(sizes.size("t", MANY))
    assert seen[:43] == [1] * 43
    assert seen[43:46] == [2, 2, 2], "0.9 ** 44 seconds are about 0.0097"
    assert seen[-1] == 10


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def batching(clock: ManualClock) -> Batching:
    return Batching(clock)


def respond(batching: Batching, accepted: str | None = "50", seconds: str | None = "0.001", *, url: str = URL) -> None:
    """Record a response with these headers."""
    headers = {"X-Accept-Batch": accepted, "X-Handler-Seconds": seconds}
    batching.record_response(url, "t", {name: value for name, value in headers.items() if value is not None})


def test_nothing_is_batched_before_a_function_accepts_it(batching: Batching) -> None:
    assert batching.size(URL, "t", MANY) == 1
    batching.record_duration("t", 0.001)
    assert batching.size(URL, "t", MANY) == 1


@pytest.mark.parametrize(
    ("accepted", "size"),
    [("50", 20), ("1000000", 20), ("7", 7), ("0", 1), ("-5", 1), ("many", 1), ("7.5", 1), ("\u0667", 1), ("9" * 10, 1)],
)
def test_size_is_limited_by_what_the_function_accepts(accepted: str, size: int, batching: Batching) -> None:
    respond(batching, accepted)
    assert batching.size(URL, "t", MANY) == size


@pytest.mark.parametrize("seconds", [None, "", "quick", "nan", "inf", "-inf", "1e999"])
def test_task_of_unknown_duration_is_delivered_alone(seconds: str | None, batching: Batching) -> None:
    respond(batching, "50", seconds)
    assert batching.size(URL, "t", MANY) == 1
    respond(batching, "50", "0.001")
    respond(batching, "50", seconds)
    assert batching.size(URL, "t", MANY) == 20, "and an invalid duration changes nothing"


def test_function_accepts_for_all_tasks_of_its_origin(batching: Batching) -> None:
    respond(batching)
    batching.record_duration("other", 0.002)
    assert batching.size("http://functions:8080/other", "other", MANY) == 10
    assert batching.size("http://functions:9090/other", "other", MANY) == 1


def test_response_without_the_header_ends_the_offer(batching: Batching) -> None:
    respond(batching)
    respond(batching, None)
    assert batching.size(URL, "t", MANY) == 1
    respond(batching)
    assert batching.size(URL, "t", MANY) == 20


def test_refused_batch_ends_the_offer_for_a_minute(batching: Batching, clock: ManualClock) -> None:
    """Whatever the function announces: a proxy may not route the path."""
    respond(batching)
    batching.refuse("http://functions:8080/other?x=1")
    batching.refuse("http://unknown/")
    respond(batching)
    clock.advance(59.9)
    assert batching.size(URL, "t", MANY) == 1
    clock.advance(0.1)
    assert batching.size(URL, "t", MANY) == 20


def test_number_of_remembered_tasks_and_origins_is_limited(batching: Batching) -> None:
    """Enqueuers choose the names of tasks."""
    for number in range(1001):
        batching.record_response(f"http://h{number}/", f"t{number}", {"X-Accept-Batch": "9", "X-Handler-Seconds": "0"})
    sizes = [batching.size(f"http://h{number}/", f"t{number}", MANY) for number in range(1001)]
    assert sizes == [1] + [9] * 1000, "the oldest was forgotten"
