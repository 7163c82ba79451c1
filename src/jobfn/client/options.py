"""The options of ``enqueue`` and ``enqueue_many``, as typed keyword arguments (PEP 692)."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, TypedDict, TypeVar
from uuid import UUID

from jobfn.unique import ConflictOption, UniqueOption

T = TypeVar("T")


class SharedOptions(TypedDict, total=False):
    """Options with one value for all jobs of a call; see ``JobOptions``."""

    priority: int
    max_attempts: int | None
    database_id: UUID | str | None
    unique: UniqueOption | None
    unique_by: Sequence[str] | None
    on_conflict: ConflictOption | None
    expires_at: datetime | None
    expires_in: timedelta | None
    schema: str | None


class JobOptions(SharedOptions, total=False):
    """Options of one job.

    Attributes:
        run_at: Do not run before this time, a ``datetime`` with a time zone. Default None: now.
        key: At most one waiting job has this key: a second one replaces the first. 1 to 512 characters. Default None.
        queue: Jobs of one queue run one at a time, in order. 1 to 126 characters. Default None: no queue.
        priority: Jobs with a lower number run first. Default 0.
        max_attempts: Maximum number of attempts. Default None: the task's own ``max_attempts``, else 25.
        expires_at: Do not start after this time, a ``datetime`` with a time zone, not even for a retry. Needs jobfn's
            schema. Default None: at any time.
        expires_in: The same, as a ``timedelta`` from now.
        max_delay: With ``key`` and ``run_at``: a job that is replaced again and again runs at most this long after it
            was first added. Needs jobfn's schema. Default None: no limit.
        database_id: The tenant, a UUID. Default None: the session's ``jwt.claims.database_id``.
        unique: Add no second job with the same task, tenant and payload: within a ``timedelta`` of the first one, until
            that has started (``"until_started"``), or until it has completed or permanently failed
            (``"until_done"``). Needs jobfn's schema. Default None: the task's own ``unique``.
        unique_by: Compare only these fields of the payload; ``[]`` compares none. Default None: the whole payload.
        on_conflict: What happens to a duplicate: ``"keep"`` the existing job, ``"replace"`` its payload and options
            while it waits, or raise ``DuplicateJob`` (``"error"``). Default None: ``"keep"``.
        entity_id: The record that the job is about, a UUID. Default None.
        organization_id: The organization that the entity belongs to, a UUID. Default None.
        entity_type: What the entity is, such as ``org``. Default None.
        depends_on: Jobs, or their ids, that must have ended before this one runs. It fails permanently if one of them
            does not complete. Needs jobfn's schema. Default None.
        ignore_failures: Run also if a job of ``depends_on`` does not complete. Default False.
        schema: The jobs schema. Default None: ``JOBS_SCHEMA``, else ``app_jobs``.
    """

    run_at: datetime | None
    key: str | None
    queue: str | None
    entity_id: UUID | str | None
    organization_id: UUID | str | None
    entity_type: str | None
    max_delay: timedelta | None
    depends_on: Sequence[int] | None
    ignore_failures: bool


class BulkJobOptions(SharedOptions, Generic[T], total=False):
    """Options of many jobs with payloads of type ``T``. The options not described here are as in ``JobOptions``.

    Attributes:
        run_at: One time for all jobs, or a function that returns the time for a payload. Default None: now.
        key: A function that returns the key for a payload: ``key=lambda invoice: f"invoice-{invoice.id}"``. Of two
            payloads with the same key, the second replaces the first. Default None: no keys.
        queue: One queue for all jobs, or a function that returns the queue for a payload. Default None: no queue.
    """

    run_at: datetime | Callable[[T], datetime | None] | None
    key: Callable[[T], str | None] | None
    queue: str | Callable[[T], str | None] | None
