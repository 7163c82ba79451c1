"""Detect a connection pooler, such as PgBouncer, between this process and PostgreSQL.

In transaction mode a pooler gives each transaction any of its sessions. Then settings of the session, session locks and
LISTEN do not work, and prepared statements only if the pooler renames them (``max_prepared_statements`` of PgBouncer).
Connections are asyncpg's.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from jobfn.errors import ConfigurationError

_PID: Final = "select pg_backend_pid()"
_DUPLICATE_PREPARED_STATEMENT: Final = "42P05"


class Pooling(NamedTuple):
    """Behaviour of a pooler. Default: there is none, or each client has its own session.

    Attributes:
        shares_sessions: Whether other clients use the same sessions, in transaction mode.
        keeps_statements: Whether prepared statements work.
    """

    shares_sessions: bool = False
    keeps_statements: bool = True


async def is_pooled(connection: Any) -> bool:
    """Return whether a pooler answers instead of PostgreSQL: it gives clients other process ids than PostgreSQL's."""
    return bool(await _session(connection) != connection.get_server_pid())


async def detect_pooling(connection: Any, open_connection: Callable[[], Awaitable[Any]]) -> Pooling:
    """Return what the pooler does through which this connection leads, if there is one.

    Args:
        connection: An open connection.
        open_connection: Opens another one to the same address, with ``statement_cache_size=0``.

    Raises:
        ConfigurationError: The pooler is in statement mode, which allows no transactions.
    """
    if not await is_pooled(connection):
        return Pooling()
    other = await open_connection()
    try:
        await _refuse_statement_mode(other)
        sessions: dict[Any, set[int | None]] = {connection: set(), other: set()}
        for probed in (connection, other, other, connection, connection, other):
            sessions[probed].add(await _session(probed))
        first, second = sessions.values()
        if len(first) == len(second) == 1 and first != second and None not in first:
            return Pooling()
        return Pooling(shares_sessions=True, keeps_statements=await _renames_statements(other))
    finally:
        other.terminate()


async def _session(connection: Any) -> int | None:
    """Return the id of the session's process; None if another client has prepared a statement there.

    The text is new each time, because a statement that is prepared already could be another client's there.
    """
    try:
        pid: int = await connection.fetchval(f"{_PID} -- {secrets.token_hex(4)}")
    except Exception as error:
        if getattr(error, "sqlstate", None) != _DUPLICATE_PREPARED_STATEMENT:
            raise
        return None
    return pid


async def _refuse_statement_mode(connection: Any) -> None:
    try:
        async with connection.transaction():
            await connection.fetchval(_PID)
    except Exception as error:
        if "statement pooling" not in str(error):
            raise
        raise ConfigurationError(
            "the connection pooler is in statement mode, which allows no transactions: set its pool_mode to "
            "transaction or session, or use PostgreSQL's own address"
        ) from error


async def _renames_statements(connection: Any) -> bool:
    """Return whether PostgreSQL does not have a statement under its own name: then the pooler finds it again."""
    name = f"jobfn_{secrets.token_hex(8)}"
    async with connection.transaction():
        statement = await connection.prepare("select 1", name=name)
        names = await connection.fetchval("select array(select name from pg_prepared_statements)")
        del statement  # asyncpg closes it with the next statement
    return name not in names
