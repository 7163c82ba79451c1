"""Servers that vanish without a word: connections and statements end after a limit, and the next host is used."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from jobfn.database.connection import connect, open_pool
from jobfn.errors import ConfigurationError, DatabaseUnreachable
from jobfn.function.database import MAX_POOL_SIZE, DatabasePool, JobDatabase
from jobfn.http.server import bind
from support.freezing_proxy import FreezingProxy
from support.network import LOOPBACK


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[FreezingProxy]:
    async with FreezingProxy(database).serve() as running:
        yield running


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Port of a server that accepts connections and never answers."""
    with contextlib.closing(bind(LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


def socket_of(connection: "asyncpg.Connection[Any]") -> Any:
    return connection._transport.get_extra_info("socket")  # noqa: SLF001  - asyncpg does not show it


def tcp_options(connection: "asyncpg.Connection[Any]") -> list[int]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
    return [socket_of(connection).getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]


async def test_connections_find_out_that_their_server_has_vanished(proxy: FreezingProxy) -> None:
    connection = await connect(proxy.dsn, application_name="test")
    assert socket_of(connection).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert tcp_options(connection) == [5, 2, 3, 10_000]
    await connection.close()
    async with open_pool(proxy.dsn, application_name="test", size=1) as pool, pool.acquire() as pooled:
        assert tcp_options(pooled) == [5, 2, 3, 10_000]


@contextlib.asynccontextmanager
async def open_job_database(proxy: FreezingProxy, *, timeout_seconds: float = 10.0) -> AsyncIterator[JobDatabase]:
    """Open the database of a handler."""
    pool = DatabasePool(timeout_seconds=timeout_seconds)
    database = JobDatabase(pool, {"DATABASE_URL": proxy.dsn}, database_id=None, actor_id=None)
    try:
        yield database
    finally:
        await database.aclose()
        await pool.aclose()


async def test_connections_of_handlers_find_out_that_their_server_has_vanished(proxy: FreezingProxy) -> None:
    async with open_job_database(proxy) as database:
        assert tcp_options(await database.connection()) == [5, 2, 3, 10_000]


async def test_handler_does_not_wait_for_a_session_that_answers_nothing(proxy: FreezingProxy) -> None:
    async with asyncio.timeout(30), open_job_database(proxy, timeout_seconds=0.5) as database:
        assert await database.fetchval("select 1") == 1
        proxy.freeze()
        await database.aclose()  # the session cannot be reset
        proxy.thaw()
        assert await database.fetchval("select 2") == 2
        await database.aclose()
        proxy.freeze()
        with pytest.raises(DatabaseUnreachable, match=r"ctx\.db: the database did not respond in 0\.5 seconds"):
            await database.fetchval("select 3")  # the tenant cannot be set
        proxy.thaw()
        assert await database.fetchval("select 4") == 4


async def test_cancelled_handlers_return_their_connections(proxy: FreezingProxy) -> None:
    pool = DatabasePool()
    databases = [
        JobDatabase(pool, {"DATABASE_URL": proxy.dsn}, database_id=None, actor_id=None) for _ in range(MAX_POOL_SIZE)
    ]
    async with asyncio.timeout(30):
        assert [await database.fetchval("select 1") for database in databases] == [1] * MAX_POOL_SIZE
        proxy.freeze()
        closing = [asyncio.create_task(database.aclose()) for database in databases]
        await asyncio.sleep(0.1)
        for task in closing:
            task.cancel()
        await asyncio.wait(closing)
        proxy.thaw()
        assert await databases[0].fetchval("select 2") == 2
        await databases[0].aclose()
        await pool.aclose()


async def test_address_sets_the_keepalive_of_its_connections(proxy: FreezingProxy) -> None:
    options = "keepalives_idle=30&keepalives_interval=7&keepalives_count=4&tcp_user_timeout=20000&connect_timeout=3"
    connection = await connect(f"{proxy.dsn}&{options}", application_name="test")
    assert tcp_options(connection) == [30, 7, 4, 20_000]
    await connection.close()
    connection = await connect(f"{proxy.dsn}&keepalives=0&tcp_user_timeout=0", application_name="test")
    assert socket_of(connection).getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    await connection.close()


async def test_server_notices_a_client_that_has_vanished(proxy: FreezingProxy) -> None:
    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_user_timeout", "client_connection_check_interval")
    query = "select count(*) from pg_settings where name = any ($1) and source = 'client'"
    async with open_pool(proxy.dsn, application_name="test", size=1) as pool:
        assert await pool.fetchval(query, names) == 4
    async with open_job_database(proxy) as database:
        assert await database.fetchval(query, names) == 4
    async with open_pool(f"{proxy.dsn}&client_connection_check_interval=7s", application_name="test", size=1) as pool:
        assert await pool.fetchval("show client_connection_check_interval") == "7s"


async def test_second_host_is_used_if_the_first_one_is_silent(proxy: FreezingProxy, silent_port: int) -> None:
    hosts = f"@{LOOPBACK}:{silent_port},{LOOPBACK}:{proxy.port}/"
    dsn = proxy.dsn.replace(f"@{LOOPBACK}:{proxy.port}/", hosts) + "&connect_timeout=1"
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30), open_pool(dsn, application_name="test", size=2) as pool:
        assert await pool.fetchval("select 1") == 1
        async with pool.acquire():
            started_at = loop.time()
            assert await pool.fetchval("select 1") == 1  # another connection: the host that answered comes first
            assert loop.time() - started_at < 0.9


async def test_error_names_each_host(silent_port: int) -> None:
    dsn = f"postgresql://postgres@{LOOPBACK}:{silent_port},{LOOPBACK}:1/shop?connect_timeout=1&sslmode=disable"
    with pytest.raises(DatabaseUnreachable) as raised:
        await connect(dsn, application_name="test")
    assert f"{LOOPBACK}:{silent_port}: no response in time; {LOOPBACK}:1: " in str(raised.value)


async def test_statement_of_a_pool_ends_without_an_answer(proxy: FreezingProxy) -> None:
    async with (
        asyncio.timeout(30),
        open_pool(proxy.dsn, application_name="test", size=1, statement_timeout_seconds=0.2) as pool,
    ):
        assert await pool.fetchval("select 1") == 1
        proxy.freeze()
        with pytest.raises(TimeoutError):
            await pool.fetchval("select 2")
        proxy.thaw()
        assert await pool.fetchval("select 3") == 3


async def test_cancelled_statement_does_not_block_the_pool(proxy: FreezingProxy) -> None:
    async def run_transaction(database: JobDatabase) -> None:
        async with database.transaction() as connection:
            await connection.execute("select 2")

    async with (
        asyncio.timeout(30),
        open_pool(proxy.dsn, application_name="test", size=1) as pool,
        open_job_database(proxy) as database,
    ):
        assert await pool.fetchval("select 1") == await database.fetchval("select 1") == 1
        proxy.freeze()
        cancelled = [asyncio.create_task(pool.fetchval("select 2")), asyncio.create_task(run_transaction(database))]
        await asyncio.sleep(0.1)
        for task in cancelled:
            task.cancel()
        await asyncio.wait(cancelled)  # they end when the connection is released, and the transaction rolled back
        assert cancelled[0].cancelled()
        await database.aclose()
        proxy.thaw()
        assert await pool.fetchval("select 3") == await database.fetchval("select 3") == 3


async def test_statement_that_exceeds_its_limit_ends_in_the_server(proxy: FreezingProxy) -> None:
    async with open_pool(proxy.dsn, application_name="slow", size=1, statement_timeout_seconds=0.2) as pool:
        with pytest.raises(TimeoutError):
            await pool.fetchval("select pg_sleep(60)")
        running = "select count(*) from pg_stat_activity where query like 'select pg_sleep%' and state = 'active'"
        assert await pool.fetchval(running) == 0


@pytest.mark.parametrize("option", ["keepalives_idle=soon", "connect_timeout=-x", "tcp_user_timeout=1.5"])
async def test_option_that_is_not_a_number_is_refused(option: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        await connect(f"postgresql://db/shop?{option}", application_name="test")
    assert f"{option.partition('=')[0]} must be a whole number" in str(raised.value)


async def test_server_of_the_wrong_kind_is_refused(proxy: FreezingProxy) -> None:
    with pytest.raises(DatabaseUnreachable) as raised:
        await connect(f"{proxy.dsn}&target_session_attrs=standby", application_name="test")
    assert "the server is not what target_session_attrs=standby asks for" in str(raised.value)
