"""A listener logs that notifications do not arrive, and listens on another connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from jobfn.worker.listener import Listener
from support.freezing_proxy import FreezingProxy
from support.network import until_logged


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[FreezingProxy]:
    async with FreezingProxy(database).serve() as running:
        yield running


@contextlib.asynccontextmanager
async def listening(listener: Listener) -> AsyncIterator[None]:
    task = asyncio.create_task(listener.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def wait_for(event: asyncio.Event) -> None:
    async with asyncio.timeout(20):
        await event.wait()
    event.clear()


async def test_server_that_vanishes_is_noticed(
    proxy: FreezingProxy, pool: "asyncpg.Pool[Any]", capsys: pytest.CaptureFixture[str]
) -> None:
    woken = asyncio.Event()
    listener = Listener(proxy.dsn, woken, pool=pool, check_interval_seconds=0.2, check_timeout_seconds=2.0)
    async with listening(listener):
        await wait_for(woken)
        proxy.freeze()
        output = await until_logged(capsys, "listener connection lost, reconnecting", seconds=20)
        assert "a notification did not arrive within 2 s" in output
        proxy.thaw()
        await wait_for(woken)  # connected again: notifications may have been missed
        await pool.execute("select pg_notify('jobs:insert', '')")
        await wait_for(woken)


async def test_notifications_that_are_dropped_are_noticed(
    proxy: FreezingProxy, pool: "asyncpg.Pool[Any]", capsys: pytest.CaptureFixture[str]
) -> None:
    """The connection answers, so that no option of TCP helps."""
    woken = asyncio.Event()
    listener = Listener(proxy.dsn, woken, pool=pool, check_interval_seconds=0.1, check_timeout_seconds=1.0)
    proxy.drops_notifications = True
    async with listening(listener):
        output = await until_logged(capsys, "notifications not received", seconds=20)
        assert "a notification did not arrive within 1 s" in output
        assert not woken.is_set()
        proxy.drops_notifications = False
        await wait_for(woken)


async def test_connection_that_receives_notifications_is_kept(
    proxy: FreezingProxy, pool: "asyncpg.Pool[Any]", capsys: pytest.CaptureFixture[str]
) -> None:
    woken = asyncio.Event()
    listener = Listener(proxy.dsn, woken, pool=pool, check_interval_seconds=0.05, check_timeout_seconds=10.0)
    backends = (
        "select pid, query from pg_stat_activity"
        " where datname = current_database() and application_name = 'jobfn-listener'"
    )
    async with listening(listener):
        await wait_for(woken)
        first = [row["pid"] for row in await pool.fetch(backends)]
        await asyncio.sleep(0.5)  # several checks
        assert [row["pid"] for row in await pool.fetch(backends)] == first
        assert not woken.is_set()  # the listener's own notifications do not wake the worker
    assert "listener connection lost" not in capsys.readouterr().out


async def test_further_channels_share_the_connection(proxy: FreezingProxy, pool: "asyncpg.Pool[Any]") -> None:
    woken = asyncio.Event()
    received: asyncio.Queue[str] = asyncio.Queue()
    listener = Listener(proxy.dsn, woken, pool=pool, handlers={"jobs:other": received.put_nowait})
    backends = (
        "select pid from pg_stat_activity where datname = current_database() and application_name = 'jobfn-listener'"
    )
    async with listening(listener), asyncio.timeout(20):
        assert await received.get() == ""  # connected: notifications may have been missed
        await wait_for(woken)
        await pool.execute("select pg_notify('jobs:other', 'payload')")
        assert await received.get() == "payload"
        assert not woken.is_set()
        (backend,) = await pool.fetch(backends)
        await pool.execute("select pg_terminate_backend($1)", backend["pid"])
        assert await received.get() == ""
