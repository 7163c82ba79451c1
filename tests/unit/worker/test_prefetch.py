"""The size of the prefetch buffer."""

from jobfn.worker.prefetch import Prefetch
from support.clock import ManualClock


def finish(prefetch: Prefetch, jobs: int) -> None:
    for _ in range(jobs):
        prefetch.on_job_finished()


def test_nothing_is_prefetched_before_the_rate_is_known() -> None:
    assert Prefetch(ManualClock()).size() == 0


def test_size_follows_the_rate_of_the_last_interval() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    finish(prefetch, 200)
    clock.advance(0.25)
    assert prefetch.size() == 80, "800 jobs a second for 0.1 s"
    finish(prefetch, 100)
    clock.advance(0.05)
    assert prefetch.size() == 80, "the interval is not over"
    clock.advance(0.2)
    assert prefetch.size() == 40
    clock.advance(0.25)
    assert prefetch.size() == 0


def test_size_has_a_maximum() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    finish(prefetch, 100_000)
    clock.advance(0.25)
    assert prefetch.size() == 500


def test_slow_jobs_are_not_prefetched() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    for _ in range(5):
        clock.advance(1.0)
        finish(prefetch, 1)
        assert prefetch.size() == 0


def test_prefetched_jobs_expire_if_no_job_finishes() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    clock.advance(1.0)
    is_expired = [prefetch.is_expired]
    clock.advance(0.25)
    is_expired.append(prefetch.is_expired)
    finish(prefetch, 1)
    assert [*is_expired, prefetch.is_expired] == [False, True, False]
