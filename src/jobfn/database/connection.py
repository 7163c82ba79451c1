"""Open connections and pools, with readable errors, and retry after a lost connection."""

import asyncio
import contextlib
import functools
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

from jobfn.errors import ConfigurationError, DatabaseError, DatabaseUnreachable, error_text
from jobfn.sql.address import parse_address
from jobfn.sql.connect import SERVER_TIMEOUTS, open_connection
from jobfn.sql.pooler import Pooling, detect_pooling
from jobfn.telemetry import logs
from jobfn.telemetry.metrics import Counter

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")

#: Timeout for finding out what a connection pooler does.
_DETECT_TIMEOUT_SECONDS = 10.0
#: Time after which a pool closes a connection that is not used.
_MAX_IDLE_SECONDS = 300.0
#: Timeout for closing a pool.
_CLOSE_TIMEOUT_SECONDS = 10.0
#: Let the server end the session of a process that is stopped within a transaction. Transactions of pools do not pause.
_IDLE_IN_TRANSACTION_TIMEOUT = {"idle_in_transaction_session_timeout": "60s"}
#: Times that PostgreSQL can store and ``datetime`` cannot are read as these two, which are written as infinity.
LATEST = datetime.max.replace(tzinfo=UTC)
EARLIEST = datetime.min.replace(tzinfo=UTC)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_INFINITY = 2**63 - 1

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

#: All errors of a database. Only some of them are transient.
DATABASE_ERRORS = (*CONNECTION_ERRORS, asyncpg.PostgresError)
#: Classes of SQLSTATE, and two codes after a change of the schema, of statements that may succeed if they are retried:
#: connection, read-only server, deadlock, no memory or disk, lock timeout, statement timeout or shutdown, and I/O.
_TRANSIENT_SQLSTATES = ("08", "25", "40", "53", "55", "57", "58", "42804", "0A000")
_OUTDATED_ADVICE = "run `jobfn db migrate`, and grant this role its privileges again (--grant-worker)"
_LOGIN_ERRORS = (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError)
#: Errors of a connection that remain until someone changes something.
_REJECTIONS = (*_LOGIN_ERRORS, asyncpg.InvalidCatalogNameError)
_MIN_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.1, 5.0


def dsn_from_env(environ: Mapping[str, str]) -> str | None:
    """Return ``DATABASE_URL``; None if it is not set, so that the driver reads the ``PG*`` variables."""
    return environ.get("DATABASE_URL") or None


def has_database(environ: Mapping[str, str]) -> bool:
    """Return whether the environment names a database, by ``DATABASE_URL`` or ``PG*`` variables."""
    return database_variable(environ) is not None


def database_variable(environ: Mapping[str, str]) -> str | None:
    """Return the variable of the environment that names a database; None if there is none."""
    names = ("DATABASE_URL", "PGHOST", "PGDATABASE", "PGSERVICE")
    return next((name for name in names if environ.get(name)), None)


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
        opener = functools.partial(
            open_connection,
            parse_address(dsn),
            settings={"application_name": application_name},
            initialize=_read_every_timestamp,
        )
        connection = await opener()
        try:
            pooling = await _detect_pooling(connection, opener)
        except BaseException:
            connection.terminate()
            raise
        if pooling.keeps_statements:
            return connection
        connection.terminate()
        return await opener(statement_cache_size=0)


async def shares_sessions(connection: "asyncpg.Connection[Any] | PoolConnectionProxy[Any]", dsn: str | None) -> bool:
    """Return whether a pooler in transaction mode is in front of this database, so that LISTEN does not work."""
    opener = functools.partial(open_connection, parse_address(dsn), settings={"application_name": "jobfn-probe"})
    return (await _detect_pooling(connection, opener)).shares_sessions


async def _detect_pooling(
    connection: "asyncpg.Connection[Any] | PoolConnectionProxy[Any]",
    opener: Callable[..., Awaitable["asyncpg.Connection[Any]"]],
) -> Pooling:
    async with asyncio.timeout(_DETECT_TIMEOUT_SECONDS):
        return await detect_pooling(connection, lambda: opener(statement_cache_size=0))


