"""The size of the prefetch buffer, and the tasks that are not prefetched."""

from jobfn.worker.prefetch import Prefetch
from support.clock import ManualClock


def test_nothing_is_prefetched_before_the_rate_is_known() -> None:
    assert Prefetch(ManualClock()).size() == 0


def test_size_follows_the_rate_of_the_last_interval() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    prefetch.on_slot_freed("quick", 0.01, 200)
    clock.advance(0.25)
    assert prefetch.size() == 80, "800 jobs a second for 0.1 s"
    prefetch.on_slot_freed("quick", 0.01, 100)
    clock.advance(0.05)
    assert prefetch.size() == 80, "the interval is not over"
    clock.advance(0.2)
    assert prefetch.size() == 40
    clock.advance(0.25)
    assert prefetch.size() == 0


def test_size_has_a_maximum() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    prefetch.on_slot_freed("quick", 0.01, 100_000)
    clock.advance(0.25)
    assert prefetch.size() == 500


def test_size_is_smaller_beside_a_tenant_that_has_most_of_the_jobs() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    prefetch.on_unequal_tenants()
    prefetch.on_slot_freed("quick", 0.01, 100_000)
    clock.advance(0.25)
    assert prefetch.size() == 128
    clock.advance(600)
    prefetch.on_slot_freed("quick", 0.01, 10_000_000)
    clock.advance(0.25)
    assert prefetch.size() == 500


def test_slow_jobs_do_not_count() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    for _ in range(14):
        prefetch.on_slot_freed("slow", 10.0, 1)
    clock.advance(0.1)
    assert prefetch.size() == 0, "14 jobs in 0.1 s, but the next ones take 10 s"


def test_task_is_slow_until_one_of_its_jobs_was_quick_and_when_none_has_finished_lately() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    prefetch.on_slot_freed("quick", 0.02, 1)
    prefetch.on_slot_freed("slow", 10.0, 1)
    assert prefetch.slow(["quick", "slow", "unknown"]) == ["slow", "unknown"]
    clock.advance(1.25)
    assert prefetch.slow(["quick"]) == ["quick"]


def test_one_slow_job_does_not_make_a_quick_task_slow() -> None:
    prefetch = Prefetch(ManualClock())
    prefetch.on_slot_freed("quick", 0.02, 1)
    prefetch.on_slot_freed("quick", 5.0, 1)
    assert prefetch.slow(["quick"]) == []
    for _ in range(3):
        prefetch.on_slot_freed("quick", 5.0, 1)
    assert prefetch.slow(["quick"]) == ["quick"]


def test_prefetched_jobs_expire_if_their_task_stays_slow() -> None:
    clock = ManualClock()
    prefetch = Prefetch(clock)
    prefetch.on_slot_freed("quick", 0.02, 1)
    assert prefetch.expired({"quick", "slow"}) == []
    clock.advance(0.5)
    prefetch.on_slot_freed("quick", 0.02, 1)
    assert prefetch.expired({"quick", "slow"}) == []
    clock.advance(0.5)
    assert prefetch.expired({"quick", "slow"}) == ["slow"]
    assert prefetch.expired(set()) == []
    assert prefetch.expired({"slow"}) == [], "its jobs were released and claimed again"


def test_only_the_tasks_that_finished_last_are_remembered() -> None:
    prefetch = Prefetch(ManualClock())
    tasks = [f"task{number}" for number in range(1001)]
    for task in tasks:
        prefetch.on_slot_freed(task, 0.01, 1)
    assert prefetch.slow(tasks) == ["task0"]
