"""``ctx.db``: PostgreSQL as the job's tenant and actor, for the duration of the handler.

The first query takes a connection from the pool; it returns there when the handler ends. In between its session has
``jwt.claims.database_id`` and ``jwt.claims.user_id`` set to the job's, and the role of ``JOBFN_DB_ROLE``, so that row
level security applies. Behind a connection pooler in transaction mode, which shares sessions, each query is a
transaction with these settings instead. The driver (extra ``db``) is imported on first use.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from jobfn.errors import ConfigurationError, DatabaseError, DatabaseUnreachable
from jobfn.install import install_command
from jobfn.sql.pooler import detect_pooling

if TYPE_CHECKING:
    import asyncpg

MAX_POOL_SIZE = 10
#: Timeout for what a session must answer besides the handler's own statements.
_TIMEOUT_SECONDS = 10.0

#: Environment variables and their meaning, for the settings reference.
VARIABLES: Final[Mapping[str, str]] = {
    "DATABASE_URL": "The database of ``ctx.db``. Default: the one that ``PGHOST``, ``PGDATABASE`` and so on name.",
    "JOBFN_DB_ROLE": "The role that ``ctx.db`` switches to while a handler runs. Default: the login role.",
}

REFUSED: Final = (
    "ctx.db is not available: without JOBFN_INVOKE_SECRET, any caller of this function can choose the tenant "
    "(X-Database-Id). Set JOBFN_INVOKE_SECRET on the worker and the function, or JOBFN_DB_ANY_CALLER=true if only the "
    "worker can reach the function"
)
#: $4: only until the transaction ends. The role comes last: afterwards its privileges apply.
_SET_IDENTITY = """
    select set_config('jwt.claims.database_id', $1, $4), set_config('jwt.claims.user_id', $2, $4),
        set_config('role', $3, $4)
