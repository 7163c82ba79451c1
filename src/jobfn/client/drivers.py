"""Running a ``Statement`` on whatever connection it is given, in the caller's own transaction.

A connection is known by the module that its class comes from, so no driver is imported to look. Each adapter is a few
lines: rewrite, run, take the first value. Nothing here commits, rolls back or opens a transaction.
"""

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobfn.client.statements import Statement
from jobfn.errors import EnqueueError, SchemaError

#: What a schema lacks, by the query that found out.
_MISSING = {
    "add_job": "schema {schema} has no add_job for this: run `jobfn db migrate`; a schema of the platform's own wants "
    "the tenant too (database_id=)",
    "add_jobs": "schema {schema} has no add_jobs: run `jobfn db migrate`; on a schema of the platform's own, enqueue "
    "one by one",
    "job_result": "schema {schema} keeps no results: run `jobfn db migrate`; a schema of the platform's own cannot "
    "tell how a job ended",
}


#: What a role may not do.
_FORBIDDEN = {
    "add_job": "this role may not add jobs in schema {schema}: `jobfn db migrate --grant-enqueue ROLE` lets it",
    "job_result": "this role may not wait for jobs in schema {schema}: grant it usage on the schema and execute on "
    "function {schema}.job_result(bigint); it can then read any job's result",
}


def _postgresql(_connection: object) -> str:
    return "postgresql"


@dataclass(frozen=True, slots=True)
class Driver:
    """How one kind of connection is asked.

    Attributes:
        name: For messages.
        is_async: Whether ``fetch`` returns a coroutine.
        fetch: Runs a statement on a connection; the first value of its only row.
        in_transaction: Whether the connection is inside a transaction now, as far as it says.
        end: Ends a transaction that a statement has begun by itself; None where none does.
        listens: Whether it can hear notifications.
        dialect: Which database a connection speaks to, where the driver knows several.
    """

    name: str
    is_async: bool
    fetch: Callable[[Any, Statement], Any]
    in_transaction: Callable[[Any], bool]
    end: Callable[[Any], Any] | None = None
    listens: bool = False
    dialect: Callable[[Any], str] = _postgresql

    def value(self, connection: Any, statement: Statement) -> Any:
        """The first value of the statement's only row; a coroutine of it where the driver is async.

        Raises:
            SchemaError: The schema, or the function in it, is not there or not ours to call; says what to do.
            Exception: What the driver raises otherwise, as it is: it is your transaction.
        """
        if self.is_async:
            return self._awaited(connection, statement)
        try:
            return self.fetch(connection, statement)
        except Exception as error:
            self._explain(error, connection, statement)
            raise

    async def _awaited(self, connection: Any, statement: Statement) -> Any:
        try:
            return await self.fetch(connection, statement)
        except Exception as error:
            self._explain(error, connection, statement)
            raise

    def _explain(self, error: Exception, connection: Any, statement: Statement) -> None:
        """Raise what tells the reader what to do, where that is known."""
        dialect = "postgresql"
        with contextlib.suppress(Exception):  # a session without an engine cannot say
            dialect = self.dialect(connection)
        if dialect != "postgresql":
            raise EnqueueError(f"this connection speaks to {dialect}: jobs live in PostgreSQL") from error
        _explain(error, statement)


def driver_of(connection: object) -> Driver:
    """The driver of a connection.

    Raises:
        EnqueueError: It is none that is known; names those that are.
    """
    for kind in type(connection).__mro__:
        driver = _DRIVERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if driver is not None:
            return driver
    if inspect.iscoroutine(connection):
        raise EnqueueError(f"{connection.__qualname__}(...) was not awaited: await it, and give the connection")
    raise EnqueueError(
        f"{type(connection).__module__}.{type(connection).__qualname__} is no connection that jobs can be added on: "
        "give an asyncpg connection or pool, a psycopg 3 connection, a SQLAlchemy Connection or Session (sync or "
        "async), or django.db.connection"
    )


async def _asyncpg(connection: Any, statement: Statement) -> Any:
    return await connection.fetchval(statement.numbered(), *statement.values)


def _psycopg(connection: Any, statement: Statement) -> Any:
    from psycopg.rows import tuple_row  # noqa: PLC0415  - whoever has a connection has it loaded

    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(statement.formatted(), statement.values).fetchone()[0]


async def _psycopg_async(connection: Any, statement: Statement) -> Any:
    from psycopg.rows import tuple_row  # noqa: PLC0415  - as above

    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement.formatted(), statement.values)
        return (await cursor.fetchone())[0]


