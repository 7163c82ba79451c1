"""Slots that several databases share: all for one, turns for several, and none kept by one that does not respond."""

from collections.abc import Callable

import pytest

from jobfn.worker.slots import HOLD_SECONDS, SharedThrottle, SlotPool
from jobfn.worker.throttle import ClaimRequest
from support.clock import ManualClock


class Handle:
    """A call that waits for its time."""

    def __init__(self, loop: "Loop", callback: Callable[[], None]) -> None:
        self._loop = loop
        self.callback = callback

    def cancel(self) -> None:
        self._loop.timers.remove(self)


class Loop:
    """An event loop that the test runs."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.timers: list[Handle] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Handle:
        assert seconds == HOLD_SECONDS
        self.timers.append(Handle(self, callback))
        return self.timers[-1]

    def run_soon(self) -> None:
        while self.soon:
            self.soon.pop(0)()

    def pass_hold_seconds(self) -> None:
        for timer in list(self.timers):
            timer.callback()
        self.run_soon()


class Database:
    """A worker with claimed jobs, which starts one for each slot that it gets."""

    def __init__(self, pool: SlotPool, jobs: int = 0, *, task: str = "x", claims: bool = False) -> None:
        self.throttle: SharedThrottle = pool.throttle(ManualClock(), self._use)
        self.jobs = jobs
        self.task = task
        self.claims = claims

    def _use(self) -> bool:
        self.start()
        return self.claims

    def start(self) -> None:
        while self.throttle.free and self.jobs and self.throttle.has_capacity(self.task):
            self.jobs -= 1
            self.throttle.on_started(self.task)

    def finish(self) -> None:
        self.throttle.on_finished(self.task)
        self.start()

    @property
    def running(self) -> int:
        return self.throttle.running


def open_pool(size: int, loop: Loop) -> SlotPool:
    return SlotPool(size, call_soon=loop.soon.append, call_later=loop.call_later)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def pool(loop: Loop) -> SlotPool:
    return open_pool(4, loop)


def test_database_uses_every_slot_while_the_others_are_idle(pool: SlotPool) -> None:
    busy, _idle = Database(pool, 10), Database(pool)
    busy.start()
    assert (busy.running, busy.throttle.free) == (4, 0)


def test_freed_slots_go_to_the_database_with_the_fewest_until_they_are_equal(pool: SlotPool, loop: Loop) -> None:
    first, second = Database(pool, 100), Database(pool, 100)
    first.start()
    second.start()
    assert (first.running, second.running) == (4, 0)
    shares = []
    for _ in range(4):
        first.finish()
        loop.run_soon()
        shares.append((first.running, second.running))
    assert shares == [(3, 1), (2, 2), (2, 2), (2, 2)]


def test_more_databases_than_slots_take_turns(pool: SlotPool, loop: Loop) -> None:
    databases = [Database(pool, 100) for _ in range(8)]
    for database in databases:
        database.start()
    for _ in range(10):
        for database in [each for each in databases if each.running]:
            database.finish()
            loop.run_soon()
    started = [100 - database.jobs for database in databases]
    assert max(started[1:]) - min(started[1:]) <= 1
    assert started[0] - min(started) <= 4, "it had every slot before the others came"
    assert {database.running for database in databases} == {0, 1}
    assert pool.running == 4


def test_limit_of_a_task_holds_for_all_databases_together(pool: SlotPool, loop: Loop) -> None:
    first, second = Database(pool, 10), Database(pool, 10)
    first.throttle.on_busy("x", 0.0)
    assert second.throttle.plan() == [ClaimRequest(4, exclude_tasks=("x",))], "its function is busy for both"
    second.throttle.has_backlog = False
    first.throttle.on_success("x")
    first.start()
    first.finish()
    loop.run_soon()
    assert first.running + second.running == 4


def test_task_at_its_limit_is_offered_again_when_a_job_of_another_database_ends(loop: Loop) -> None:
    pool = open_pool(16, loop)
    first, second = Database(pool, 100), Database(pool, 100)
    for database in (first, second):
        database.throttle.on_started("other")
        database.throttle.on_finished("other")
    first.start()
    second.start()
    loop.run_soon()
    assert (first.running, second.running) == (14, 0), "two slots are for other tasks"
    first.finish()
    loop.run_soon()
    assert (first.running, second.running) == (14, 0)
    first.jobs = 0
    first.finish()
    loop.run_soon()
    assert (first.running, second.running) == (13, 1)


def test_slots_are_held_for_a_claim_and_free_again_when_it_finds_fewer_jobs(pool: SlotPool, loop: Loop) -> None:
    first, second = Database(pool), Database(pool, 10)
    assert first.throttle.plan() == [ClaimRequest(4)]
    second.start()
    assert second.running == 0
    first.jobs = 1
    first.start()
    first.throttle.has_backlog = False
    loop.run_soon()
    assert (first.running, second.running) == (1, 3)


def test_database_that_does_not_respond_keeps_no_slot(pool: SlotPool, loop: Loop) -> None:
    away, other = Database(pool, claims=True), Database(pool, 10)
    assert away.throttle.plan() == [ClaimRequest(4)]
    other.start()
    assert other.running == 0
    loop.pass_hold_seconds()
    assert other.running == 4
    assert away.throttle.free == 0
    other.finish()
    loop.run_soon()
    assert (other.running, pool.held) == (3, 1), "held for a claim of the one that is away"
    loop.pass_hold_seconds()
    assert (other.running, pool.held) == (4, 0)


def test_slot_that_is_offered_to_a_database_without_work_goes_to_the_next(pool: SlotPool, loop: Loop) -> None:
    busy, idle = Database(pool, 10), Database(pool)
    busy.start()
    assert idle.throttle.free == 0
    busy.finish()
    loop.run_soon()
    assert (busy.running, pool.held) == (4, 0)
