"""Enqueue jobs from your own code, in your own transaction.

Everything is validated before anything is sent, then one statement is run on your connection (``drivers.py``). The
transaction stays yours: after a rollback there is no job. ``Task.enqueue`` uses the same functions.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Unpack, overload

from jobfn.client.connections import AnyAsyncConnection, AnyConnection, SyncConnection
from jobfn.client.drivers import driver_for
from jobfn.client.options import BulkJobOptions, JobOptions, SharedOptions
from jobfn.client.result import EnqueuedJob, EnqueuedJobs, SyncEnqueuedJob
from jobfn.client.statements import Statement, Value, schema_or_default
from jobfn.client.validation import (
    as_column,
    as_payloads,
    to_json,
    validate_entity_type,
    validate_expiry,
    validate_int,
    validate_job_ids,
    validate_key,
    validate_key_function,
    validate_option_names,
    validate_queue,
    validate_run_at,
    validate_text,
    validate_uuid,
)
from jobfn.errors import DuplicateJob
from jobfn.task_defaults import MAX_INT, NO_DEFAULTS, TaskDefaults, find
from jobfn.telemetry.tracing import current
from jobfn.unique import Unique
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

#: Options that ``unique.py`` implements.
_UNIQUE_OPTIONS = frozenset({"unique", "unique_by", "on_conflict", "max_delay"})


@overload
def enqueue(
    connection: AnyAsyncConnection, task: str, payload: Any = None, **options: Unpack[JobOptions]
) -> Coroutine[Any, Any, EnqueuedJob[Any]]: ...
@overload
def enqueue(
    connection: SyncConnection, task: str, payload: Any = None, **options: Unpack[JobOptions]
) -> SyncEnqueuedJob[Any]: ...
def enqueue(connection: AnyConnection, task: str, payload: Any = None, **options: Unpack[JobOptions]) -> Any:
    """Enqueue one job by the task's name, in the connection's own transaction.

    Use it for tasks that are defined elsewhere: ``await enqueue(connection, "send_email", {...})``. If you can import
    the task, ``send_email.enqueue(connection, Email(...))`` also validates the payload.

    Args:
        connection: An asyncpg connection or pool, a psycopg 3 connection, a SQLAlchemy Connection or Session (each
            sync or async), or ``django.db.connection``.
        task: The task identifier, 1 to 126 characters.
        payload: Any JSON value, pydantic model or dataclass. Default None: ``{}``.
        options: See ``JobOptions``.

    Returns:
        The job's id, an ``int`` that can also wait for the job's result (``await job.result(timeout=30)``). On an async
        connection, await the call.

    Raises:
        EnqueueError: An argument is not valid. Nothing was sent.
        DuplicateJob: The job is a duplicate, and ``on_conflict="error"``.
        SchemaError: The database does not have the schema, or the schema does not have the function.
        Exception: Any other error comes from the driver.
    """
    return enqueue_one(connection, task, payload, options, defaults=_defaults_of(task))


@overload
def enqueue_many(
    connection: AnyAsyncConnection, task: str, payloads: Iterable[Any], **options: Unpack[BulkJobOptions[Any]]
) -> Coroutine[Any, Any, EnqueuedJobs]: ...
@overload
def enqueue_many(
    connection: SyncConnection, task: str, payloads: Iterable[Any], **options: Unpack[BulkJobOptions[Any]]
) -> EnqueuedJobs: ...
def enqueue_many(
    connection: AnyConnection, task: str, payloads: Iterable[Any], **options: Unpack[BulkJobOptions[Any]]
) -> Any:
    """Enqueue many jobs of one task by its name, in one statement. Thousands at a time are fine.

    Args:
        connection: As for ``enqueue``.
        task: As for ``enqueue``.
        payloads: One job each, in this order.
        options: See ``BulkJobOptions``.

    Returns:
        The jobs' ids, in the order of the payloads, a ``list`` that also tells which are duplicates. On an async
        connection, await the call.

    Raises:
        EnqueueError: An argument is not valid. Nothing was sent.
        DuplicateJob: The job is a duplicate, and ``on_conflict="error"``.
        SchemaError: The schema does not exist, is out of date, or is the platform's, which does not have the function.
        Exception: Any other error comes from the driver.
    """
    return enqueue_each(connection, task, payloads, options, defaults=_defaults_of(task))


def enqueue_one(
    connection: Any,
    task: str,
    payload: Any,
    options: JobOptions,
    *,
    serialize: Callable[[Any], str] = to_json,
    defaults: TaskDefaults = NO_DEFAULTS,
    keep_result: bool | None = None,
) -> Any:
    """Implement ``enqueue``."""
    validate_option_names("enqueue", options, JobOptions.__optional_keys__)
    prepare = _preparation(options)
    max_attempts, priority, tenant = _shared_values(task, options, defaults)
    queue = options.get("queue")
    values: tuple[Value, ...] = (
        task,
        serialize(payload),
        validate_key(options.get("key")),
        validate_queue(defaults.queue if queue is None else queue),
        validate_run_at(options.get("run_at")),
        max_attempts,
        priority,
    )
    schema = schema_or_default(options.get("schema"))
    entity = (
        validate_uuid("entity_id", options.get("entity_id")),
        validate_uuid("organization_id", options.get("organization_id")),
        validate_entity_type(options.get("entity_type")),
    )
    statement = _add_job("add_job", schema, values)
    if any(entity):
        statement = _add_job("add_job_for_entity", schema, (*values, *entity))
    depends_on = validate_job_ids("depends_on", options.get("depends_on"))
    ignore_failures = "true" if options.get("ignore_failures") else "false"
    if depends_on is not None:
        statement = Statement("add_job_after", schema, (*values, *entity, depends_on, ignore_failures))
    unique = None
    default_unique = _default_unique(options, options.get("key"), defaults)
    if default_unique is not None or not _UNIQUE_OPTIONS.isdisjoint(options):
        from jobfn.client.unique import unique_or_debounced  # noqa: PLC0415  - most jobs are neither

        dependencies = (depends_on, ignore_failures)
        special, unique = unique_or_debounced(options, default_unique, schema, (*values, *entity), dependencies)
        statement = special or statement
    driver = driver_for(connection)
    if tenant is None:
        job_id = driver.fetch_value(connection, prepare(statement))
    elif statement.name != "add_job":  # only this one has a form with the tenant
        job_id = driver.fetch_value(connection, prepare(statement.wrapped("as_tenant", tenant)))
    else:
        from jobfn.client.tenants import fetch_for_tenant  # noqa: PLC0415  - most jobs get the session's tenant

        by_argument = _add_job("add_job_for_tenant", schema, (*values, tenant))
        by_setting = statement.wrapped("as_tenant", tenant)
        job_id = fetch_for_tenant(driver, connection, prepare(by_argument), prepare(by_setting))
    if driver.is_async:
        return _enqueued_job(job_id, task, unique, connection, schema, keep_result=keep_result)
    if unique is not None:
        _check_duplicate(job_id, task, unique)
    return SyncEnqueuedJob.create(int(job_id), connection, schema, keep_result=keep_result)


def enqueue_each(
    connection: Any,
    task: str,
    payloads: Iterable[Any],
    options: BulkJobOptions[Any],
    *,
    serialize: Callable[[Any], str] = to_json,
    defaults: TaskDefaults = NO_DEFAULTS,
) -> Any:
    """Implement ``enqueue_many``; the other arguments are as for ``enqueue_one``."""
    validate_option_names("enqueue_many", options, BulkJobOptions.__optional_keys__)
    prepare = _preparation(options)
    max_attempts, priority, tenant = _shared_values(task, options, defaults)
    queue = options.get("queue")
    key = validate_key_function(options.get("key"))
    payloads = as_payloads(payloads)
    texts = []
    for index, payload in enumerate(payloads):
        try:
            texts.append(serialize(payload))
        except Exception as error:
            error.add_note(f"payload {index} of {len(payloads)} (counted from 0); no job was added")
            raise
    values: tuple[Value, ...] = (
        task,
        texts,
        as_column(payloads, key, validate_key),
        as_column(payloads, defaults.queue if queue is None else queue, validate_queue),
        as_column(payloads, options.get("run_at"), validate_run_at),
        max_attempts,
        priority,
    )
    schema = schema_or_default(options.get("schema"))
    statement = Statement("add_jobs", schema, (*values, tenant))
    default_unique = _default_unique(options, key, defaults)
    if default_unique is not None or not _UNIQUE_OPTIONS.isdisjoint(options):
        from jobfn.client.unique import many_unique, read_unique  # noqa: PLC0415  - most jobs are not

        unique = read_unique(options, default_unique)
        if unique is not None:
            statement = many_unique(unique, schema, values)
            statement = statement if tenant is None else statement.wrapped("as_tenant", tenant)
    driver = driver_for(connection)
    ids = driver.fetch_value(connection, prepare(statement))
    return _enqueued_jobs(ids) if driver.is_async else EnqueuedJobs.create(ids)


def _defaults_of(task: object) -> TaskDefaults:
    return find(task) if isinstance(task, str) else NO_DEFAULTS


def _add_job(name: str, schema: str, values: tuple[Value, ...]) -> Statement:
    """Return a call of ``add_job`` without the arguments that have no value: the platform's stores nulls."""
    max_attempts, priority = values[5:7]
    if max_attempts is None and priority is None:  # most jobs
        return Statement(name, schema, (*values[:5], *values[7:]), omitted=("max_attempts", "priority"))
    if max_attempts is None:
        return Statement(name, schema, (*values[:5], *values[6:]), omitted=("max_attempts",))
    if priority is None:
        return Statement(name, schema, (*values[:6], *values[7:]), omitted=("priority",))
    return Statement(name, schema, values)


