"""Defaults that tasks declare in code for their jobs: ``@task("sync", queue="syncs", priority=5)``.

``enqueue`` finds them by the task's name once the module with the task is loaded. ``jobfn sync`` writes them to the
database, for SQL, triggers and other processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakValueDictionary

from jobfn.limits import Rate, check_concurrency, check_per, parse_rate
from jobfn.unique import ConflictOption, Unique, UniqueOption, parse_unique

#: Limits of the jobs table (contract, section 3).
MAX_QUEUE_CHARACTERS = 126
MAX_INT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TaskLimit:
    """A limit of a task's jobs, for all workers together.

    Attributes:
        concurrency: Maximum number of running jobs.
        rate: Maximum number of starts in a time.
        per: What has a separate limit each: ``tenant``, ``payload.customer``; None: one limit for all.
    """

    concurrency: int | None = None
    rate: Rate | None = None
    per: str | None = None


@dataclass(frozen=True, slots=True, weakref_slot=True)
class TaskDefaults:
    """Options of a task's jobs, where ``enqueue`` gives none. None means the schema's default.

    Attributes:
        queue: The queue.
        priority: The priority.
        max_attempts: Maximum number of attempts.
        unique: When a job is a duplicate.
        limit: The limit of the jobs, which only ``jobfn sync`` uses.
    """

    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None
    unique: Unique | None = None
    limit: TaskLimit | None = None


NO_DEFAULTS = TaskDefaults()


def parse_defaults(
    *,
    queue: str | None = None,
    priority: int | None = None,
    max_attempts: int | None = None,
    unique: UniqueOption | None = None,
    unique_by: Sequence[str] | None = None,
    on_conflict: ConflictOption | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    per: str | None = None,
) -> TaskDefaults:
    """Return the options of ``@task`` as defaults. ``max_attempts`` is checked with the retry policy.

    Raises:
        ValueError: An option is not valid.
        ConfigurationError: An option of the limit is not valid.
    """
    _check_queue(queue)
    if priority is not None and (type(priority) is not int or not -MAX_INT - 1 <= priority <= MAX_INT):
        raise ValueError(f"priority={priority!r} must be a whole number from {-MAX_INT - 1} to {MAX_INT}")
    limit = _parse_limit(concurrency, rate, per)
    return TaskDefaults(queue, priority, max_attempts, parse_unique(unique, unique_by, on_conflict), limit)


def _parse_limit(concurrency: int | None, rate: str | None, per: str | None) -> TaskLimit | None:
    if concurrency is None and rate is None:
        if per is not None:
            raise ValueError("per needs concurrency or rate: it says what has a separate limit each")
        return None
    if rate is not None and not isinstance(rate, str):
        raise ValueError(f"rate={rate!r} must be text such as '100/minute'")
    if concurrency is not None and not isinstance(concurrency, int):
        raise ValueError(f"concurrency={concurrency!r} must be a whole number")
    return TaskLimit(
        None if concurrency is None else check_concurrency(concurrency),
        None if rate is None else parse_rate(rate),
        None if per is None else check_per(per),
    )


def _check_queue(queue: object) -> None:
    if queue is None:
        return
    if not isinstance(queue, str) or not 0 < len(queue) <= MAX_QUEUE_CHARACTERS or "\0" in queue:
        raise ValueError(f"queue={queue!r} must be text of 1 to {MAX_QUEUE_CHARACTERS} characters")


#: Defaults of the tasks that exist in this process, by identifier.
_by_task: "WeakValueDictionary[str, TaskDefaults]" = WeakValueDictionary()


def register(task: str, defaults: TaskDefaults) -> None:
    """Let ``find`` return the defaults for as long as they are referenced. The latest task with this name counts."""
    if defaults != NO_DEFAULTS:
        _by_task[task] = defaults
    elif _by_task:
        _by_task.pop(task, None)


def find(task: str) -> TaskDefaults:
    """Return the defaults of a task that is defined in this process; ``NO_DEFAULTS`` for others."""
    return _by_task.get(task, NO_DEFAULTS) if _by_task else NO_DEFAULTS