async def wait_for_database(opener: Callable[[], Awaitable[T]], *, seconds: float, stop: asyncio.Event) -> T | None:
    """Open a connection or a pool, when the database accepts it: it may start at the same time as this process.

    Args:
        opener: Opens it, with the errors of ``connect``.
        seconds: Maximum time; 0: do not wait.
        stop: Ends the wait.

    Returns:
        The opened connection or pool; None: ``stop`` was set before.

    Raises:
        DatabaseUnreachable: The time is up, or the server rejects the login, which waiting does not change.
        ConfigurationError: The DSN is not valid.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + seconds
    pause_seconds = _MIN_PAUSE_SECONDS
    failures = FailureLog("database not reachable at the start, waiting")
    while True:
        try:
            return await opener()
        except DatabaseUnreachable as error:
            remaining_seconds = deadline - clock()
            if remaining_seconds <= 0 or isinstance(error.__cause__, _REJECTIONS):
                raise
            failures.record(error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(pause_seconds, remaining_seconds)):
                    await stop.wait()
                return None
            pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)


@contextlib.asynccontextmanager
async def open_pool(
    dsn: str | None,
    *,
    application_name: str,
    size: int,
    statement_timeout_seconds: float | None = None,
    needs_primary: bool = False,
    max_idle_seconds: float = _MAX_IDLE_SECONDS,
) -> AsyncIterator[asyncpg.Pool]:
    """Open a pool of at most ``size`` connections, and close it at the end of the block. Otherwise as ``connect``.

    Args:
        dsn: As in ``connect``.
        application_name: As in ``connect``.
        size: Maximum number of connections.
        statement_timeout_seconds: Time after which a statement is cancelled, with ``TimeoutError``. Default: none.
        needs_primary: Whether to refuse a standby, unless the address sets ``target_session_attrs``.
        max_idle_seconds: Time after which a connection that is not used is closed.
    """
    with translate_errors(dsn):
        address = parse_address(dsn)
        if needs_primary and address.target_session_attrs is None:
            address = replace(address, target_session_attrs="primary")
        cache: dict[str, int] = {}

        async def open_one(_dsn: object = None, **options: Any) -> "asyncpg.Connection[Any]":
            return await open_connection(
                address,
                settings={"application_name": application_name},
                timeouts={**SERVER_TIMEOUTS, **_IDLE_IN_TRANSACTION_TIMEOUT},
                initialize=_read_every_timestamp,
                **options | cache,
            )

        pool = await asyncpg.create_pool(
            dsn,
            connect=open_one,
            min_size=0,  # with more, asyncpg logs a traceback every second while the database is unreachable
            init_size=1,
            max_size=size,
            max_inactive_connection_lifetime=max_idle_seconds,
            command_timeout=statement_timeout_seconds,
            reset=_no_reset,
        )
        try:
            async with pool.acquire() as connection:
                pooling = await _detect_pooling(connection, open_one)
        except BaseException:
            pool.terminate()
            raise
        if not pooling.keeps_statements:
            cache["statement_cache_size"] = 0
            await pool.expire_connections()
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _read_every_timestamp(connection: "asyncpg.Connection[Any] | PoolConnectionProxy[Any]") -> None:
    """Read times that Python's ``datetime`` cannot hold, such as infinity, as the latest and earliest that it can.

    Otherwise one such row makes every statement that returns it fail.
    """
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", encoder=_encode_timestamp, decoder=_decode_timestamp, format="tuple"
    )


def _decode_timestamp(value: tuple[int]) -> datetime:
    try:
        return _EPOCH + timedelta(microseconds=value[0])
    except OverflowError:
        return LATEST if value[0] > 0 else EARLIEST


def _encode_timestamp(time: datetime) -> tuple[int]:
    if time in {LATEST, EARLIEST}:
        return (_INFINITY if time == LATEST else -_INFINITY - 1,)
    return ((time - _EPOCH) // timedelta(microseconds=1),)


async def _no_reset(_connection: object) -> None:
    """Skip the reset of a connection that returns to the pool: it costs a round trip, and no session state is set."""


@contextlib.contextmanager
def translate_errors(dsn: str | None) -> Iterator[None]:
    """Translate the driver's errors while connecting into errors that say what to do."""
    shown = redact_dsn(dsn)
    try:
        yield
    except _LOGIN_ERRORS as error:
        raise DatabaseUnreachable(f"{shown} rejected the login: {error}. Check user and password") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseUnreachable(f"{shown}: {error}. Create it (createdb), or use another database") from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        if dsn is not None and shown != dsn:  # the driver's message may quote the password as a host or port
            raise ConfigurationError(
                f"{shown} is not a database address: percent-encode special characters of the password (/ is %2F)"
            ) from None
        raise ConfigurationError(f"{shown} is not a database address: {error}") from error
    except DATABASE_ERRORS as error:
        raise DatabaseUnreachable(
            f"{shown} cannot be reached: {error_text(error)}. Is PostgreSQL running there?"
        ) from error


def is_transient(error: BaseException) -> bool:
    """Return whether a statement that failed with this error may succeed later, unchanged."""
    if isinstance(error, CONNECTION_ERRORS):
        return True
    if isinstance(error, DatabaseError) and error.__cause__ is not None:
        return is_transient(error.__cause__)
    if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name is None:
        return True  # of a partition: another one was attached meanwhile, which takes the row
    return isinstance(error, asyncpg.PostgresError) and str(error.sqlstate).startswith(_TRANSIENT_SQLSTATES)


class FailureLog:
    """Logs errors of the database, consecutive ones with the same text once.

    Args:
        event: The log line.
    """

    def __init__(self, event: str) -> None:
        self._event = event
        self._reason = ""

    def record(self, error: Exception) -> None:
        """Log an error with its reason and what is done about it."""
        if error_text(error) == self._reason:
            return
        self._reason = error_text(error)
        is_outdated = isinstance(error, asyncpg.UndefinedFunctionError | asyncpg.InsufficientPrivilegeError)
        logs.get_logger("jobfn.database").warning(
            self._event,
            reason=self._reason,
            transient=is_transient(error),
            advice=_OUTDATED_ADVICE if is_outdated else "retried automatically",
        )

    def clear(self) -> None:
        """Record a success: the next error is logged."""
        self._reason = ""


async def retry(call: Callable[[], Awaitable[T]], *, event: str, only_transient: bool = False) -> T:
    """Call, and retry after each error of the database, with pauses that increase to five seconds.

    Args:
        call: Runs the statement.
        event: The log line of an error. Consecutive errors with the same text are logged once.
        only_transient: Whether to raise errors that are not transient. Default False: a service outlasts what someone
            does to its database.
    """
    failures = FailureLog(event)
    was_disconnected = False
    pause_seconds = _MIN_PAUSE_SECONDS
    while True:
        try:
            result = await call()
        except (*DATABASE_ERRORS, DatabaseError) as error:
            if only_transient and not is_transient(error):
                raise
            was_disconnected = was_disconnected or isinstance(error, CONNECTION_ERRORS)
            failures.record(error)
        else:
            if was_disconnected:
                RECONNECTS.add()
            return result
        await asyncio.sleep(pause_seconds * random.uniform(0.5, 1))  # noqa: S311  - jitter, not a secret
        pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)
