"""``ctx.db``: PostgreSQL as the job's tenant and actor see it, for the time of the handler.

A connection is taken with the first query and given back when the handler has ended. In between its session has
``jwt.claims.database_id`` and ``jwt.claims.user_id`` set to the job's, and the role of ``JOBFN_DB_ROLE``, so that row
level security says what the handler may see. The driver (extra ``db``) is imported by whoever asks.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from jobfn.errors import ConfigurationError, DatabaseError, DatabaseUnreachable

if TYPE_CHECKING:
    import asyncpg

POOL_SIZE = 10
_CONNECT_SECONDS = 10.0

#: What is read from the environment, and what for. The reference of settings shows it.
VARIABLES: Final[Mapping[str, str]] = {
    "DATABASE_URL": "The database of ``ctx.db``. Default: the one that ``PGHOST``, ``PGDATABASE`` and their like name.",
    "JOBFN_DB_ROLE": "The role that ``ctx.db`` takes on for a handler's time. Default: none, the login role stays.",
}

#: The role last: from then on, it is its rights that count.
_SET_SESSION = """
    select set_config('jwt.claims.database_id', $1, false), set_config('jwt.claims.user_id', $2, false),
        set_config('role', $3, false)
"""
#: What giving a connection back to asyncpg's pool leaves as it is.
_RESET = "reset role"


class DatabasePool:
    """The connections of one app's handlers; opened when the first of them asks."""

    def __init__(self) -> None:
        self._pool: Any = None
        self._lock = asyncio.Lock()

    async def acquire(self, env: Mapping[str, str]) -> "asyncpg.Connection[Any]":
        """A connection to the database that the environment names.

        Raises:
            ConfigurationError: It names none, or the driver is not installed.
            DatabaseUnreachable: No connection can be made.
        """
        asyncpg = _driver()
        try:
            async with self._lock:
                if self._pool is None:
                    self._pool = await _create_pool(asyncpg, env)
            return await self._pool.acquire()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise DatabaseUnreachable(f"ctx.db cannot reach its database: {type(error).__name__}") from error

    async def release(self, connection: "asyncpg.Connection[Any]") -> None:
        """Take it back, with nothing of the job in its session."""
        try:
            await connection.execute(_RESET)
        except Exception:  # noqa: BLE001  - whatever is wrong with it, nobody shall get it next
            with contextlib.suppress(Exception):  # it was lost, and has left the pool by itself
                connection.terminate()
        await self._pool.release(connection)

    async def aclose(self) -> None:
        """Close them all."""
        if self._pool is not None:
            pool, self._pool = self._pool, None
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()


class JobDatabase:
    """The database as one job sees it. See the module.

    One query at a time, as on any connection; several at once need connections of your own (``Resource``).
    """

    def __init__(
        self, pool: DatabasePool, env: Mapping[str, str], *, database_id: UUID | None, actor_id: UUID | None
    ) -> None:
        self._pool = pool
        self._env = env
        self._claims = [str(each) if each is not None else "" for each in (database_id, actor_id)]
        self._connection: Any = None

    async def connection(self) -> "asyncpg.Connection[Any]":
        """The connection itself, of asyncpg: for ``task.enqueue(await ctx.db.connection(), ...)`` and the like.

        Raises:
            ConfigurationError: No database is named (``DATABASE_URL`` or ``PG*``), or the driver is not installed.
            DatabaseUnreachable: No connection can be made.
            DatabaseError: The role of ``JOBFN_DB_ROLE`` cannot be taken on.
        """
        if self._connection is None:
            connection = await self._pool.acquire(self._env)
            role = self._env.get("JOBFN_DB_ROLE") or "none"
            try:
                await connection.execute(_SET_SESSION, *self._claims, role)
            except BaseException as error:
                await self._pool.release(connection)
                if not hasattr(error, "sqlstate"):
                    raise
                raise DatabaseError(
                    f"JOBFN_DB_ROLE={role}: {error}; the login role must be a member of it (grant {role} to ...)"
                ) from error
            self._connection = connection
        return self._connection

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """All rows of a query, with ``$1`` and so on for the arguments."""
        return list(await (await self.connection()).fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        """The first row, or None."""
        return await (await self.connection()).fetchrow(query, *arguments)

    async def fetchval(self, query: str, *arguments: Any) -> Any:
        """The first value of the first row, or None."""
        return await (await self.connection()).fetchval(query, *arguments)

    async def execute(self, query: str, *arguments: Any) -> str:
        """Run a statement; returns PostgreSQL's word for what was done, such as ``UPDATE 3``."""
        return str(await (await self.connection()).execute(query, *arguments))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        """A transaction; gives the connection."""
        connection = await self.connection()
        async with connection.transaction():
            yield connection

    async def aclose(self) -> None:
        """Give the connection back."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool.release(connection)


def _driver() -> Any:
    try:
        import asyncpg  # noqa: PLC0415  - an extra, and only who asks pays for it
    except ImportError:
        raise ConfigurationError("ctx.db needs the asyncpg driver: pip install 'jobfn[db]'") from None
    return asyncpg


async def _create_pool(asyncpg: Any, env: Mapping[str, str]) -> Any:
    dsn = env.get("DATABASE_URL") or None
    if dsn is None and not any(env.get(name) for name in ("PGHOST", "PGDATABASE", "PGSERVICE")):
        raise ConfigurationError("ctx.db has no database: set DATABASE_URL, or PGHOST and PGDATABASE")
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=POOL_SIZE,
        timeout=_CONNECT_SECONDS,
        server_settings={"application_name": "jobfn-function"},
    )
