"""The scheduler's loop: when it polls again, which errors it survives, and how it stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from jobfn.scheduler.scheduler import Scheduler

NEVER = 3600.0


class FakePoller:
    """Returns the given results, then None; counts its calls."""

    def __init__(self, *results: float | Exception | None) -> None:
        self._results = list(results)
        self._polled = asyncio.Condition()
        self.polls = 0
        self.is_started = False
        self.is_stopped = False

    async def start(self) -> None:
        self.is_started = True

    async def poll(self) -> float | None:
        async with self._polled:
            self.polls += 1
            self._polled.notify_all()
        result = self._results.pop(0) if self._results else None
        if isinstance(result, Exception):
            raise result
        return result

    async def stop(self) -> None:
        self.is_stopped = True

    async def until_polled(self, times: int) -> None:
        async with asyncio.timeout(10), self._polled:
            await self._polled.wait_for(lambda: self.polls >= times)


@contextlib.asynccontextmanager
async def running(
    poller: FakePoller, *, poll_interval_seconds: float = NEVER
) -> AsyncIterator[tuple[asyncio.Event, "asyncio.Task[None]"]]:
    """Run a scheduler; yields its wake event and its task."""
    wake_event, stop = asyncio.Event(), asyncio.Event()
    scheduler = Scheduler(poller, wake_event=wake_event, poll_interval_seconds=poll_interval_seconds)
    task = asyncio.create_task(scheduler.run(stop))
    yield wake_event, task
    stop.set()
    await task


async def test_scheduler_polls_again_when_the_next_schedule_is_due() -> None:
    poller = FakePoller(0.01, 0.01)
    async with running(poller):
        await poller.until_polled(3)
        await asyncio.sleep(0)
        assert poller.polls == 3


@pytest.mark.parametrize("seconds", [None, NEVER])
async def test_scheduler_polls_at_least_once_per_interval(seconds: float | None) -> None:
    poller = FakePoller(seconds, seconds)
    async with running(poller, poll_interval_seconds=0.01):
        await poller.until_polled(3)


async def test_wake_event_ends_the_sleep() -> None:
    poller = FakePoller()
    async with running(poller) as (wake_event, _):
        await poller.until_polled(1)
        wake_event.set()
        await poller.until_polled(2)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(),
        asyncpg.QueryCanceledError("statement timeout"),
        asyncpg.UndefinedTableError("no such table"),
    ],
)
async def test_error_of_the_database_is_retried(error: Exception) -> None:
    poller = FakePoller(0.0, error)
    async with running(poller):
        await poller.until_polled(3)


@pytest.mark.parametrize("error", [KeyError("a bug"), asyncpg.InsufficientPrivilegeError("permission denied")])
async def test_other_errors_and_missing_rights_at_the_start_end_the_scheduler(error: Exception) -> None:
    poller = FakePoller(error)
    with pytest.raises(type(error)):
        async with running(poller) as (_, task):
            await asyncio.wait({task})
    assert poller.is_stopped


async def test_stop_cancels_a_running_poll_and_stops_the_poller() -> None:
    class HangingPoller(FakePoller):
        async def poll(self) -> float | None:
            await super().poll()
            await asyncio.Event().wait()
            raise AssertionError

    poller = HangingPoller()
    async with running(poller):
        await poller.until_polled(1)
    assert (poller.is_started, poller.is_stopped) == (True, True)
