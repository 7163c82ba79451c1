"""Limits for operators."""

from datetime import timedelta

import pytest

from jobfn.errors import ConfigurationError
from jobfn.limits import parse_rate
from jobfn.operations import Operations
from support.jobs import Jobs
from support.limits import claim, held


async def test_limits_are_listed_with_what_they_count(operations: Operations, jobs: Jobs) -> None:
    await operations.set_limit("all", rate=parse_rate("100/minute"), pauses_on_retry_later=True)
    await operations.set_limit("sync", task="sync", per="payload.customer", concurrency=1)
    for customer in ("a", "a", "a", "b"):
        await jobs.add("sync", {"customer": customer})
    assert len(await claim(jobs.connection, 10)) == 2
    await operations.pause_limit_key("sync", "c", duration=timedelta(minutes=5))
    every, sync = await operations.limits()
    assert (every.name, every.rate, every.concurrency, every.starts, every.running, every.held) == (
        *("all", "100/minute", None, 2, 0, 0),
    )
    assert (every.pauses_on_retry_later, sync.pauses_on_retry_later) == (True, False)
    assert (sync.task, sync.queue, sync.per, sync.set_by) == ("sync", None, "payload.customer", "operator")
    assert (sync.running, sync.held, sync.starts) == (2, 2, 0)
    assert [(key.key, key.running, key.held) for key in sync.keys] == [("a", 1, 2), ("b", 1, 0), ("c", 0, 0)]
    assert [key.paused_until is not None for key in sync.keys] == [False, False, True]


async def test_a_removed_limit_releases_its_jobs(operations: Operations, jobs: Jobs) -> None:
    await operations.set_limit("sync", task="sync", concurrency=1)
    for _ in range(2):
        await jobs.add("sync")
    await claim(jobs.connection, 10)
    assert len(await held(jobs.connection)) == 1
    await operations.remove_limit("sync")
    assert await operations.limits() == ()
    assert len(await claim(jobs.connection, 10)) == 1


async def test_unknown_and_empty_limits_are_refused(operations: Operations) -> None:
    with pytest.raises(ConfigurationError, match="there is no limit 'x': `jobfn limits list` shows them"):
        await operations.remove_limit("x")
    with pytest.raises(ConfigurationError, match="there is no limit 'x'"):
        await operations.pause_limit_key("x", duration=None)
    with pytest.raises(ConfigurationError, match="give it a concurrency, a rate or both"):
        await operations.set_limit("x", task="sync")


async def test_the_platforms_schema_has_no_limits(platform_operations: Operations) -> None:
    with pytest.raises(ConfigurationError, match="the platform's own and has no limits"):
        await platform_operations.limits()
    with pytest.raises(ConfigurationError, match="the platform's own and has no limits"):
        await platform_operations.set_limit("x", concurrency=1)
