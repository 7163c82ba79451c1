"""``@task``: turn a handler into a ``Task``, which the app delivers payloads to and which stays callable.

``signature.py`` checks the handler, ``validation_errors.py`` describes invalid payloads. Read next: ``app.py``.
"""

import functools
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar, cast

import pydantic_core
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from jobfn.errors import BadRequest, ConfigurationError, EnqueueError, InvalidPayload, TaskDefinitionError
from jobfn.function.requirements import read_requirements
from jobfn.function.retry_policy import Backoff, RetryPolicy
from jobfn.function.schedule import Schedule, schedule_info
from jobfn.function.signature import fail, location_of, read_signature
from jobfn.function.task_enqueue import TaskEnqueue
from jobfn.function.validation_errors import declared_names, to_request_error
from jobfn.settings import Requirement
from jobfn.task_defaults import NO_DEFAULTS, TaskDefaults, parse_defaults, register
from jobfn.unique import ConflictOption, UniqueOption
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

#: How long ``keep_result=True`` stores a result.
DEFAULT_RESULT_TTL = timedelta(days=1)
#: Leaves retries to the jobs schema.
DEFAULT_RETRY_POLICY = RetryPolicy()

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
R_co = TypeVar("R_co", covariant=True)


class Task(TaskEnqueue, Generic[P, R_co]):
    """A named handler, with the options of ``task``. Calling it calls the decorated function.

    Attributes:
        keep_seconds: How long the result is stored; None: not stored.
        schedule_info: The schedule as ``scheduled_jobs.schedule_info``; None for no schedule.
        defaults: Options of the jobs, where ``enqueue`` gives none.
        schedule_payload: The payload of the jobs of its schedule, as JSON text; None if the schedule has none.
        payload_adapter: Validates the payload; None for ``handler(payload: None)``.
        takes_payload: Whether the handler has a payload.
        takes_context: Whether the handler takes a ``JobContext``.
        is_async: Whether it runs on the event loop; a sync handler runs in the thread pool.
        dependencies: The resources that the handler is called with, by parameter name.
        secrets: Environment variables with secrets that the handler reads.
        configs: Environment variables with settings that the handler reads.
        location: ``file:line`` of the handler.

    Raises:
        TaskDefinitionError: The identifier, an option or the signature is invalid.
    """

    def __init__(
        self,
        identifier: str,
        handler: Callable[P, R_co],
        *,
        timeout: float | None = None,
        background: bool = False,
        retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
        schedule: str | Mapping[str, Any] | Schedule | None = None,
        tz: str | None = None,
        keep_result: bool | timedelta = False,
        secrets: Sequence[str | Requirement] = (),
        configs: Sequence[str | Requirement] = (),
        defaults: TaskDefaults = NO_DEFAULTS,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(handler, Task):  # a second identifier for the same handler
            handler = handler.handler
        functools.update_wrapper(self, handler)
        self.identifier = identifier
        self._handler = handler
        self.timeout = timeout
        self.background = background
        self.retry_policy = retry_policy
        self.location = location_of(handler)
        self.keep_seconds = _keep_seconds(handler, keep_result)
        _check_identifier(handler, identifier)
        _check_timeout(handler, timeout)
        _check_retry_policy(handler, retry_policy)
        try:
            self.schedule_info = schedule_info(schedule, tz)
        except ValueError as error:
            fail(handler, str(error))
        self.secrets = read_requirements(handler, "secrets", secrets)
        self.configs = read_requirements(handler, "configs", configs)
        signature = read_signature(handler, names or {})
        self.payload_adapter = signature.payload
        self.takes_payload = signature.payload is not None
        self.takes_context = signature.takes_context
        self.is_async = signature.is_async
        self.dependencies = signature.dependencies
        _check_unique_fields(self, defaults)
        self.defaults = defaults
        register(identifier, defaults)
        payload = schedule.payload if isinstance(schedule, Schedule) else None
        self.schedule_payload = None if payload is None else self._serialize_schedule(payload)

    @property
    def handler(self) -> Callable[P, R_co]:
        """The decorated function."""
        return self._handler

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the handler as a plain function, without validation and without a report."""
        return self._handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.identifier!r} at {self.location}>"

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring; empty without one."""
        return (self.__doc__ or "").strip().partition("\n")[0]

    def decode(self, body: bytes) -> Any:
        """Return the payload of a request body, validated by the handler's annotation.

        Raises:
            BadRequest: The body is not valid JSON.
            InvalidPayload: It does not fit the annotation; ``details`` lists the fields.
            Exception: A custom validator crashed.
        """
        if self.payload_adapter is None:
            return self._decode_empty(body)
        try:
            return self.payload_adapter.validator.validate_json(body)
        except ValidationError as error:
            declared = _declared_names(self.payload_adapter)
            raise to_request_error(error, task=self.identifier, body=body, declared=declared) from None

    def payload_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the payload, with the names that callers send; ``{}`` if its type has none."""
        return {"type": "null"} if self.payload_adapter is None else _schema(self.payload_adapter, by_alias=True)

    def _serialize_schedule(self, payload: Any) -> str:
        from jobfn.client.validation import to_full_json  # noqa: PLC0415  - few schedules have a payload

        try:
            text = to_full_json(payload)
            self.decode(text.encode())
        except (EnqueueError, InvalidPayload) as error:
            fail(self.handler, f"the payload of its schedule is not valid: {error}")
        return text

    def _decode_empty(self, body: bytes) -> None:
        if not body.strip():
            return
        try:
            value = pydantic_core.from_json(body)
        except ValueError as error:
            raise BadRequest(f"The body is not valid JSON in UTF-8: {error}") from None
        if value is not None and value != {}:
            raise InvalidPayload(f"{self.identifier} takes no payload: send an empty body, null or {{}}")


def _name_nearest_option(function: F) -> F:
    """Make the ``TypeError`` of an unknown option name the nearest one."""
    options = {"identifier", *getattr(function, "__kwdefaults__", {})}

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if not kwargs.keys() <= options:
            from jobfn.client.validation import validate_option_names  # noqa: PLC0415  - only for this error

            validate_option_names("task", kwargs, options)
        return function(*args, **kwargs)

    return cast("F", checked)


@_name_nearest_option
def task(
    identifier: str,
    *,
    timeout: float | None = None,
    background: bool = False,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    queue: str | None = None,
    priority: int | None = None,
    unique: UniqueOption | None = None,
    unique_by: Sequence[str] | None = None,
    on_conflict: ConflictOption | None = None,
    concurrency: int | None = None,
    rate: str | None = None,
    per: str | None = None,
    schedule: str | Mapping[str, Any] | Schedule | None = None,
    tz: str | None = None,
    keep_result: bool | timedelta = False,
    secrets: Sequence[str | Requirement] = (),
    configs: Sequence[str | Requirement] = (),
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Decorate a handler: ``@task("process_invoice")``. There is no global registry.

    The handler is ``handler(payload)`` or ``handler(payload, ctx)``, sync or async; further parameters are
    resources (``Resource``). The payload's annotation decides the validation: a pydantic model, a dataclass, a
    TypedDict, ``dict``, ``list``, any type that pydantic supports, or ``None`` for no payload. Without one it is a
    ``dict``.

    The error of an invalid payload names its fields, never its values. Messages of custom validators (``ValueError``
    and so on) are included, with the payload's values redacted. A part or a transformation of a value is not
    recognized, so write messages about the rule, not about the value.

    Args:
        identifier: The task identifier, 1 to 126 characters; may contain ``:`` and ``/``.
        timeout: Seconds until a delivery fails (HTTP 504), including the wait for a free thread. An async handler is
            cancelled; a sync one runs on in its thread, and its result is dropped. Default None: no limit.
        background: Answer 202 at once and report when the handler ends, for jobs that take longer than a request may.
            Heartbeats keep the job's lease, as does ``await ctx.progress(0.4, "rendering")``.
        max_attempts: Maximum number of attempts. Default None: the job's own, 25.
        backoff: Delay before the next attempt. Default None: the schema's ``exp(attempts)`` seconds.
        queue: Queue of the jobs: they run one at a time. Like the next options and ``max_attempts``, it counts where a
            job is added without it: in this process at once, and everywhere else after ``jobfn sync``, which ``jobfn
            dev`` runs by itself. Default None: no queue.
        priority: Priority of the jobs; lower runs first. Default None: 0.
        unique: Add no second job with the same payload: within a ``timedelta``, ``"until_started"`` or
            ``"until_done"``. Jobs with a key are exempt. Default None: jobs are not unique.
        unique_by: Fields of the payload that ``unique`` compares. Default None: all.
        on_conflict: What happens to a duplicate: ``"keep"``, ``"replace"`` or ``"error"``. Default None: ``"keep"``.
        concurrency: Maximum number of running jobs of this task, in all workers. It takes effect with ``jobfn sync``,
            as do ``rate`` and ``per``. Default None: no limit.
        rate: Maximum number of starts: ``"100/minute"``, ``"5/30s"``. Default None: no limit.
        per: What has a separate limit each: ``"tenant"``, ``"key"``, ``"queue"``, or a field such as
            ``"payload.customer"``. Default None: one limit for all jobs.
        schedule: Create a job with the payload ``{}`` on a recurring schedule: a cron rule (``"0 9 * * *"``, six fields
            with seconds first, ``"@daily"``), or a ``schedule_info`` (contract, section 3). A ``Schedule`` also has a
            payload, jitter and a catch-up policy. It takes effect with ``jobfn schedules sync``, which ``jobfn dev``
            runs by itself. Default None: no schedule.
        tz: The time zone of ``schedule``, for example ``"Europe/Paris"``. Default None: UTC.
        keep_result: Store the handler's result for ``await job.result()``: True for a day, or how long. At most 64 KiB
            of JSON; it is sent with the report, and needs jobfn's own schema and callback server.
        secrets: Environment variables with secrets that the handler reads, each a name or a ``Requirement``. The app
            does not start without the required ones.
        configs: As ``secrets``, for settings. Both are ``requiredSecrets`` and ``requiredConfigs`` of ``handler.json``.

    Returns:
        A decorator that returns a ``Task``, which can be called like the decorated function.

    Raises:
        TaskDefinitionError: The identifier, an option or the signature is invalid; the text holds the file and line.
    """
    if callable(identifier):
        raise TaskDefinitionError(f'{location_of(identifier)}: @task needs an identifier: write @task("an_identifier")')
    retry_policy = RetryPolicy(max_attempts=max_attempts, backoff=backoff)
    names = _local_names(sys._getframe(2))  # noqa: SLF001  - as pydantic does, to resolve local models

    def decorate(handler: Callable[P, R]) -> Task[P, R]:
        try:
            defaults = parse_defaults(
                queue=queue,
                priority=priority,
                max_attempts=max_attempts,
                unique=unique,
                unique_by=unique_by,
                on_conflict=on_conflict,
                concurrency=concurrency,
                rate=rate,
                per=per,
            )
        except (ValueError, ConfigurationError) as error:
            fail(handler, str(error))
        return Task(
            identifier,
            handler,
            timeout=timeout,
            background=background,
            retry_policy=retry_policy,
            schedule=schedule,
            tz=tz,
            keep_result=keep_result,
            secrets=secrets,
            configs=configs,
            defaults=defaults,
            names=names,
        )

    return decorate


def _schema(adapter: "TypeAdapter[Any]", *, by_alias: bool) -> dict[str, Any]:
    try:
        return adapter.json_schema(by_alias=by_alias, mode="validation")
    except PydanticUserError:  # a custom validator without a JSON Schema
        return {}


def _declared_names(adapter: "TypeAdapter[Any]") -> frozenset[str]:
    """Return the names of the payload's fields: a model may accept them by alias, by name, or by either."""
    return declared_names([_schema(adapter, by_alias=by_alias) for by_alias in (True, False)])


def _local_names(frame: FrameType) -> dict[str, Any]:
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _check_identifier(handler: object, identifier: object) -> None:
    if not isinstance(identifier, str) or not identifier:
        fail(handler, 'a task needs an identifier: @task("process_invoice")')
    if len(identifier) > MAX_TASK_IDENTIFIER_CHARACTERS:
        fail(handler, f"the identifier has {len(identifier)} characters: use at most {MAX_TASK_IDENTIFIER_CHARACTERS}")
    if not identifier.isprintable():
        fail(handler, f"the identifier {identifier!r} must not contain unprintable characters")
    if identifier in {".", ".."}:
        fail(handler, f"the identifier {identifier!r} would be a relative path in a URL: use another one")


def _check_unique_fields(task: "Task[..., Any]", defaults: TaskDefaults) -> None:
    """Check that the payload has the fields that ``unique_by`` names, if its type declares fields."""
    fields = () if defaults.unique is None else defaults.unique.fields or ()
    schema = task.payload_schema() if fields else {}
    declared = schema.get("properties")
    if declared is None or schema.get("additionalProperties"):
        return
    for name in fields:
        if name not in declared:
            known = ", ".join(declared)
            fail(task.handler, f"unique_by names {name!r}, which the payload does not have: use one of {known}")


def _check_timeout(handler: object, timeout: object) -> None:
    if timeout is None:
        return
    seconds = timeout if isinstance(timeout, int | float) and not isinstance(timeout, bool) else math.nan
    if not 0 < seconds < math.inf:
        fail(handler, f"timeout={timeout!r} must be a number of seconds above 0, or None for no limit")


def _check_retry_policy(handler: object, policy: RetryPolicy) -> None:
    attempts = policy.max_attempts
    if attempts is not None and (type(attempts) is not int or attempts < 1):
        fail(handler, f"max_attempts={attempts!r} must be an integer of at least 1, or None for the job's own")
    if policy.backoff is not None and not isinstance(policy.backoff, Backoff):
        fail(handler, f"backoff={policy.backoff!r} must be a Backoff, for example Backoff(seconds=5), or None")


def _keep_seconds(handler: object, keep_result: object) -> float | None:
    if isinstance(keep_result, bool):
        return DEFAULT_RESULT_TTL.total_seconds() if keep_result else None
    seconds = keep_result.total_seconds() if isinstance(keep_result, timedelta) else 0.0
    if seconds <= 0:
        fail(handler, f"keep_result={keep_result!r} must be True, False, or a timedelta above 0")
    return seconds