"""
#: asyncpg's pool resets the rest of the session, but not the role.
_RESET_ROLE = "reset role"


class DatabasePool:
    """The connection pool of one app, opened on first use.

    Args:
        timeout_seconds: Timeout for setting and resetting the identity of a session, and for closing the pool.

    Attributes:
        shares_sessions: Whether a connection pooler in transaction mode gives the same sessions to other clients.
    """

    def __init__(self, *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self.timeout_seconds = timeout_seconds
        self._pool: Any = None
        self.shares_sessions = False
        self._lock = asyncio.Lock()

    async def acquire(self, env: Mapping[str, str]) -> "asyncpg.Connection[Any]":
        """Return a connection to the database that the environment names."""
        asyncpg = _import_driver()
        try:
            async with self._lock:
                if self._pool is None:
                    self._pool, self.shares_sessions = await _create_pool(asyncpg, env)
            return await self._pool.acquire()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise DatabaseUnreachable(f"ctx.db cannot reach its database: {type(error).__name__}") from error

    async def release(self, connection: "asyncpg.Connection[Any]") -> None:
        """Reset the session and return the connection to the pool."""
        try:
            if not self.shares_sessions:
                await connection.execute(_RESET_ROLE, timeout=self.timeout_seconds)
        except BaseException as error:  # a connection in an unknown state must not be reused
            await self.discard(connection)
            if not isinstance(error, Exception):
                raise
        else:
            await self._pool.release(connection, timeout=self.timeout_seconds)

    async def discard(self, connection: "asyncpg.Connection[Any]") -> None:
        """Close a connection."""
        with contextlib.suppress(Exception):  # a lost connection has left the pool already
            connection.terminate()
        await self._pool.release(connection)

    async def aclose(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(self.timeout_seconds):
                    await pool.close()
            except TimeoutError:
                pool.terminate()


class JobDatabase:
    """A database connection with the tenant and actor of one job.

    It runs one query at a time. For concurrent queries, open connections of your own (``Resource``).
    """

    def __init__(
        self, pool: DatabasePool, env: Mapping[str, str], *, database_id: UUID | None, actor_id: UUID | None
    ) -> None:
        self._pool = pool
        self._env = env
        self._claims = [str(claim) if claim is not None else "" for claim in (database_id, actor_id)]
        self._connection: Any = None

    async def connection(self) -> "asyncpg.Connection[Any]":
        """Return the asyncpg connection, for example for ``task.enqueue(await ctx.db.connection(), ...)``.

        Raises:
            ConfigurationError: ``DATABASE_URL`` and ``PG*`` are not set, or the driver is not installed.
            DatabaseUnreachable: The connection failed.
            DatabaseError: The login role cannot switch to ``JOBFN_DB_ROLE``, or a pooler shares the session.
        """
        connection = await self._open()
        if self._pool.shares_sessions:
            raise DatabaseError(
                "ctx.db.connection() needs its own session, and DATABASE_URL leads through a connection pooler in "
                "transaction mode: use ctx.db.transaction(), or PostgreSQL's own address"
            )
        return connection

    async def _open(self) -> Any:
        """Return the connection, which is the job's unless its session is shared."""
        if self._connection is None:
            connection = await self._pool.acquire(self._env)
            try:
                if not self._pool.shares_sessions:
                    await self._set_identity(connection, is_local=False)
            except BaseException:
                await self._pool.discard(connection)
                raise
            self._connection = connection
        return self._connection

    async def _set_identity(self, connection: Any, *, is_local: bool) -> None:
        role, seconds = self._env.get("JOBFN_DB_ROLE") or "none", self._pool.timeout_seconds
        try:
            await connection.execute(_SET_IDENTITY, *self._claims, role, is_local, timeout=seconds)
        except TimeoutError as error:
            raise DatabaseUnreachable(f"ctx.db: the database did not respond in {seconds:g} seconds") from error
        except Exception as error:
            if not hasattr(error, "sqlstate"):
                raise
            raise DatabaseError(
                f"JOBFN_DB_ROLE={role}: {error}; the login role must be a member of it (grant {role} to ...)"
            ) from error

    @contextlib.asynccontextmanager
    async def _identified(self) -> AsyncIterator[Any]:
        """Yield the connection as the job's tenant and actor, in a transaction if its session is shared."""
        connection = await self._open()
        if not self._pool.shares_sessions or connection.is_in_transaction():
            yield connection
            return
        async with self.transaction():
            yield connection

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Return all rows of a query; ``$1`` and so on stand for the arguments."""
        async with self._identified() as connection:
            return list(await connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        """Return the first row, or None."""
        async with self._identified() as connection:
            return await connection.fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """Return the first value of the first row, or None."""
        async with self._identified() as connection:
            return await connection.fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """Run a statement and return PostgreSQL's status, for example ``UPDATE 3``."""
        async with self._identified() as connection:
            return str(await connection.execute(query, *arguments))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """Open a transaction and yield the connection."""
        connection = await self._open()
        async with connection.transaction():
            if self._pool.shares_sessions:
                await self._set_identity(connection, is_local=True)
            yield connection

    async def aclose(self) -> None:
        """Return the connection to the pool."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool.release(connection)


def _import_driver() -> Any:
    try:
        import asyncpg  # noqa: PLC0415  - an extra
    except ImportError:
        raise ConfigurationError(f"ctx.db needs the asyncpg driver: {install_command('db')}") from None
    return asyncpg


async def _create_pool(asyncpg: Any, env: Mapping[str, str]) -> tuple[Any, bool]:
    """Return the pool, and whether it shares its sessions with others."""
    dsn = env.get("DATABASE_URL") or None
    if dsn is None and not any(env.get(name) for name in ("PGHOST", "PGDATABASE", "PGSERVICE")):
        raise ConfigurationError("ctx.db has no database: set DATABASE_URL, or PGHOST and PGDATABASE")
    from jobfn.sql.address import parse_address  # noqa: PLC0415  - with the driver
    from jobfn.sql.connect import open_connection  # noqa: PLC0415

    address = parse_address(dsn, env)
    cache: dict[str, int] = {}

    async def connect(_dsn: object = None, **options: Any) -> "asyncpg.Connection[Any]":
        return await open_connection(address, settings={"application_name": "jobfn-function"}, **options | cache)

    pool = await asyncpg.create_pool(dsn, min_size=0, max_size=MAX_POOL_SIZE, connect=connect)
    try:
        connection = await pool.acquire()
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            pooling = await detect_pooling(connection, lambda: connect(statement_cache_size=0))
            await pool.release(connection)
    except BaseException:
        pool.terminate()
        raise
    if pooling.shares_sessions:
        pool.terminate()
        cache = {} if pooling.keeps_statements else {"statement_cache_size": 0}
        pool = await asyncpg.create_pool(dsn, min_size=0, max_size=MAX_POOL_SIZE, connect=connect, reset=_no_reset)
    return pool, pooling.shares_sessions


async def _no_reset(_connection: object) -> None:
    """Leave a session as it is that belongs to others."""
