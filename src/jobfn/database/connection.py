"""Open connections and pools, with readable errors, and retry after a lost connection."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

import asyncpg
import stamina

from jobfn.errors import ConfigurationError, DatabaseUnreachable
from jobfn.telemetry.metrics import Counter

T = TypeVar("T")

CONNECT_TIMEOUT_SECONDS = 10.0

#: Number of times that this process has lost its database and connected again, for the metrics.
RECONNECTS = Counter([()])

#: Passwords in a DSN: before the host, in the query, or in libpq's key=value form, which a user may try.
_PASSWORDS = (
    (re.compile(r"(://[^:/?#@]*):.*@", re.DOTALL), r"\1:***@"),
    (re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE), r"\1***"),
    (re.compile(r"((?:^|\s)password\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE), r"\1***"),
)

#: Errors of a statement that succeeds if it is retried, because the connection failed and not the statement.
CONNECTION_ERRORS = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    DatabaseUnreachable,
    # PostgreSQL rolled the statement back, for example to end a deadlock with a user's transaction.
    asyncpg.TransactionRollbackError,
    # asyncpg raises it if the server closed the connection while this process was suspended.
    asyncpg.InternalClientError,
)


def dsn_from_env(environ: Mapping[str, str]) -> str | None:
    """Return ``DATABASE_URL``; None if it is not set, so that the driver reads the ``PG*`` variables."""
    return environ.get("DATABASE_URL") or None


def has_database(environ: Mapping[str, str]) -> bool:
    """Return whether the environment names a database, by ``DATABASE_URL`` or ``PG*`` variables."""
    return any(environ.get(name) for name in ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGSERVICE"))


def redact_dsn(dsn: str | None) -> str:
    """Return a DSN without its password, for messages and logs."""
    if dsn is None:
        return "the database of PGHOST, PGPORT, PGUSER, PGDATABASE"
    for password, replacement in _PASSWORDS:
        dsn = password.sub(replacement, dsn)
    return dsn


async def connect(dsn: str | None, *, application_name: str) -> asyncpg.Connection:
    """Open a connection.

    Args:
        dsn: ``postgresql://...``; None: the ``PG*`` variables and the driver's defaults.
        application_name: Name in ``pg_stat_activity``.

    Raises:
        DatabaseUnreachable: The server does not respond, or rejects the login.
        ConfigurationError: The DSN is not valid.
    """
    with translate_errors(dsn):
        return await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT_SECONDS, server_settings={"application_name": application_name}
        )


@contextlib.asynccontextmanager
async def open_pool(dsn: str | None, *, application_name: str, size: int) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool of at most ``size`` connections, and close it at the end of the block. Otherwise as ``connect``."""
    with translate_errors(dsn):
        pool = await asyncpg.create_pool(
            dsn,
            min_size=0,  # with more, asyncpg logs a traceback every second while the database is unreachable
            init_size=1,
            max_size=size,
            timeout=CONNECT_TIMEOUT_SECONDS,
            server_settings={"application_name": application_name},
            reset=_no_reset,
        )
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _no_reset(_connection: object) -> None:
    """Skip the reset of a connection that returns to the pool: it costs a round trip, and no session state is set."""


@contextlib.contextmanager
def translate_errors(dsn: str | None) -> Iterator[None]:
    """Translate the driver's errors while connecting into errors that say what to do."""
    shown = redact_dsn(dsn)
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise DatabaseUnreachable(f"{shown} rejected the login: {error}. Check user and password") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnreachable(f"{shown}: {error}. Create it (createdb), or use another database") from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        if dsn is not None and shown != dsn:  # the driver's message may quote the password as a host or port
            raise ConfigurationError(
                f"{shown} is not a database address: percent-encode special characters of the password (/ is %2F)"
            ) from None
        raise ConfigurationError(f"{shown} is not a database address: {error}") from error
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DatabaseUnreachable(
            f"{shown} cannot be reached: {error_text(error)}. Is PostgreSQL running there?"
        ) from error


def error_text(error: BaseException) -> str:
    """Return the text of a connection's error. Some have none, such as timeouts."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no response in time"
    return str(error) or type(error).__name__


async def retry_on_disconnect(call: Callable[[], Awaitable[T]]) -> T:
    """Call, and retry after each connection error, with pauses that increase to five seconds."""
    try:
        return await call()
    except CONNECTION_ERRORS:
        pass  # the first call runs without stamina, whose retry context costs more than most calls
    async for attempt in stamina.retry_context(
        on=CONNECTION_ERRORS, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0
    ):
        with attempt:
            result = await call()
            if attempt.num > 1:
                RECONNECTS.add()
            return result
    raise AssertionError("unreachable: without a limit, the loop ends only by returning")
