"""How PostgreSQL is reached: an address from the settings, a pool, and driver errors made readable.

Read next: ``jobs.py``, which runs statements on these connections.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import asyncpg
import stamina

from jobfn.errors import ConfigurationError, DatabaseUnreachable
from jobfn.telemetry.metrics import Counter

T = TypeVar("T")

CONNECT_SECONDS = 10.0

#: How often this process has lost its database and found it again. A number of the process's, for its metrics.
RECONNECTS = Counter([()])

#: Where a password can stand in an address: before the host, whatever characters it holds, in the query, or in libpq's
#: own form of key=value, which a user may try.
_PASSWORDS = (
    (re.compile(r"(://[^:/?#@]*):.*@", re.DOTALL), r"\1:***@"),
    (re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE), r"\1***"),
    (re.compile(r"((?:^|\s)password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE), r"\1***"),
)

#: What a statement raises when the connection or the moment, not the statement, is at fault: wait and try again.
CONNECTION_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    DatabaseUnreachable,
    # nothing of the statement was done: it was chosen to end a deadlock, with a user's transaction perhaps
    asyncpg.TransactionRollbackError,
    # what the driver makes of a connection that the server ended while this process stood still
    asyncpg.InternalClientError,
)


def dsn_from_env(environ: Mapping[str, str]) -> str | None:
    """The database that the environment names: ``DATABASE_URL``, else None, and the driver reads ``PG*`` itself."""
    return environ.get("DATABASE_URL") or None


def has_database(environ: Mapping[str, str]) -> bool:
    """Whether the environment names a database at all: ``DATABASE_URL``, or ``PG*`` with a host or a database."""
    return any(environ.get(name) for name in ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGSERVICE"))


def shown(dsn: str | None) -> str:
    """An address fit for a message or a log: without its password."""
    if dsn is None:
        return "the database of PGHOST, PGPORT, PGUSER, PGDATABASE"
    for password, blanked in _PASSWORDS:
        dsn = password.sub(blanked, dsn)
    return dsn


async def connect(dsn: str | None, *, application_name: str) -> "asyncpg.Connection[Any]":
    """One connection.

    Args:
        dsn: ``postgresql://...``; None for the ``PG*`` variables and the client's own defaults.
        application_name: What ``pg_stat_activity`` shows.

    Raises:
        DatabaseUnreachable: No connection can be made; names the address and the reason.
        ConfigurationError: The address is no address.
    """
    with translate_errors(dsn):
        return await asyncpg.connect(
            dsn, timeout=CONNECT_SECONDS, server_settings={"application_name": application_name}
        )


@contextlib.asynccontextmanager
async def pool(dsn: str | None, *, application_name: str, size: int) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """A pool of at most ``size`` connections, closed with the block. Arguments and errors as ``connect``."""
    with translate_errors(dsn):
        created = await asyncpg.create_pool(
            dsn,
            min_size=0,  # or asyncpg would log a traceback a second for it while the database is away
            init_size=1,
            max_size=size,
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": application_name},
            reset=_no_reset,
        )
    try:
        yield created
    finally:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await created.close()
        except TimeoutError:
            created.terminate()


async def _no_reset(_connection: object) -> None:
    """What the pool does when a connection comes back: nothing.

    No statement of ours leaves anything in its session, and to reset it would be one more round trip for each. A
    transaction that is still open was rolled back before this.
    """


@contextlib.contextmanager
def translate_errors(dsn: str | None) -> Iterator[None]:
    """Turn what the driver raises while connecting into errors that say what to do."""
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise DatabaseUnreachable(f"{shown(dsn)} refused the login: {error}. Check user and password") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnreachable(f"{shown(dsn)}: {error}. Create it (createdb), or name another") from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        if dsn is not None and shown(dsn) != dsn:  # what the driver says may quote what it took for a port or a host
            raise ConfigurationError(
                f"{shown(dsn)} is no database address: special characters of a password are percent-encoded (/ is %2F)"
            ) from None
        raise ConfigurationError(f"{shown(dsn)} is no database address: {error}") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnreachable(
            f"{shown(dsn)} cannot be reached: {error or type(error).__name__}. Is PostgreSQL running there?"
        ) from error


async def until_connected(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the database answers: after a lost connection again, with pauses that grow to five seconds."""
    try:
        return await call()
    except CONNECTION_LOST:
        pass  # what keeps count of the tries costs more than most calls: it is for those that need it
    async for attempt in stamina.retry_context(
        on=CONNECTION_LOST, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
    ):
        with attempt:
            found = await call()
            if attempt.num > 1:
                RECONNECTS.add()
            return found
    raise AssertionError("unreachable: without a limit, the loop above ends by returning")
