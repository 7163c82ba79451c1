"""How many jobs of which task are claimed: fairness and backpressure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.worker.throttle import ClaimRequest, Throttle
from support.clock import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def start(throttle: Throttle, task: str, count: int) -> None:
    for _ in range(count):
        throttle.on_started(task)


def finish(throttle: Throttle, task: str, count: int) -> None:
    for _ in range(count):
        throttle.on_finished(task)


def with_two_tasks(clock: ManualClock, concurrency: int = 16) -> Throttle:
    """Return a throttle that has seen two tasks, so that a task may not use every slot."""
    throttle = Throttle(concurrency, clock)
    for name in ("first", "second"):
        start(throttle, name, 1)
        finish(throttle, name, 1)
    return throttle


def test_idle_worker_claims_any_task(clock: ManualClock) -> None:
    assert Throttle(4, clock).plan() == [ClaimRequest(4)]
    assert with_two_tasks(clock).plan() == [ClaimRequest(14)]


def test_only_task_uses_every_slot_if_no_job_of_another_task_is_ready(clock: ManualClock) -> None:
    throttle = Throttle(16, clock)
    assert throttle.plan() == [ClaimRequest(14)]
    start(throttle, "only", 14)
    others = [ClaimRequest(2, exclude_tasks=("only",))]
    assert throttle.plan() == others
    assert throttle.on_empty_claim(), "claim again at once"
    assert throttle.plan() == [ClaimRequest(2)]
    assert throttle.has_capacity("only")
    start(throttle, "only", 1)
    throttle.on_notification()
    assert throttle.plan() == [ClaimRequest(1)], "looks for other tasks once a second only, however many jobs arrive"
    clock.advance(1.0)
    assert throttle.plan() == [ClaimRequest(1, exclude_tasks=("only",))]


def test_quick_task_that_is_alone_fills_every_slot(clock: ManualClock) -> None:
    throttle = Throttle(16, clock)
    start(throttle, "quick", 14)
    assert throttle.plan(slow=lambda _: []) == [ClaimRequest(2)]


def test_task_found_beside_the_only_one_gets_its_share(clock: ManualClock) -> None:
    throttle = Throttle(16, clock)
    start(throttle, "slow", 14)
    assert throttle.plan() == [ClaimRequest(2, exclude_tasks=("slow",))]
    start(throttle, "quick", 2)
    assert not throttle.has_capacity("slow")
    finish(throttle, "quick", 1)
    assert throttle.plan() == [ClaimRequest(1, exclude_tasks=("slow",))]
    assert not throttle.on_empty_claim()


def test_one_slot_in_eight_is_reserved_until_a_task_has_been_alone_for_ten_minutes(clock: ManualClock) -> None:
    throttle = with_two_tasks(clock)
    start(throttle, "slow", 14)
    limited = throttle.has_capacity("slow")
    clock.advance(600.1)
    assert throttle.plan() == [ClaimRequest(2, exclude_tasks=("slow",))]
    assert throttle.on_empty_claim()
    assert throttle.plan() == [ClaimRequest(2)]
    assert (limited, throttle.has_capacity("slow")) == (False, True)


def test_task_at_its_limit_leaves_slots_to_others(clock: ManualClock) -> None:
    throttle = with_two_tasks(clock)
    start(throttle, "slow", 14)
    assert throttle.plan() == [ClaimRequest(2, exclude_tasks=("slow",))]
    start(throttle, "quick", 2)
    assert throttle.plan() == []
    finish(throttle, "quick", 1)
    assert throttle.plan() == [ClaimRequest(1, exclude_tasks=("slow",))]


def test_busy_task_is_paused_then_limited_to_half(clock: ManualClock) -> None:
    throttle = with_two_tasks(clock)
    start(throttle, "busy", 8)
    finish(throttle, "busy", 1)
    assert throttle.on_busy("busy", None) == 0.5
    finish(throttle, "busy", 7)
    assert throttle.plan() == [ClaimRequest(14, exclude_tasks=("busy",))]
    assert throttle.seconds_to_resume() == 0.5
    clock.advance(0.5)
    assert throttle.seconds_to_resume() == 0.0, "the last plan left the task out"
    assert throttle.plan() == [ClaimRequest(14, exclude_tasks=("busy",)), ClaimRequest(3, tasks=("busy",))]
    assert throttle.seconds_to_resume() is None


def test_simultaneous_busy_responses_count_once(clock: ManualClock) -> None:
    throttle = Throttle(32, clock)
    start(throttle, "busy", 20)
    for _ in range(10):
        finish(throttle, "busy", 1)
        throttle.on_busy("busy", None)
    finish(throttle, "busy", 10)
    clock.advance(0.5)
    assert [request.limit for request in throttle.plan() if request.tasks] == [9]


def test_retry_after_extends_the_pause(clock: ManualClock) -> None:
    throttle = Throttle(4, clock)
    assert throttle.on_busy("busy", 12.0) == 12.0
    clock.advance(11)
    assert throttle.plan() == [ClaimRequest(4, exclude_tasks=("busy",))]
    clock.advance(1)
    assert ClaimRequest(1, tasks=("busy",)) in throttle.plan()


def test_pauses_double_to_a_maximum_and_reset_after_a_success(clock: ManualClock) -> None:
    throttle = Throttle(4, clock)
    pauses = []
    for _ in range(9):
        pauses.append(throttle.on_busy("busy", None))
        clock.advance(pauses[-1])
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    throttle.on_success("busy")
    assert throttle.on_busy("busy", None) == 0.5


def test_each_success_raises_the_limit_until_it_is_lifted(clock: ManualClock) -> None:
    throttle = Throttle(4, clock)
    throttle.on_busy("busy", None)
    clock.advance(60)
    for limit in (1, 2, 3):
        assert throttle.plan()[-1] == ClaimRequest(limit, tasks=("busy",))
        throttle.on_success("busy")
    assert throttle.plan() == [ClaimRequest(4)]


@given(
    concurrency=st.integers(1, 40),
    events=st.lists(
        st.tuples(st.sampled_from(["busy", "success", "finish", "wait"]), st.sampled_from("abc")), max_size=60
    ),
)
def test_plan_never_exceeds_the_slots_or_a_task_s_limit(concurrency: int, events: list[tuple[str, str]]) -> None:
    """Every request is filled with jobs of one task."""
    clock = ManualClock()
    throttle = with_two_tasks(clock, concurrency)
    running: list[str] = []
    task_limit = concurrency - concurrency // 8
    for event, task in events:
        for request in throttle.plan():
            assert request.limit >= 1
            claimed = request.tasks[0] if request.tasks else next(t for t in "abcd" if t not in request.exclude_tasks)
            for _ in range(min(request.limit, concurrency - len(running))):
                throttle.on_started(claimed)
                running.append(claimed)
        assert len(running) == throttle.running <= concurrency
        assert all(running.count(name) <= task_limit for name in "abcd")
        match event:
            case "busy":
                if task in running:
                    running.remove(task)
                    throttle.on_finished(task)
                throttle.on_busy(task, None)
            case "success":
                throttle.on_success(task)
            case "finish" if task in running:
                running.remove(task)
                throttle.on_finished(task)
            case "wait":
                clock.advance(1)


def test_empty_claim_for_other_tasks_is_repeated_after_a_cooldown_or_a_notification(clock: ManualClock) -> None:
    throttle = with_two_tasks(clock)
    start(throttle, "quick", 14)
    others = [ClaimRequest(2, exclude_tasks=("quick",))]
    throttle.on_empty_claim()
    assert throttle.plan() == []
    assert throttle.seconds_to_resume() == 1.0
    throttle.on_notification()
    assert throttle.plan() == others
    throttle.on_empty_claim()
    clock.advance(1.0)
    assert throttle.plan() == others


def test_jobs_of_a_quick_task_at_its_limit_are_prefetched(clock: ManualClock) -> None:
    throttle = with_two_tasks(clock)
    assert throttle.plan(prefetch=100) == [ClaimRequest(114)]
    start(throttle, "quick", 14)
    plan = throttle.plan(prefetch=100, slow=lambda _: [])
    assert plan == [ClaimRequest(2, exclude_tasks=("quick",)), ClaimRequest(100)]
    assert not throttle.has_capacity("quick")
    assert throttle.has_capacity("another")


def test_jobs_of_slow_tasks_are_not_prefetched(clock: ManualClock) -> None:
    throttle = with_two_tasks(clock)
    start(throttle, "slow", 4)
    start(throttle, "quick", 8)
    slow = lambda tasks: [task for task in tasks if task == "slow"]  # noqa: E731
    plan = throttle.plan(prefetch=100, slow=slow)
    assert plan == [ClaimRequest(4), ClaimRequest(100, exclude_tasks=("slow",))]
    start(throttle, "slow", 10 - 4)
    finish(throttle, "quick", 8)
    start(throttle, "slow", 4)
    start(throttle, "quick", 1)
    assert throttle.plan(prefetch=10, slow=slow) == [ClaimRequest(11, exclude_tasks=("slow",))]
    throttle.on_busy("quick", None)
    assert throttle.plan(prefetch=10, slow=slow) == [ClaimRequest(11, exclude_tasks=("quick", "slow"))]


def test_number_of_remembered_busy_tasks_is_limited(clock: ManualClock) -> None:
    """Enqueuers choose the names of tasks, and each busy task costs a claim."""
    throttle = Throttle(16, clock)
    for number in range(150):
        throttle.on_busy(f"t{number}", None)
        clock.advance(0.001)
    clock.advance(30)
    claims = throttle.plan()
    assert len(claims) == 101
    assert claims[0].exclude_tasks == tuple(sorted(f"t{number}" for number in range(50, 150)))
