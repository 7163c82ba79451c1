import asyncio
from collections.abc import Callable

import pytest

from jobfn.database.cache import AsyncTTLCache
from support.clock import ManualClock


def counting_cache(clock: ManualClock, *, cost: float = 0.0) -> "tuple[AsyncTTLCache[int], list[int]]":
    """Return a cache whose loader returns 1, 2, 3 and takes ``cost`` seconds, and the loaded values."""
    loaded: list[int] = []

    async def load() -> int:
        clock.seconds += cost
        loaded.append(len(loaded) + 1)
        return loaded[-1]

    return AsyncTTLCache(load, clock), loaded


async def test_cached_value_is_used_until_its_maximum_age() -> None:
    clock = ManualClock(100.0)
    cache, _ = counting_cache(clock)
    assert await cache.get(max_age_seconds=5) == 1
    clock.seconds += 4.9
    assert await cache.get(max_age_seconds=5) == 1
    clock.seconds += 0.2
    assert await cache.get(max_age_seconds=5) == 2
    clock.seconds += 0.1
    assert await cache.get(max_age_seconds=0) == 3


async def test_slow_load_is_cached_for_19_times_its_duration() -> None:
    clock = ManualClock(100.0)
    cache, loaded = counting_cache(clock, cost=0.5)
    assert await cache.get(max_age_seconds=0) == 1
    for _ in range(18):
        clock.seconds += 0.5
        assert await cache.get(max_age_seconds=0) == 1
    clock.seconds += 1.0
    assert await cache.get(max_age_seconds=0) == 2
    assert loaded == [1, 2]


async def test_concurrent_calls_share_one_load() -> None:
    clock = ManualClock(100.0)
    gate = asyncio.Event()
    loads = 0

    async def load() -> int:
        nonlocal loads
        loads += 1
        clock.seconds += 0.001
        await gate.wait()
        return loads

    cache = AsyncTTLCache(load, clock)
    waiting = [asyncio.create_task(cache.get(max_age_seconds=0)) for _ in range(10)]
    await asyncio.sleep(0)
    gate.set()
    assert await asyncio.gather(*waiting) == [1] * 10


async def test_none_is_cached() -> None:
    clock, load_times = ManualClock(100.0), []

    async def load() -> int | None:
        load_times.append(clock())
        return None

    cache = AsyncTTLCache(load, clock)
    for _ in range(3):
        assert await cache.get(max_age_seconds=5) is None
        clock.seconds += 2
    assert load_times == [100.0]


async def test_error_is_not_cached() -> None:
    results: list[Callable[[], int]] = [lambda: 1 // 0, lambda: 7]

    async def load() -> int:
        return results.pop(0)()

    cache = AsyncTTLCache(load, ManualClock(100.0))
    with pytest.raises(ZeroDivisionError):
        await cache.get(max_age_seconds=0)
    assert await cache.get(max_age_seconds=0) == 7
