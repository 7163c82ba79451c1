"""Adding jobs from your own code: what is asked is checked, made into one statement, and run on your connection.

``Task.enqueue`` and ``enqueue`` end here. Nothing is sent before everything is checked, and the transaction stays
yours: roll it back, and there is no job. ``drivers.py`` runs the statement.
"""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional, TypeAlias, TypeVar, Union, overload
from uuid import UUID

from jobfn.client.connections import AnyAsyncConnection, AnyConnection, SyncConnection
from jobfn.client.drivers import driver_of
from jobfn.client.result import EnqueuedJob, SyncEnqueuedJob
from jobfn.client.statements import Statement, Value, schema_or_default
from jobfn.client.validation import (
    MAX_INT,
    as_payloads,
    check_int,
    check_key_function,
    check_tenant,
    check_text,
    checked_key,
    checked_queue,
    checked_time,
    columns,
    json_of,
)
from jobfn.telemetry.tracing import current
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

#: As ``add_job`` has it (contract, section 3).
DEFAULT_MAX_ATTEMPTS = 25

T = TypeVar("T")

#: An option of many jobs: the same for all, or made of each payload.
Each: TypeAlias = Union[T, Callable[[Any], Optional[T]], None]  # noqa: UP007, UP045  - T | None is no alias yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Common:
    """What all jobs of one call share, checked.

    Attributes:
        task: The task identifier.
        priority: Lower runs first.
        max_attempts: How often it may be tried.
        database_id: The tenant; None: that of the session.
        schema: The jobs schema; None: ``JOBS_SCHEMA``, else ``app_jobs``.
        keep_result: Whether the task keeps results, where that is known.
    """

    task: str
    priority: int = 0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    database_id: UUID | str | None = None
    schema: str | None = None
    keep_result: bool | None = None

    def __post_init__(self) -> None:
        check_text("task", self.task, MAX_TASK_IDENTIFIER_CHARACTERS)
        check_int("priority", self.priority, -MAX_INT - 1)
        check_int("max_attempts", self.max_attempts, 1)
        check_tenant(self.database_id)

    def statement(self, name: str, *values: Value) -> Statement:
        """A statement on this schema, whose jobs are a part of the current span's trace, where there is one."""
        schema = schema_or_default(self.schema)
        trace = current()
        if trace is None:
            return Statement(name, schema, values)
        return Statement(name, schema, (trace.parent, trace.state or "", *values), is_traced=True)

    @property
    def tenant(self) -> str | None:
        """The tenant as text."""
        return None if self.database_id is None else str(self.database_id)


@overload
def enqueue(
    connection: AnyAsyncConnection,
    task: str,
    payload: Any = None,
    *,
    run_at: datetime | None = None,
    key: str | None = None,
    queue: str | None = None,
    priority: int = 0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    database_id: UUID | str | None = None,
    schema: str | None = None,
) -> Coroutine[Any, Any, EnqueuedJob[Any]]: ...
@overload
def enqueue(
    connection: SyncConnection,
    task: str,
    payload: Any = None,
    *,
    run_at: datetime | None = None,
    key: str | None = None,
    queue: str | None = None,
    priority: int = 0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    database_id: UUID | str | None = None,
    schema: str | None = None,
) -> SyncEnqueuedJob[Any]: ...
def enqueue(
    connection: AnyConnection,
    task: str,
    payload: Any = None,
    *,
    run_at: datetime | None = None,
    key: str | None = None,
    queue: str | None = None,
    priority: int = 0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    database_id: UUID | str | None = None,
    schema: str | None = None,
) -> Any:
    """Add one job by the task's name, for functions that live elsewhere.

    ``await enqueue(connection, "send_email", {...})``. Where the function is in reach,
    ``send_email.enqueue(connection, Email(...))`` also checks the payload against its type.

    Args:
        connection: An asyncpg connection or pool, a psycopg 3 connection, a SQLAlchemy Connection or Session (each
            sync or async), or ``django.db.connection``. The job is added in its transaction.
        task: The task identifier, 1 to 126 characters.
        payload: Anything that JSON can hold, pydantic models and dataclasses among it. Default None: ``{}``.
        run_at: Not before this time, which has a time zone. Default None: now.
        key: At most one waiting job has it; a second one replaces the first. 1 to 512 characters.
        queue: Jobs of one queue run one at a time, in order. 1 to 126 characters.
        priority: Lower runs first.
        max_attempts: How often it may be tried.
        database_id: The tenant. Default None: that of the session's ``jwt.claims.database_id``.
        schema: The jobs schema. Default None: ``JOBS_SCHEMA``, else ``app_jobs``.

    Returns:
        The job's id, an ``int`` that can also wait for the job's end; to be awaited where the connection is async.

    Raises:
        EnqueueError: Something given cannot be; nothing was sent.
        SchemaError: The database has no such schema, or not this function in it.
        Exception: What the driver raises otherwise.
    """
    common = Common(task=task, priority=priority, max_attempts=max_attempts, database_id=database_id, schema=schema)
    return add_one(connection, common, json_of(payload), run_at=run_at, key=key, queue=queue)


