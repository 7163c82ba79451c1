"""How far ahead a worker takes jobs."""

from jobfn.worker.prefetch import MOST, PREFETCH_TTL_SECONDS, PREFETCH_WINDOW_SECONDS, WINDOW_SECONDS, Pace


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_nothing_is_taken_ahead_at_first() -> None:
    """No job has shown its pace yet."""
    assert Pace(Clock()).ahead() == 0


def test_quick_jobs_are_taken_ahead() -> None:
    """As many as run in a moment, by what ran in the last window; the window stays until the next one is full."""
    clock = Clock()
    pace = Pace(clock)
    for _ in range(200):
        pace.ended()
    clock.now += WINDOW_SECONDS * 2
    expected = int(100 / WINDOW_SECONDS * PREFETCH_WINDOW_SECONDS)
    assert pace.ahead() == expected
    clock.now += WINDOW_SECONDS / 2
    assert pace.ahead() == expected
    clock.now += WINDOW_SECONDS * 2
    assert pace.ahead() == 0


def test_there_is_a_most() -> None:
    """However quick they are."""
    clock = Clock()
    pace = Pace(clock)
    for _ in range(1_000_000):
        pace.ended()
    clock.now += WINDOW_SECONDS * 2
    assert pace.ahead() == MOST


def test_slow_jobs_are_left_to_others() -> None:
    """One a second: none is taken ahead."""
    clock = Clock()
    pace = Pace(clock)
    for _ in range(5):
        clock.now += 1
        pace.ended()
        assert pace.ahead() == 0


def test_what_is_ahead_gets_stale() -> None:
    """When nothing has ended for a while."""
    clock = Clock()
    pace = Pace(clock)
    found = [pace.is_stale]
    clock.now += 2 * PREFETCH_TTL_SECONDS
    found.append(pace.is_stale)
    pace.ended()
    assert [*found, pace.is_stale] == [False, True, False]
