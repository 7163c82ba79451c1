"""``@task``: turns a handler into a ``Task``, which the app delivers payloads to and anyone can still call.

Everything that can be wrong with a handler is found here, when its module is imported, and is named by file and
line. The flow goes on in ``app.py``.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar

import pydantic_core
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from jobfn.errors import InvalidPayload, MalformedRequest, TaskDefinitionError
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS

P = ParamSpec("P")
R = TypeVar("R")

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Task(Generic[P, R]):
    """A named handler. Calling it calls the plain function that it decorates.

    Args:
        identifier: The task identifier, 1 to 126 characters (contract, section 3).
        handler: ``handler(payload)`` or ``handler(payload, ctx)``, sync or async.
        timeout: Seconds after which a delivery counts as failed; None for no limit.
        names: Names that the payload's annotation may use beside the handler's module.

    Attributes:
        identifier: As given.
        handler: As given.
        timeout: As given.
        takes_context: Whether the handler wants a ``JobContext``.
        is_async: Whether it runs on the event loop; a sync handler runs in the thread pool.
        location: ``file:line`` of the handler.

    Raises:
        TaskDefinitionError: The identifier or the signature cannot work.
    """

    def __init__(
        self,
        identifier: str,
        handler: Callable[P, R],
        *,
        timeout: float | None = None,
        names: Mapping[str, Any] | None = None,
    ) -> None:
        self.identifier = identifier
        self.handler = handler
        self.timeout = timeout
        self.location = _location(handler)
        self._check()
        payload, self.takes_context = self._parameters()
        self.is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004  - an object whose __call__ is async is async too
        )
        annotation = self._annotation(payload, names or {})
        self.takes_payload = annotation is not None
        self._adapter = self._build_adapter(annotation)
        functools.update_wrapper(self, handler)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the handler as the plain function it is: no validation, no report."""
        return self.handler(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<Task {self.identifier!r} at {self.location}>"

    def decode(self, body: bytes) -> Any:
        """The payload that a request body holds, validated by the handler's annotation.

        Raises:
            MalformedRequest: The body is no JSON.
            InvalidPayload: It is JSON of another shape; ``details`` name each field.
        """
        if not self.takes_payload:
            return self._decode_nothing(body)
        try:
            return self._adapter.validate_json(body)
        except ValidationError as error:
            raise self._refusal(error, body) from None

    def payload_schema(self) -> dict[str, Any]:
        """The JSON Schema of the payload, as a caller must send it."""
        if not self.takes_payload:
            return {"type": "null"}
        return self._adapter.json_schema(by_alias=True, mode="validation")

    def _decode_nothing(self, body: bytes) -> None:
        if not body.strip():
            return
        try:
            value = pydantic_core.from_json(body)
        except ValueError as error:
            raise MalformedRequest(f"The body is not valid JSON: {error}") from None
        if value is not None and value != {}:
            raise InvalidPayload(f"{self.identifier} takes no payload: send an empty body, null or {{}}")

    def _refusal(self, error: ValidationError, body: bytes) -> MalformedRequest | InvalidPayload:
        mismatches = error.errors(include_url=False, include_context=False, include_input=False)
        if mismatches[0]["type"] == "json_invalid":
            if not body.strip():
                return MalformedRequest(f"The body is empty: send the payload of {self.identifier} as JSON")
            return MalformedRequest(
                f"The body is not valid JSON: {mismatches[0]['msg'].removeprefix('Invalid JSON: ')}"
            )
        details = [
            {"field": ".".join(str(part) for part in mismatch["loc"]) or "(payload)", "problem": mismatch["msg"]}
            for mismatch in mismatches
        ]
        listed = "; ".join(f"{detail['field']}: {detail['problem']}" for detail in details)
        return InvalidPayload(f"The payload does not fit {self.identifier}: {listed}", details=details)

    def _check(self) -> None:
        if not self.identifier:
            self._refuse('a task needs an identifier: @task("process_invoice")')
        if len(self.identifier) > MAX_TASK_IDENTIFIER_CHARACTERS:
            self._refuse(
                f"the identifier has {len(self.identifier)} characters; "
                f"the jobs table holds at most {MAX_TASK_IDENTIFIER_CHARACTERS}"
            )
        if self.timeout is not None and self.timeout <= 0:
            self._refuse(f"timeout={self.timeout!r} must be a number of seconds above 0, or None for no limit")
        if inspect.isgeneratorfunction(self.handler) or inspect.isasyncgenfunction(self.handler):
            self._refuse("a handler returns its result; one that yields cannot be a task")

    def _parameters(self) -> tuple[inspect.Parameter, bool]:
        try:
            parameters = list(inspect.signature(self.handler).parameters.values())
        except (TypeError, ValueError):
            self._refuse(f"@task decorates a function, not {self.handler!r}")
        positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
        extra = [
            parameter.name
            for parameter in parameters
            if parameter not in positional[:2]
            and parameter.default is inspect.Parameter.empty
            and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        ]
        if not positional or extra:
            found = f"({', '.join(str(parameter) for parameter in parameters)})"
            self._refuse(f"a handler is called as handler(payload) or handler(payload, ctx), this one takes {found}")
        takes_context = len(positional) > 1 and (
            positional[1].default is inspect.Parameter.empty or positional[1].name in {"ctx", "context"}
        )
        return positional[0], takes_context

    def _annotation(self, payload: inspect.Parameter, names: Mapping[str, Any]) -> Any:
        if payload.annotation is inspect.Parameter.empty:
            return dict[str, Any]
        holder = type("Holder", (), {"__annotations__": {"payload": payload.annotation}})
        function = inspect.unwrap(self.handler)
        try:
            hints = typing.get_type_hints(
                holder, globalns=getattr(function, "__globals__", {}), localns=dict(names), include_extras=True
            )
        except NameError as error:
            self._refuse(
                f"the annotation of {payload.name!r} cannot be read ({error}): "
                "import that name at run time, not only under TYPE_CHECKING, and above the handler"
            )
        annotation = hints["payload"]
        return None if annotation is type(None) else annotation

    def _build_adapter(self, annotation: Any) -> "TypeAdapter[Any]":
        try:
            return TypeAdapter(annotation)
        except (PydanticUserError, TypeError) as error:
            reason = str(error).splitlines()[0]
            self._refuse(f"the payload annotation {annotation!r} is no type that pydantic can validate: {reason}")

    def _refuse(self, problem: str) -> NoReturn:
        name = getattr(self.handler, "__name__", repr(self.handler))
        raise TaskDefinitionError(f"{self.location}: @task on {name}: {problem}")


def task(identifier: str, *, timeout: float | None = None) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Register nothing, decorate a handler: ``@task("process_invoice")``.

    The handler is ``handler(payload)`` or ``handler(payload, ctx)``, sync or async. The payload's annotation
    decides the validation: a pydantic model, a dataclass, a TypedDict, ``dict``, ``list``, any type pydantic
    knows, or ``None`` for no payload; without one it is a ``dict``.

    Args:
        identifier: The task identifier, 1 to 126 characters; may hold ``:`` and ``/``.
        timeout: Seconds until a delivery is reported as failed (HTTP 504). Default None: no limit. An async
            handler is cancelled then; a sync one cannot be, its thread runs on and its result is dropped.

    Returns:
        A decorator that makes a ``Task``. The task can be called like the function it decorates.

    Raises:
        TaskDefinitionError: The identifier or the handler's signature cannot work; names file and line.
    """
    if callable(identifier):
        raise TaskDefinitionError(
            f'{_location(identifier)}: write @task("an_identifier"), with the identifier in brackets'
        )
    names = _names_where_called(sys._getframe(1))  # noqa: SLF001  - what pydantic does to see local models

    def decorate(handler: Callable[P, R]) -> Task[P, R]:
        return Task(identifier, handler, timeout=timeout, names=names)

    return decorate


def _names_where_called(frame: FrameType) -> dict[str, Any]:
    return {} if frame.f_locals is frame.f_globals else dict(frame.f_locals)


def _location(handler: object) -> str:
    function = inspect.unwrap(handler) if callable(handler) else handler
    code = getattr(function, "__code__", None) or getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004  - its code is wanted
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(handler)
