"""Run a ``Statement`` on any supported connection, in the caller's own transaction.

A connection is recognized by the name and module of its class, so no driver is imported. Nothing here commits or opens
a transaction.
"""

import contextlib
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jobfn.client.statements import Statement
from jobfn.errors import DuplicateJob, EnqueueError, SchemaError

_NO_UNIQUE_JOBS = "schema {schema} has no unique jobs: run `jobfn db migrate`; the platform's schema has none"
#: Messages for a missing function, by the statement's name.
_MISSING_FUNCTION = {
    "add_job": "schema {schema} has no matching add_job function: run `jobfn db migrate`; the platform's schema "
    "requires a tenant (database_id=)",
    "add_job_for_entity": "add_job of schema {schema} takes no entity_id, organization_id and entity_type: run "
    "`jobfn db migrate`, or leave them out on the platform's older schema",
    "add_job_after": "schema {schema} has no dependencies of jobs: run `jobfn db migrate`, or leave depends_on out on "
    "the platform's schema",
    "add_jobs": "schema {schema} has no add_jobs function: run `jobfn db migrate`; on the platform's schema, enqueue "
    "the jobs one by one",
    "add_unique_job": _NO_UNIQUE_JOBS,
    "add_unique_jobs": _NO_UNIQUE_JOBS,
    "add_debounced_job": "schema {schema} has no maximum delay: run `jobfn db migrate`, or leave max_delay out on the "
    "platform's schema",
    "expiring": "schema {schema} has no expiry of jobs: run `jobfn db migrate`, or leave expires_at and expires_in out "
    "on the platform's schema",
    "job_result": "schema {schema} stores no results: run `jobfn db migrate`; the platform's schema does not record "
    "how a job ended",
}
#: Messages for a missing privilege, by the statement's name.
_MISSING_PRIVILEGE = {
    "add_job": "this role is not allowed to add jobs in schema {schema}: run `jobfn db migrate --grant-enqueue ROLE`",
    "job_result": "this role is not allowed to wait for jobs in schema {schema}: run `jobfn db migrate --grant-result "
    "ROLE`; it can then read any job's result",
}


def _postgresql(_connection: object) -> str:
    return "postgresql"


@dataclass(frozen=True, slots=True)
class Driver:
    """How to use one kind of connection.

    Attributes:
        name: For error messages.
        is_async: Whether ``fetch`` returns a coroutine.
        fetch: Runs a statement on a connection and returns the first value of its only row.
        in_transaction: Whether the connection is in a transaction.
        rollback: Ends the transaction that a statement has begun implicitly; None if none is begun.
        supports_listen: Whether it can receive notifications.
        dialect: The kind of database of a connection, if the driver supports several.
    """

    name: str
    is_async: bool
    fetch: Callable[[Any, Statement], Any]
    in_transaction: Callable[[Any], bool]
    rollback: Callable[[Any], Any] | None = None
    supports_listen: bool = False
    dialect: Callable[[Any], str] = _postgresql

    def fetch_value(self, connection: Any, statement: Statement) -> Any:
        """Return the first value of the statement's only row; a coroutine of it if the driver is async.

        Raises:
            EnqueueError: The connection is not to PostgreSQL.
            SchemaError: The schema or its function is missing, or the role is not allowed to use it.
            Exception: Any other error of the driver, unchanged.
        """
        if self.is_async:
            return self._fetch_value_async(connection, statement)
        try:
            return self.fetch(connection, statement)
        except Exception as error:
            self._translate_error(error, connection, statement)
            raise

    async def _fetch_value_async(self, connection: Any, statement: Statement) -> Any:
        try:
            return await self.fetch(connection, statement)
        except Exception as error:
            self._translate_error(error, connection, statement)
            raise

    def _translate_error(self, error: Exception, connection: Any, statement: Statement) -> None:
        """Raise an error with instructions, if the cause is known."""
        dialect = "postgresql"
        with contextlib.suppress(Exception):  # a SQLAlchemy session without an engine raises
            dialect = self.dialect(connection)
        if dialect != "postgresql":
            raise EnqueueError(f"the connection must be to PostgreSQL, where jobs are stored, not {dialect}") from error
        if statement.name == "add_unique_jobs" and _sqlstate(error) == "23505":
            raise DuplicateJob("a unique job among them exists: no job was added, roll the transaction back") from error
        message = _error_message(error, statement)
        if message is not None:
            raise SchemaError(message) from error


