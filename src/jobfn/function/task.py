"""``@task``: turns a handler into a ``Task``, which the app delivers payloads to and anyone can still call.

``signature.py`` finds what can be wrong with a handler, ``mismatch.py`` says how a payload does not fit it. The
flow goes on in ``app.py``.
"""

import functools
import math
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import FrameType
from typing import Any, Generic, ParamSpec, TypeVar

import pydantic_core
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from jobfn.errors import BadRequest, InvalidPayload, TaskDefinitionError
from jobfn.function.retry_policy import Backoff, RetryPolicy
from jobfn.function.schedule import schedule_info
from jobfn.function.signature import location_of, read_signature, refuse
from jobfn.function.task_enqueue import TaskEnqueue
from jobfn.function.validation_errors import declared_names, refusal
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

#: For how long a result is kept, unless told otherwise.
KEEP_RESULT = timedelta(days=1)
#: No word of the task's own: the contract decides.
CONTRACT = RetryPolicy()

P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Task(TaskEnqueue, Generic[P, R_co]):
    """A named handler. Calling it calls the plain function that it decorates.

    Args:
        identifier: The task identifier, 1 to 126 characters (contract, section 3).
        handler: ``handler(payload)`` or ``handler(payload, ctx)``, sync or async.
        timeout: Seconds after which a delivery counts as failed; None for no limit.
        background: Whether a delivery is accepted at once and reported when it ends.
        retries: When a failed job is tried again.
        schedule: When a job of it is made again and again: see ``task``.
        tz: The schedule's time zone.
        keep_result: Whether, or for how long, what it returns is kept: see ``task``.
        names: Names that the payload's annotation may use beside the handler's module.

    Attributes:
        identifier: As given.
        handler: As given.
        timeout: As given.
        background: As given.
        retries: As given.
        keep_seconds: For how long what it returns is kept; None: not at all.
        schedule_info: The schedule as ``scheduled_jobs.schedule_info`` holds it; None for no schedule.
        takes_payload: Whether the handler has a payload; False for ``handler(payload: None)``.
        takes_context: Whether the handler wants a ``JobContext``.
        is_async: Whether it runs on the event loop; a sync handler runs in the thread pool.
        needs: The resources that the handler is called with, by the parameters' names.
        location: ``file:line`` of the handler.

    Raises:
        TaskDefinitionError: The identifier, the timeout or the signature cannot work.
    """

    def __init__(
        self,
        identifier: str,
        handler: Callable[P, R_co],
        *,
        timeout: float | None = None,
        background: bool = False,
        retries: RetryPolicy = CONTRACT,
        schedule: str | Mapping[str, Any] | None = None,
        tz: str | None = None,
        keep_result: bool | timedelta = False,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(handler, Task):  # two identifiers for one handler
            handler = handler.handler
        functools.update_wrapper(self, handler)
        self.identifier = identifier
        self._handler = handler
        self.timeout = timeout
        self.background = background
        self.retries = retries
        self.location = location_of(handler)
        self.keep_seconds = _keep_seconds(handler, keep_result)
        _check_identifier(handler, identifier)
        _check_timeout(handler, timeout)
        _check_retries(handler, retries)
        try:
            self.schedule_info = schedule_info(schedule, tz)
        except ValueError as error:
            refuse(handler, str(error))
        signature = read_signature(handler, names or {})
        self._adapter = signature.payload
        self._validator = None if self._adapter is None else self._adapter.validator
        self.takes_payload = signature.payload is not None
        self.takes_context = signature.takes_context
        self.is_async = signature.is_async
        self.needs = signature.needs

    @property
    def handler(self) -> Callable[P, R_co]:
        """As given."""
        return self._handler

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the handler as the plain function it is: no validation, no report."""
        return self._handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.identifier!r} at {self.location}>"

    @property
    def summary(self) -> str:
        """The first line of the handler's docstring; empty without one."""
        return (self.__doc__ or "").strip().partition("\n")[0]

    def decode(self, body: bytes) -> Any:
        """The payload that a request body holds, validated by the handler's annotation.

        Raises:
            BadRequest: The body is no JSON.
            InvalidPayload: It is JSON of another shape; ``details`` name each field.
            Exception: A validator of the payload's own raised what validators should not raise.
        """
        if self._adapter is None or self._validator is None:
            return self._decode_nothing(body)
        try:
            return self._validator.validate_json(body)
        except ValidationError as error:
            raise refusal(error, task=self.identifier, body=body, declared=_names(self._adapter)) from None

    @property
    def payload_adapter(self) -> "TypeAdapter[Any] | None":
        """What validates the payload; None where there is none."""
        return self._adapter

    def payload_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload, as a caller must send it; ``{}`` where its type has none."""
        return {"type": "null"} if self._adapter is None else _schema(self._adapter, by_alias=True)

    def _decode_nothing(self, body: bytes) -> None:
        if not body.strip():
            return
        try:
            value = pydantic_core.from_json(body)
        except ValueError as error:
            raise BadRequest(f"The body is not valid JSON in UTF-8: {error}") from None
        if value is not None and value != {}:
            raise InvalidPayload(f"{self.identifier} takes no payload: send an empty body, null or {{}}")


def task(
    identifier: str,
    *,
    timeout: float | None = None,
    background: bool = False,
    max_attempts: int | None = None,
    backoff: Backoff | None = None,
    schedule: str | Mapping[str, Any] | None = None,
    tz: str | None = None,
    keep_result: bool | timedelta = False,
) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Register nothing, decorate a handler: ``@task("process_invoice")``.

    The handler is ``handler(payload)`` or ``handler(payload, ctx)``, sync or async; parameters after these are
    resources (``resources.py``). The payload's annotation
    decides the validation: a pydantic model, a dataclass, a TypedDict, ``dict``, ``list``, any type pydantic
    knows, or ``None`` for no payload; without one it is a ``dict``.

    A payload that does not fit is told to the caller by its fields, never by its values. What the payload's own
    validators say (``ValueError`` and the like) is told too; values of the payload in it are blanked, but a part
    or a transformation of one would not be, so let them speak of the rule, not of the value.

    Args:
        identifier: The task identifier, 1 to 126 characters; may hold ``:`` and ``/``.
        timeout: Seconds until a delivery is reported as failed (HTTP 504). Default None: no limit. An async
            handler is cancelled then; a sync one cannot be, its thread runs on and its result is dropped. The
            wait for a free thread counts.
        background: Answer 202 at once and report when the handler ends, for jobs that take longer than a request
            may. Signs of life keep the job's lock meanwhile; so does ``await ctx.progress(0.4, "rendering")``.
        max_attempts: Fail for good after so many attempts. Default None: the job's own number, 25.
        backoff: How long to wait before the next attempt. Default None: the contract's ``exp(attempts)`` seconds.
        schedule: Make a job of it, with the payload ``{}``, again and again: a cron rule (``"0 9 * * *"``, six
            fields with seconds first, ``"@daily"``), or a ``schedule_info`` (contract, section 3). It counts once
            ``jobfn schedules sync`` brought it into the database; ``jobfn dev`` does that by itself. Default None:
            no schedule.
        tz: The time zone of ``schedule``, such as ``"Europe/Paris"``. Default None: UTC.
        keep_result: Keep what the handler returns, for who waits (``await job.result()``): True for a day, or for how
            long. At most 64 KiB of JSON; it travels with the report, and needs jobfn's own schema and callback server.

    Returns:
        A decorator that makes a ``Task``. The task can be called like the function it decorates.

    Raises:
        TaskDefinitionError: The identifier, an option or the handler's signature cannot work; names file and line.
    """
    if callable(identifier):
        raise TaskDefinitionError(
            f'{location_of(identifier)}: write @task("an_identifier"), with the identifier in brackets'
        )
    retries = RetryPolicy(max_attempts=max_attempts, backoff=backoff)
    names = _names_where_called(sys._getframe(1))  # noqa: SLF001  - what pydantic does to see local models

    def decorate(handler: Callable[P, R]) -> Task[P, R]:
        return Task(
            identifier,
            handler,
            timeout=timeout,
            background=background,
            retries=retries,
            schedule=schedule,
            tz=tz,
            keep_result=keep_result,
            names=names,
        )

    return decorate


def _schema(adapter: "TypeAdapter[Any]", *, by_alias: bool) -> dict[str, Any]:
    try:
        return adapter.json_schema(by_alias=by_alias, mode="validation")
    except PydanticUserError:  # a validator of Python's own types, which no schema can describe
        return {}


def _names(adapter: "TypeAdapter[Any]") -> frozenset[str]:
    """What a payload's fields may be called: a model may take them by alias, by name, or by either."""
    return declared_names([_schema(adapter, by_alias=by_alias) for by_alias in (True, False)])


def _names_where_called(frame: FrameType) -> dict[str, Any]:
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _check_identifier(handler: object, identifier: object) -> None:
    if not isinstance(identifier, str) or not identifier:
        refuse(handler, 'a task needs an identifier: @task("process_invoice")')
    if len(identifier) > MAX_TASK_IDENTIFIER_CHARACTERS:
        refuse(
            handler,
            f"the identifier has {len(identifier)} characters; "
            f"the jobs table holds at most {MAX_TASK_IDENTIFIER_CHARACTERS}",
        )
    if not identifier.isprintable():
        refuse(handler, f"the identifier {identifier!r} holds a character that cannot be shown or sent")


def _check_timeout(handler: object, timeout: object) -> None:
    if timeout is None:
        return
    number = timeout if isinstance(timeout, int | float) and not isinstance(timeout, bool) else math.nan
    if not 0 < number < math.inf:
        refuse(handler, f"timeout={timeout!r} must be a number of seconds above 0, or None for no limit")


def _keep_seconds(handler: object, keep_result: object) -> float | None:
    if isinstance(keep_result, bool):
        return KEEP_RESULT.total_seconds() if keep_result else None
    seconds = keep_result.total_seconds() if isinstance(keep_result, timedelta) else 0.0
    if seconds <= 0:
        refuse(handler, f"keep_result={keep_result!r} must be True, False, or a timedelta above 0")
    return seconds


def _check_retries(handler: object, retries: RetryPolicy) -> None:
    number = retries.max_attempts
    if number is not None and (type(number) is not int or number < 1):
        refuse(handler, f"max_attempts={number!r} must be a whole number, 1 or more, or None for the job's own")
    if retries.backoff is not None and not isinstance(retries.backoff, Backoff):
        refuse(handler, f"backoff={retries.backoff!r} must be such as Backoff(seconds=5), or None for the contract's")
