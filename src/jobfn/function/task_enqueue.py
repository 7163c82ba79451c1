"""``Task.enqueue``: adding jobs of a task whose function is in reach, with its payload's type.

The payload is written as JSON and read back as the function would read it: what is sent is what was checked.
``client/adding.py`` does the rest; it is imported by whoever enqueues, and costs a function that does not nothing.
"""

from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, TypeVar, cast, overload
from uuid import UUID

from jobfn.errors import EnqueueError, InvalidPayload

if TYPE_CHECKING:
    from jobfn.client.connections import AnyAsyncConnection, AnyConnection, SyncConnection
    from jobfn.client.enqueue import Common
    from jobfn.client.result import EnqueuedJob, SyncEnqueuedJob
    from jobfn.function.task import Task

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)


class AsyncHandled(Protocol[T_contra, V_co]):
    """A task whose handler is async: what it takes, and what it returns in the end."""

    @property
    def handler(self) -> Callable[Concatenate[T_contra, ...], Coroutine[Any, Any, V_co]]:
        """The handler."""


class Handled(Protocol[T_contra, V_co]):
    """A task whose handler is an ordinary function."""

    @property
    def handler(self) -> Callable[Concatenate[T_contra, ...], V_co]:
        """The handler."""


class Enqueueing:
    """What a ``Task`` can do as a sender."""

    @overload
    def enqueue(
        self: "AsyncHandled[T, V_co]",
        connection: "AnyAsyncConnection",
        payload: T,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "Coroutine[Any, Any, EnqueuedJob[V_co]]": ...
    @overload
    def enqueue(
        self: "AsyncHandled[T, V_co]",
        connection: "SyncConnection",
        payload: T,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "SyncEnqueuedJob[V_co]": ...
    @overload
    def enqueue(
        self: "Handled[T, V_co]",
        connection: "AnyAsyncConnection",
        payload: T,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "Coroutine[Any, Any, EnqueuedJob[V_co]]": ...
    @overload
    def enqueue(
        self: "Handled[T, V_co]",
        connection: "SyncConnection",
        payload: T,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "SyncEnqueuedJob[V_co]": ...
    def enqueue(
        self,
        connection: "AnyConnection",
        payload: Any,
        *,
        run_at: datetime | None = None,
        key: str | None = None,
        queue: str | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> Any:
        """Add one job of this task, in the connection's own transaction.

        Args:
            connection: An asyncpg connection or pool, a psycopg 3 connection, a SQLAlchemy Connection or Session (each
                sync or async), or ``django.db.connection``.
            payload: Of the type that the handler takes; None for a task without a payload.
            run_at: Not before this time, which has a time zone. Default None: now.
            key: At most one waiting job has it; a second one replaces the first. 1 to 512 characters.
            queue: Jobs of one queue run one at a time, in order. 1 to 126 characters.
            priority: Lower runs first.
            max_attempts: How often it may be tried. Default None: the task's own ``max_attempts``, else 25.
            database_id: The tenant. Default None: that of the session's ``jwt.claims.database_id``.
            schema: The jobs schema. Default None: ``JOBS_SCHEMA``, else ``app_jobs``.

        Returns:
            The job's id, an ``int`` that can also wait for the job's end (``await job.result(timeout=30)``); to be
            awaited where the connection is async.

        Raises:
            InvalidPayload: The payload does not fit the handler's type; names each field. Nothing was sent.
            EnqueueError: Something else given cannot be; nothing was sent.
            SchemaError: The database has no such schema, or not this function in it.
            Exception: What the driver raises otherwise, as it is: it is your transaction.
        """
        from jobfn.client.enqueue import add_one  # noqa: PLC0415  - only who enqueues pays for it

        task = cast("Task[..., Any]", self)
        common = _common(task, priority=priority, max_attempts=max_attempts, database_id=database_id, schema=schema)
        return add_one(connection, common, _checked(task, payload), run_at=run_at, key=key, queue=queue)

    @overload
    def enqueue_many(
        self: "AsyncHandled[T, V_co]",
        connection: "AnyAsyncConnection",
        payloads: Iterable[T],
        *,
        run_at: datetime | Callable[[T], datetime | None] | None = None,
        key: Callable[[T], str | None] | None = None,
        queue: str | Callable[[T], str | None] | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "Coroutine[Any, Any, list[int]]": ...
    @overload
    def enqueue_many(
        self: "AsyncHandled[T, V_co]",
        connection: "SyncConnection",
        payloads: Iterable[T],
        *,
        run_at: datetime | Callable[[T], datetime | None] | None = None,
        key: Callable[[T], str | None] | None = None,
        queue: str | Callable[[T], str | None] | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "list[int]": ...
    @overload
    def enqueue_many(
        self: "Handled[T, V_co]",
        connection: "AnyAsyncConnection",
        payloads: Iterable[T],
        *,
        run_at: datetime | Callable[[T], datetime | None] | None = None,
        key: Callable[[T], str | None] | None = None,
        queue: str | Callable[[T], str | None] | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "Coroutine[Any, Any, list[int]]": ...
    @overload
    def enqueue_many(
        self: "Handled[T, V_co]",
        connection: "SyncConnection",
        payloads: Iterable[T],
        *,
        run_at: datetime | Callable[[T], datetime | None] | None = None,
        key: Callable[[T], str | None] | None = None,
        queue: str | Callable[[T], str | None] | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> "list[int]": ...
    def enqueue_many(
        self,
        connection: "AnyConnection",
        payloads: Iterable[Any],
        *,
        run_at: datetime | Callable[[Any], datetime | None] | None = None,
        key: Callable[[Any], str | None] | None = None,
        queue: str | Callable[[Any], str | None] | None = None,
        priority: int = 0,
        max_attempts: int | None = None,
        database_id: UUID | str | None = None,
        schema: str | None = None,
    ) -> Any:
        """Add many jobs of this task in one statement, one for each payload; thousands at a time are well.

        Args:
            connection: As for ``enqueue``.
            payloads: Each of the type that the handler takes; one job each, in this order.
            run_at: A time for all, or a function of the payload that gives each its own.
            key: A function of the payload: ``key=lambda invoice: f"invoice-{invoice.id}"``. Of two with the same
                key, the second replaces the first.
            queue: A queue for all, or a function of the payload.
            priority: As for ``enqueue``.
            max_attempts: As for ``enqueue``.
            database_id: As for ``enqueue``.
            schema: As for ``enqueue``.

        Returns:
            The jobs' ids, in the order of the payloads; to be awaited where the connection is async.

        Raises:
            InvalidPayload: One of the payloads does not fit; a note says which. Nothing was sent.
            EnqueueError: Something else given cannot be; nothing was sent.
            SchemaError: The schema is older than this jobfn, or the platform's own, which has no such function.
            Exception: What the driver raises otherwise.
        """
        from jobfn.client.enqueue import add_many  # noqa: PLC0415  - as above

        task = cast("Task[..., Any]", self)
        common = _common(task, priority=priority, max_attempts=max_attempts, database_id=database_id, schema=schema)
        return add_many(
            connection,
            common,
            payloads,
            lambda payload: _checked(task, payload),
            run_at=run_at,
            key=key,
            queue=queue,
        )


def _common(task: "Task[..., Any]", *, max_attempts: int | None, **options: Any) -> "Common":
    from jobfn.client.enqueue import DEFAULT_MAX_ATTEMPTS, Common  # noqa: PLC0415  - as above

    own = task.retries.max_attempts or DEFAULT_MAX_ATTEMPTS
    attempts = own if max_attempts is None else max_attempts
    return Common(task=task.identifier, max_attempts=attempts, keep_result=task.keep_seconds is not None, **options)


def _checked(task: "Task[..., Any]", payload: Any) -> str:
    """The payload as JSON text, read back as the function will read it.

    Raises:
        InvalidPayload: It does not fit.
    """
    from jobfn.client.validation import json_of  # noqa: PLC0415  - as above

    text = json_of(payload) if task.takes_payload or payload is not None else "{}"
    try:
        task.decode(text.encode())
    except InvalidPayload as error:
        raise InvalidPayload(f"{error.message}. No job was added", details=error.details) from None
    except Exception as error:
        raise EnqueueError(
            f"the validation of {task.identifier}'s payload raised {type(error).__name__}; no job was added"
        ) from error
    return text
