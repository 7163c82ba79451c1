"""How many jobs of which task are taken: fairness, and backpressure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.worker.throttle import (
    EMPTY_CLAIM_COOLDOWN_SECONDS,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Ask,
    Throttle,
)


class Clock:
    """Time that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fill(throttle: Throttle, task: str, count: int) -> None:
    for _ in range(count):
        throttle.started(task)


def test_at_first_everything_is_asked_for(clock: Clock) -> None:
    """An idle worker asks for any task; a small one for all its slots, a larger one for a task's share of them."""
    assert Throttle(3, clock).plan() == [Ask(3)]
    assert Throttle(16, clock).plan() == [Ask(14)]


def test_one_task_leaves_some_slots_to_others(clock: Clock) -> None:
    """When a task has its share, the slots that are left are asked for without it."""
    throttle = Throttle(16, clock)
    fill(throttle, "slow", 14)
    assert throttle.plan() == [Ask(2, exclude_tasks=("slow",))]
    fill(throttle, "quick", 2)
    assert throttle.plan() == []
    throttle.ended("quick")
    assert throttle.plan() == [Ask(1, exclude_tasks=("slow",))]


def test_a_busy_task_is_left_alone_and_then_asked_less(clock: Clock) -> None:
    """After 'busy' the task is paused, then limited to half of what ran; the others go on as before."""
    throttle = Throttle(16, clock)
    fill(throttle, "busy", 8)
    throttle.ended("busy")
    assert throttle.on_busy("busy", None) == FIRST_PAUSE_SECONDS
    fill_down(throttle, "busy", 7)
    assert throttle.plan() == [Ask(14, exclude_tasks=("busy",))]
    assert throttle.seconds_to_resume() == FIRST_PAUSE_SECONDS
    clock.now += FIRST_PAUSE_SECONDS
    assert throttle.seconds_to_resume() is None
    assert throttle.plan() == [Ask(14, exclude_tasks=("busy",)), Ask(3, only=("busy",))]


def fill_down(throttle: Throttle, task: str, count: int) -> None:
    for _ in range(count):
        throttle.ended(task)


def test_refusals_that_come_together_count_once(clock: Clock) -> None:
    """Ten jobs refused in the same moment halve the limit once."""
    throttle = Throttle(32, clock)
    fill(throttle, "busy", 20)
    for _ in range(10):
        throttle.ended("busy")
        throttle.on_busy("busy", None)
    fill_down(throttle, "busy", 10)
    clock.now += FIRST_PAUSE_SECONDS
    (ask,) = [ask for ask in throttle.plan() if ask.only]
    assert ask.limit == 9


def test_a_retry_after_is_kept(clock: Clock) -> None:
    """The function's own word on when to come back goes before a shorter pause of ours."""
    throttle = Throttle(4, clock)
    assert throttle.on_busy("busy", 12.0) == 12.0
    clock.now += 11
    assert throttle.plan() == [Ask(4, exclude_tasks=("busy",))]
    clock.now += 1
    assert Ask(1, only=("busy",)) in throttle.plan()


def test_pauses_grow_to_a_limit_and_end_with_success(clock: Clock) -> None:
    """Refused again and again, the pause doubles up to half a minute; after a job that went well it starts anew."""
    throttle = Throttle(4, clock)
    pauses = []
    for _ in range(9):
        pauses.append(throttle.on_busy("busy", None))
        clock.now += pauses[-1]
    assert pauses == [0.5, 1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    throttle.on_success("busy")
    assert throttle.on_busy("busy", None) == 0.5


def test_success_lifts_the_limit(clock: Clock) -> None:
    """Each job that goes well raises the limit by one, until the task is like any other."""
    throttle = Throttle(4, clock)
    throttle.on_busy("busy", None)
    clock.now += 60
    for limit in (1, 2, 3):
        assert throttle.plan()[-1] == Ask(limit, only=("busy",))
        throttle.on_success("busy")
    assert throttle.plan() == [Ask(4)]


@given(
    concurrency=st.integers(1, 40),
    events=st.lists(st.tuples(st.sampled_from(["busy", "well", "end", "wait"]), st.sampled_from("abc")), max_size=60),
)
def test_slots_are_never_overdrawn(concurrency: int, events: list[tuple[str, str]]) -> None:
    """Whatever happens, filling every ask with one task exceeds neither the slots nor that task's share."""
    clock = Clock()
    throttle = Throttle(concurrency, clock)
    running: list[str] = []
    share = concurrency - concurrency // 8
    for event, task in events:
        for ask in throttle.plan():
            assert ask.limit >= 1
            filler = ask.only[0] if ask.only else next(name for name in "abcd" if name not in ask.exclude_tasks)
            for _ in range(min(ask.limit, concurrency - len(running))):
                throttle.started(filler)
                running.append(filler)
        assert len(running) == throttle.running <= concurrency
        assert all(running.count(name) <= share for name in "abcd")
        match event:
            case "busy":
                if task in running:
                    running.remove(task)
                    throttle.ended(task)
                throttle.on_busy(task, None)
            case "well":
                throttle.on_success(task)
            case "end" if task in running:
                running.remove(task)
                throttle.ended(task)
            case "wait":
                clock.now += 1


def test_others_are_not_looked_for_at_every_end(clock: Clock) -> None:
    """When there was nothing beside a task with its share: again after a second, or at news."""
    throttle = Throttle(16, clock)
    fill(throttle, "quick", 14)
    others = [Ask(2, exclude_tasks=("quick",))]
    assert throttle.plan() == others
    throttle.on_empty_claim()
    assert throttle.plan() == []
    assert throttle.seconds_to_resume() == EMPTY_CLAIM_COOLDOWN_SECONDS
    throttle.on_notification()
    assert throttle.plan() == others
    throttle.on_empty_claim()
    clock.now += EMPTY_CLAIM_COOLDOWN_SECONDS
    assert throttle.plan() == others


def test_jobs_of_a_task_with_its_share_are_taken_ahead(clock: Clock) -> None:
    """They wait for a slot of their own task; what is free of the others is asked for without it."""
    throttle = Throttle(16, clock)
    assert throttle.plan(ahead=100) == [Ask(114)]
    fill(throttle, "quick", 14)
    assert throttle.plan(ahead=100) == [Ask(2, exclude_tasks=("quick",)), Ask(100)]
    assert not throttle.has_capacity("quick")
    assert throttle.has_capacity("another")