def _shared_values(
    task: str, options: SharedOptions, defaults: TaskDefaults
) -> tuple[str | None, str | None, str | None]:
    """Validate the task and the shared options. Return ``max_attempts``, ``priority`` and the tenant as text.

    None stands for the value of the task's settings in the database, else 25 and 0.
    """
    validate_text("task", task, MAX_TASK_IDENTIFIER_CHARACTERS)
    priority = options.get("priority", defaults.priority)
    if priority is not None or "priority" in options:
        priority = validate_int("priority", priority, -MAX_INT - 1)
    max_attempts = options.get("max_attempts")
    if max_attempts is None:
        max_attempts = defaults.max_attempts
    if max_attempts is not None:
        max_attempts = validate_int("max_attempts", max_attempts, 1)
    return (
        None if max_attempts is None else str(max_attempts),
        None if priority is None else str(priority),
        validate_uuid("database_id", options.get("database_id")),
    )


def _default_unique(options: SharedOptions, key: object, defaults: TaskDefaults) -> Unique | None:
    """Return how the task's jobs are unique, as far as this call has not set it.

    A job with a key replaces the waiting one, unless the call itself asks for another rule.
    """
    return None if key is not None and "unique" not in options else defaults.unique


def _preparation(options: SharedOptions) -> Callable[[Statement], Statement]:
    """Return what adds the expiry of the options, and the current span's trace, to a statement."""
    if "expires_at" not in options and "expires_in" not in options:
        return _traced
    expiry = validate_expiry(options.get("expires_at"), options.get("expires_in"))
    if expiry is None:
        return _traced
    return lambda statement: _traced(statement.wrapped("expiring", *expiry))


def _traced(statement: Statement) -> Statement:
    """Return a statement whose jobs continue the current span's trace, if there is one."""
    trace = current()
    return statement if trace is None else statement.wrapped("traced", trace.parent, trace.state or "")


async def _enqueued_job(
    job_id: Coroutine[Any, Any, Any],
    task: str,
    unique: Unique | None,
    connection: Any,
    schema: str,
    *,
    keep_result: bool | None,
) -> EnqueuedJob[Any]:
    added = await job_id
    if unique is not None:
        _check_duplicate(added, task, unique)
    return EnqueuedJob.create(int(added), connection, schema, keep_result=keep_result)


def _check_duplicate(job_id: int, task: str, unique: Unique) -> None:
    """Raise the error of a duplicate, whose id is negative, if that is wanted.

    Raises:
        DuplicateJob: The job existed.
    """
    if job_id < 0 and unique.on_conflict == "error":
        raise DuplicateJob(f"a job of task {task!r} that is unique exists: job {-job_id}", job_id=-job_id)


async def _enqueued_jobs(ids: Coroutine[Any, Any, list[int]]) -> EnqueuedJobs:
    return EnqueuedJobs.create(await ids)