def _sqlalchemy(connection: Any, statement: Statement) -> Any:
    from sqlalchemy import text  # noqa: PLC0415  - as above

    sql, values = statement.named()
    return connection.execute(text(sql), values).scalar_one()


async def _sqlalchemy_async(connection: Any, statement: Statement) -> Any:
    from sqlalchemy import text  # noqa: PLC0415  - as above

    sql, values = statement.named()
    return (await connection.execute(text(sql), values)).scalar_one()


def _django(connection: Any, statement: Statement) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement.formatted(), statement.values)
        return cursor.fetchone()[0]


def _says(name: str) -> Callable[[Any], Any]:
    """Calls a connection's own method."""

    def ask(connection: Any) -> Any:
        return getattr(connection, name)()

    return ask


_ROLLBACK = _says("rollback")


def _psycopg_in_transaction(connection: Any) -> bool:
    return int(connection.info.transaction_status) != 0  # 0: idle


def _django_in_transaction(connection: Any) -> bool:
    return bool(connection.in_atomic_block) or not connection.get_autocommit()


def _sqlalchemy_dialect(connection: Any) -> str:
    bind = connection.get_bind() if hasattr(connection, "get_bind") else connection
    return str(bind.dialect.name)


def _django_vendor(connection: Any) -> str:
    return str(connection.vendor)


_ASYNCPG = Driver("asyncpg", is_async=True, fetch=_asyncpg, in_transaction=_says("is_in_transaction"), listens=True)
_ASYNCPG_POOL = replace(_ASYNCPG, name="asyncpg's pool", in_transaction=lambda _pool: False)
_PSYCOPG = Driver("psycopg", is_async=False, fetch=_psycopg, in_transaction=_psycopg_in_transaction, end=_ROLLBACK)
_PSYCOPG_ASYNC = replace(_PSYCOPG, is_async=True, fetch=_psycopg_async)
_SQLALCHEMY = Driver(
    "SQLAlchemy",
    is_async=False,
    fetch=_sqlalchemy,
    in_transaction=_says("in_transaction"),
    end=_ROLLBACK,
    dialect=_sqlalchemy_dialect,
)
_SQLALCHEMY_ASYNC = replace(_SQLALCHEMY, is_async=True, fetch=_sqlalchemy_async)
_DJANGO = Driver("Django", is_async=False, fetch=_django, in_transaction=_django_in_transaction, dialect=_django_vendor)

#: By the package and the name of a class among the connection's.
_DRIVERS = {
    ("asyncpg", "Connection"): _ASYNCPG,
    ("asyncpg", "PoolConnectionProxy"): _ASYNCPG,
    ("asyncpg", "Pool"): _ASYNCPG_POOL,
    ("psycopg", "Connection"): _PSYCOPG,
    ("psycopg", "AsyncConnection"): _PSYCOPG_ASYNC,
    ("sqlalchemy", "Connection"): _SQLALCHEMY,
    ("sqlalchemy", "Session"): _SQLALCHEMY,
    ("sqlalchemy", "scoped_session"): _SQLALCHEMY,
    ("sqlalchemy", "AsyncConnection"): _SQLALCHEMY_ASYNC,
    ("sqlalchemy", "AsyncSession"): _SQLALCHEMY_ASYNC,
    ("sqlalchemy", "async_scoped_session"): _SQLALCHEMY_ASYNC,
    ("django", "BaseDatabaseWrapper"): _DJANGO,
    ("django", "ConnectionProxy"): _DJANGO,
}


def _sqlstate(error: BaseException) -> str | None:
    """PostgreSQL's code of an error, behind whatever the layers above the driver made of it."""
    found: BaseException | None = error
    while found is not None:
        for holder in (found, getattr(found, "orig", None)):
            code = getattr(holder, "sqlstate", None) or getattr(holder, "pgcode", None)
            if isinstance(code, str):
                return code
        found = found.__cause__
    return None


def _explain(error: Exception, statement: Statement) -> None:
    """Raise what tells the reader what to do, for errors that are about the schema and not about this statement."""
    what, schema = statement.name, statement.schema
    match _sqlstate(error):
        case "3F000":
            problem = f"this database has no schema {schema}: run `jobfn db migrate`, or set JOBS_SCHEMA"
        case "42883":
            problem = _MISSING.get(what, _MISSING["add_job"]).format(schema=schema)
        case "42501":
            problem = _FORBIDDEN.get(what, _FORBIDDEN["add_job"]).format(schema=schema)
        case _:
            return
    raise SchemaError(problem) from error
