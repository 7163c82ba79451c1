"""Open connections to PostgreSQL: one host after the other, each with its own time limit.

The driver's own time limit covers all hosts together, so that a silent first host would leave no time for the second.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import asyncpg

from jobfn.sql.address import DatabaseAddress, Host

Initialize = Callable[["asyncpg.Connection[Any]"], Awaitable[None]]

#: Let the server find out that this process has vanished, and end its session, which may hold locks. The server's own
#: settings detect that after two hours or, while a response is not acknowledged, a quarter of an hour.
SERVER_TIMEOUTS: Final[Mapping[str, str]] = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
    "client_connection_check_interval": "10s",
}
#: Timeout for the server's confirmation that a statement was cancelled. Then its connection is closed.
_CANCEL_TIMEOUT_SECONDS = 5.0
#: Errors of a host after which the next one is tried.
_HOST_ERRORS = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
)
#: The host of the last connection, by address: a host that has vanished costs its time limit once.
_last_hosts: dict[DatabaseAddress, Host] = {}
#: Addresses whose server, or a pooler, does not accept settings at the login.
_without_settings: set[DatabaseAddress] = set()


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # asyncpg has no types
    """A connection that is closed if the server does not confirm a cancellation: it would block its pool."""

    async def _cancel(
        self, waiter: "asyncio.Future[None]", cancel_waiter: "asyncio.Future[None] | None" = None
    ) -> None:
        closing = asyncio.get_running_loop().call_later(_CANCEL_TIMEOUT_SECONDS, self.terminate)
        try:
            await super()._cancel(waiter, cancel_waiter)
        finally:
            closing.cancel()


async def open_connection(
    address: DatabaseAddress,
    *,
    settings: dict[str, str],
    timeouts: Mapping[str, str] = SERVER_TIMEOUTS,
    initialize: Initialize | None = None,
    **options: Any,
) -> "asyncpg.Connection[Any]":
    """Open a connection to the first host that accepts it.

    Args:
        address: The address.
        settings: Settings of the session.
        timeouts: Settings that a pooler or an old server may refuse: then they are left out. The address's own take
            precedence.
        initialize: Prepares the connection, within the same time limit.
        options: Arguments of ``asyncpg.connect``.

    Raises:
        ConnectionError: No host accepts the connection. The message names each.
        Exception: The only host does not accept it, or one of several rejects the login.
    """
    extra = {name: value for name, value in timeouts.items() if name not in address.parameters}
    if address not in _without_settings:
        try:
            return await _open_any(address, settings=settings | extra, initialize=initialize, options=options)
        except asyncpg.PostgresError as error:
            if "parameter" not in str(error) or not extra:
                raise
        connection = await _open_any(address, settings=settings, initialize=initialize, options=options)
        _without_settings.add(address)
        return connection
    return await _open_any(address, settings=settings, initialize=initialize, options=options)


async def _open_any(
    address: DatabaseAddress, *, settings: dict[str, str], initialize: Initialize | None, options: dict[str, Any]
) -> "asyncpg.Connection[Any]":
    if not address.hosts:
        return await _open(address, None, settings, initialize, options)
    last = _last_hosts.get(address)
    problems: list[str] = []
    for host in sorted(address.hosts, key=lambda host: host != last):
        try:
            connection = await _open(address, host, settings, initialize, options)
        except asyncpg.ProtocolViolationError:  # a pooler that does not know a setting
            raise
        except _HOST_ERRORS as error:
            problems.append(f"{host}: {str(error) or 'no response in time'}")
        else:
            _last_hosts[address] = host
            return connection
    raise ConnectionError("; ".join(problems))


async def _open(
    address: DatabaseAddress,
    host: Host | None,
    settings: dict[str, str],
    initialize: Initialize | None,
    options: dict[str, Any],
) -> "asyncpg.Connection[Any]":
    options = {**options, "connection_class": _Connection}
    if host is not None:
        options |= {"host": host.name, "port": host.port}
    target = address.target_session_attrs
    async with asyncio.timeout(address.connect_timeout_seconds):
        try:
            connection: asyncpg.Connection[Any] = await asyncpg.connect(
                address.dsn, server_settings=settings, timeout=None, target_session_attrs=target, **options
            )
        except asyncpg.TargetServerAttributeNotMatched:
            wrong = "a standby" if target == "primary" else f"not what target_session_attrs={target} asks for"
            raise ConnectionError(f"the server is {wrong}") from None
        try:
            address.keepalive.apply(connection._transport.get_extra_info("socket"))  # noqa: SLF001  - not public
            if initialize is not None:
                await initialize(connection)
        except BaseException:
            with contextlib.suppress(Exception):
                connection.terminate()
            raise
    return connection
