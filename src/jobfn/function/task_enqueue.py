"""``Task.enqueue`` and ``Task.enqueue_many``: enqueue jobs with payloads of the task's own type.

A payload is serialized to JSON and then validated as the function will validate it. ``client/enqueue.py`` does the
rest; it is imported on first use, so that a function that enqueues nothing starts faster.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Protocol, TypeVar, Unpack, overload

from jobfn.errors import EnqueueError, InvalidPayload
from jobfn.task_defaults import TaskDefaults

if TYPE_CHECKING:
    from jobfn.client.connections import AnyAsyncConnection, AnyConnection, SyncConnection
    from jobfn.client.options import BulkJobOptions, JobOptions
    from jobfn.client.result import EnqueuedJob, EnqueuedJobs, SyncEnqueuedJob

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)
V_co = TypeVar("V_co", covariant=True)


class AsyncHandlerTask(Protocol[T_contra, V_co]):
    """A task with an async handler: the types of its payload and of its result."""

    @property
    def handler(self) -> Callable[Concatenate[T_contra, ...], Coroutine[Any, Any, V_co]]:
        """The handler."""


class SyncHandlerTask(Protocol[T_contra, V_co]):
    """A task with a sync handler: the types of its payload and of its result."""

    @property
    def handler(self) -> Callable[Concatenate[T_contra, ...], V_co]:
        """The handler."""


class TaskEnqueue:
    """The methods of ``Task`` that enqueue jobs, and the attributes of ``Task`` that they use."""

    identifier: str
    defaults: TaskDefaults
    keep_seconds: float | None
    takes_payload: bool

    def decode(self, body: bytes) -> Any:
        """See ``Task.decode``."""
        raise NotImplementedError

    @overload
    def enqueue(
        self: AsyncHandlerTask[T, V_co], connection: "AnyAsyncConnection", payload: T, **options: "Unpack[JobOptions]"
    ) -> "Coroutine[Any, Any, EnqueuedJob[V_co]]": ...
    @overload
    def enqueue(
        self: AsyncHandlerTask[T, V_co], connection: "SyncConnection", payload: T, **options: "Unpack[JobOptions]"
    ) -> "SyncEnqueuedJob[V_co]": ...
    @overload
    def enqueue(
        self: SyncHandlerTask[T, V_co], connection: "AnyAsyncConnection", payload: T, **options: "Unpack[JobOptions]"
    ) -> "Coroutine[Any, Any, EnqueuedJob[V_co]]": ...
    @overload
    def enqueue(
        self: SyncHandlerTask[T, V_co], connection: "SyncConnection", payload: T, **options: "Unpack[JobOptions]"
    ) -> "SyncEnqueuedJob[V_co]": ...
    def enqueue(self, connection: "AnyConnection", payload: Any, **options: "Unpack[JobOptions]") -> Any:
        """Enqueue one job of this task, in the connection's own transaction.

        Args:
            connection: An asyncpg connection or pool, a psycopg 3 connection, a SQLAlchemy Connection or Session (each
                sync or async), or ``django.db.connection``.
            payload: A value of the type in the handler's annotation; None for a task without a payload.
            options: See ``JobOptions``.

        Returns:
            The job's id, an ``int`` that can also wait for the job's result (``await job.result(timeout=30)``). On an
            async connection, await the call.

        Raises:
            InvalidPayload: The payload does not match the handler's type; names each field. Nothing was sent.
            EnqueueError: Another argument is not valid. Nothing was sent.
            DuplicateJob: The job is a duplicate, and ``on_conflict="error"``.
            SchemaError: The database does not have the schema, or the schema does not have the function.
            Exception: Any other error comes from the driver.
        """
        from jobfn.client.enqueue import enqueue_one  # noqa: PLC0415  - see the module

        return enqueue_one(
            connection,
            self.identifier,
            payload,
            options,
            serialize=self._serialize,
            defaults=self.defaults,
            keep_result=self.keep_seconds is not None,
        )

    @overload
    def enqueue_many(
        self: AsyncHandlerTask[T, V_co],
        connection: "AnyAsyncConnection",
        payloads: Iterable[T],
        **options: "Unpack[BulkJobOptions[T]]",
    ) -> "Coroutine[Any, Any, EnqueuedJobs]": ...
    @overload
    def enqueue_many(
        self: AsyncHandlerTask[T, V_co],
        connection: "SyncConnection",
        payloads: Iterable[T],
        **options: "Unpack[BulkJobOptions[T]]",
    ) -> "EnqueuedJobs": ...
    @overload
    def enqueue_many(
        self: SyncHandlerTask[T, V_co],
        connection: "AnyAsyncConnection",
        payloads: Iterable[T],
        **options: "Unpack[BulkJobOptions[T]]",
    ) -> "Coroutine[Any, Any, EnqueuedJobs]": ...
    @overload
    def enqueue_many(
        self: SyncHandlerTask[T, V_co],
        connection: "SyncConnection",
        payloads: Iterable[T],
        **options: "Unpack[BulkJobOptions[T]]",
    ) -> "EnqueuedJobs": ...
    def enqueue_many(
        self, connection: "AnyConnection", payloads: Iterable[Any], **options: "Unpack[BulkJobOptions[Any]]"
    ) -> Any:
        """Enqueue many jobs of this task in one statement. Thousands at a time are fine.

        Args:
            connection: As for ``enqueue``.
            payloads: One job each, in this order.
            options: See ``BulkJobOptions``.

        Returns:
            The jobs' ids, in the order of the payloads, a ``list`` that also tells which are duplicates. On an async
            connection, await the call.

        Raises:
            InvalidPayload: A payload does not match the handler's type; a note says which. Nothing was sent.
            EnqueueError: Another argument is not valid. Nothing was sent.
            DuplicateJob: The job is a duplicate, and ``on_conflict="error"``.
            SchemaError: The schema is out of date, or is the platform's, which does not have the function.
            Exception: Any other error comes from the driver.
        """
        from jobfn.client.enqueue import enqueue_each  # noqa: PLC0415  - see the module

        return enqueue_each(
            connection,
            self.identifier,
            payloads,
            options,
            serialize=self._serialize,
            defaults=self.defaults,
        )

    def _serialize(self, payload: Any) -> str:
        """Return the payload as JSON text, validated as the function will validate it."""
        from jobfn.client.validation import omit_unset_fields, to_full_json  # noqa: PLC0415  - see the module

        text = to_full_json(payload) if self.takes_payload or payload is not None else "{}"
        try:
            value = self.decode(text.encode())
        except InvalidPayload as error:
            raise InvalidPayload(f"{error.message}. No job was added", details=error.details) from None
        except Exception as error:
            raise EnqueueError(
                f"the validation of {self.identifier}'s payload raised {type(error).__name__}: no job was added"
            ) from error
        return omit_unset_fields(payload, text, value, lambda short: self.decode(short.encode()))