@overload
def enqueue_many(
    connection: AnyAsyncConnection,
    task: str,
    payloads: Iterable[Any],
    *,
    run_at: Each[datetime] = None,
    key: Callable[[Any], str | None] | None = None,
    queue: Each[str] = None,
    priority: int = 0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    database_id: UUID | str | None = None,
    schema: str | None = None,
) -> Coroutine[Any, Any, list[int]]: ...
@overload
def enqueue_many(
    connection: SyncConnection,
    task: str,
    payloads: Iterable[Any],
    *,
    run_at: Each[datetime] = None,
    key: Callable[[Any], str | None] | None = None,
    queue: Each[str] = None,
    priority: int = 0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    database_id: UUID | str | None = None,
    schema: str | None = None,
) -> list[int]: ...
def enqueue_many(
    connection: AnyConnection,
    task: str,
    payloads: Iterable[Any],
    *,
    run_at: Each[datetime] = None,
    key: Callable[[Any], str | None] | None = None,
    queue: Each[str] = None,
    priority: int = 0,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    database_id: UUID | str | None = None,
    schema: str | None = None,
) -> Any:
    """Add many jobs of one task in one statement, by the task's name. Any number; thousands at a time are well.

    Args:
        connection: As for ``enqueue``.
        task: As for ``enqueue``.
        payloads: One job each, in this order.
        run_at: A time for all, or a function of the payload that gives each its own.
        key: A function of the payload: ``key=lambda invoice: f"invoice-{invoice.id}"``. Of two with the same key, the
            second replaces the first.
        queue: A queue for all, or a function of the payload.
        priority: As for ``enqueue``.
        max_attempts: As for ``enqueue``.
        database_id: As for ``enqueue``.
        schema: As for ``enqueue``.

    Returns:
        The jobs' ids, in the order of the payloads; to be awaited where the connection is async.

    Raises:
        EnqueueError: Something given cannot be; nothing was sent.
        SchemaError: The schema is not there, older than this jobfn, or the platform's own, which has no such function.
        Exception: What the driver raises otherwise.
    """
    common = Common(task=task, priority=priority, max_attempts=max_attempts, database_id=database_id, schema=schema)
    return add_many(connection, common, payloads, json_of, run_at=run_at, key=key, queue=queue)


def add_one(
    connection: Any, common: Common, payload: str, *, run_at: datetime | None, key: str | None, queue: str | None
) -> Any:
    """Add one job whose payload is JSON text. As ``enqueue``."""
    values: list[Value] = [
        common.task,
        payload,
        checked_key(key),
        checked_queue(queue),
        checked_time(run_at),
        str(common.max_attempts),
        str(common.priority),
    ]
    if common.tenant is None:
        statement = common.statement("add_job", *values)
    else:
        statement = common.statement("add_job_for_tenant", *values, common.tenant)
    driver = driver_of(connection)
    found = driver.value(connection, statement)
    return _handle_async(connection, common, found) if driver.is_async else _handle(connection, common, found)


def add_many(
    connection: Any,
    common: Common,
    payloads: Iterable[Any],
    json_of_each: Callable[[Any], str],
    *,
    run_at: Each[datetime],
    key: Callable[[Any], str | None] | None,
    queue: Each[str],
) -> Any:
    """Add many jobs. As ``enqueue_many``; ``json_of_each`` checks a payload and makes it JSON text."""
    check_key_function(key)
    given = as_payloads(payloads)
    texts = []
    for place, payload in enumerate(given):
        try:
            texts.append(json_of_each(payload))
        except Exception as error:
            error.add_note(f"payload {place} of {len(given)} (counted from 0); no job was added")
            raise
    statement = common.statement(
        "add_jobs",
        common.task,
        texts,
        columns(given, key, checked_key),
        columns(given, queue, checked_queue),
        columns(given, run_at, checked_time),
        str(common.max_attempts),
        str(common.priority),
        common.tenant,
    )
    return driver_of(connection).value(connection, statement)


def _handle(connection: Any, common: Common, found: Any) -> SyncEnqueuedJob[Any]:
    return SyncEnqueuedJob.of(int(found), connection, schema_or_default(common.schema), common.keep_result)


async def _handle_async(connection: Any, common: Common, found: Coroutine[Any, Any, Any]) -> EnqueuedJob[Any]:
    return EnqueuedJob.of(int(await found), connection, schema_or_default(common.schema), common.keep_result)