def driver_for(connection: object) -> Driver:
    """Return the driver of a connection.

    Raises:
        EnqueueError: It is not a supported connection.
    """
    for kind in type(connection).__mro__:
        driver = _DRIVERS.get((kind.__module__.partition(".")[0], kind.__name__))
        if driver is not None:
            return driver
    if inspect.iscoroutine(connection):
        raise EnqueueError(f"{connection.__qualname__}(...) must be awaited: pass the connection that it returns")
    raise EnqueueError(
        f"{type(connection).__module__}.{type(connection).__qualname__} is not a supported connection: give an asyncpg "
        "connection or pool, a psycopg 3 connection, a SQLAlchemy Connection or Session (sync or async), or "
        "django.db.connection"
    )


async def _fetch_asyncpg(connection: Any, statement: Statement) -> Any:
    return await connection.fetchval(statement.numeric(), *statement.values)


def _fetch_psycopg(connection: Any, statement: Statement) -> Any:
    from psycopg.rows import tuple_row  # noqa: PLC0415  - already loaded by the caller

    with connection.cursor(row_factory=tuple_row) as cursor:
        return cursor.execute(statement.format(), statement.values).fetchone()[0]


async def _fetch_psycopg_async(connection: Any, statement: Statement) -> Any:
    from psycopg.rows import tuple_row  # noqa: PLC0415  - already loaded by the caller

    async with connection.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(statement.format(), statement.values)
        return (await cursor.fetchone())[0]


def _fetch_sqlalchemy(connection: Any, statement: Statement) -> Any:
    from sqlalchemy import text  # noqa: PLC0415  - already loaded by the caller

    sql, values = statement.named()
    return connection.execute(text(sql), values).scalar_one()


async def _fetch_sqlalchemy_async(connection: Any, statement: Statement) -> Any:
    from sqlalchemy import text  # noqa: PLC0415  - already loaded by the caller

    sql, values = statement.named()
    return (await connection.execute(text(sql), values)).scalar_one()


def _fetch_django(connection: Any, statement: Statement) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement.format(), statement.values)
        return cursor.fetchone()[0]


_ROLLBACK = operator.methodcaller("rollback")


def _psycopg_in_transaction(connection: Any) -> bool:
    return int(connection.info.transaction_status) != 0  # 0: idle


def _django_in_transaction(connection: Any) -> bool:
    return bool(connection.in_atomic_block) or not connection.get_autocommit()


def _sqlalchemy_dialect(connection: Any) -> str:
    bind = connection.get_bind() if hasattr(connection, "get_bind") else connection
    return str(bind.dialect.name)


def _django_vendor(connection: Any) -> str:
    return str(connection.vendor)


_ASYNCPG = Driver(
    "asyncpg",
    is_async=True,
    fetch=_fetch_asyncpg,
    in_transaction=operator.methodcaller("is_in_transaction"),
    supports_listen=True,
)
_ASYNCPG_POOL = replace(_ASYNCPG, name="asyncpg's pool", in_transaction=lambda _pool: False)
_PSYCOPG = Driver(
    "psycopg", is_async=False, fetch=_fetch_psycopg, in_transaction=_psycopg_in_transaction, rollback=_ROLLBACK
)
_PSYCOPG_ASYNC = replace(_PSYCOPG, is_async=True, fetch=_fetch_psycopg_async)
_SQLALCHEMY = Driver(
    "SQLAlchemy",
    is_async=False,
    fetch=_fetch_sqlalchemy,
    in_transaction=operator.methodcaller("in_transaction"),
    rollback=_ROLLBACK,
    dialect=_sqlalchemy_dialect,
)
_SQLALCHEMY_ASYNC = replace(_SQLALCHEMY, is_async=True, fetch=_fetch_sqlalchemy_async)
_DJANGO = Driver(
    "Django", is_async=False, fetch=_fetch_django, in_transaction=_django_in_transaction, dialect=_django_vendor
)

#: Drivers by the package and the name of a class in the connection's MRO.
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
    """Return PostgreSQL's error code, also if a library has wrapped the driver's error."""
    cause: BaseException | None = error
    while cause is not None:
        for candidate in (cause, getattr(cause, "orig", None)):
            code = getattr(candidate, "sqlstate", None) or getattr(candidate, "pgcode", None)
            if isinstance(code, str):
                return code
        cause = cause.__cause__
    return None


def _error_message(error: Exception, statement: Statement) -> str | None:
    match _sqlstate(error):
        case "3F000":
            message = "this database has no schema {schema}: run `jobfn db migrate`, or set JOBS_SCHEMA"
        case "42883":
            name = "expiring" if "expiring" in statement.wrappers else statement.name
            message = _MISSING_FUNCTION.get(name, _MISSING_FUNCTION["add_job"])
        case "42501":
            message = _MISSING_PRIVILEGE.get(statement.name, _MISSING_PRIVILEGE["add_job"])
        case _:
            return None
    return message.format(schema=statement.schema)
