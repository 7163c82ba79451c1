"""What a handler's signature says: how it is called, and what payload it takes.

Everything that can be wrong with a handler is found here, when its module is imported, and is named by file and
line. ``task.py`` makes a ``Task`` of what is found.
"""

import functools
import inspect
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from pydantic import TypeAdapter
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from jobfn.errors import TaskDefinitionError
from jobfn.function.context import JobContext

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CONTEXT_NAMES = frozenset({"ctx", "context"})


@dataclass(frozen=True, slots=True)
class Signature:
    """How a handler is called.

    Attributes:
        payload: Validates the payload; None for a handler that takes none.
        takes_context: Whether the handler wants a ``JobContext``.
        is_async: Whether calling it makes a coroutine.
    """

    payload: "TypeAdapter[Any] | None"
    takes_context: bool
    is_async: bool


def read_signature(handler: Callable[..., Any], names: Mapping[str, Any]) -> Signature:
    """Read a handler's signature.

    Args:
        handler: A function, a method, a partial or an object with ``__call__``.
        names: Names that the payload's annotation may use beside the handler's module.

    Raises:
        TaskDefinitionError: It cannot be called as a handler, or its payload's annotation cannot be read.
    """
    if inspect.isclass(handler) or not callable(handler):
        refuse(handler, f"@task decorates a function, not {handler!r}")
    # of the handler itself, not of what it wraps: a decorator may make an ordinary function of a generator
    kinds = (handler, getattr(handler, "__call__", None))  # noqa: B004  - an object may have an async __call__
    if any(inspect.isgeneratorfunction(kind) or inspect.isasyncgenfunction(kind) for kind in kinds):
        refuse(handler, "a handler returns its result; one that yields cannot be a task")
    payload, takes_context = _parameters(handler)
    return Signature(
        payload=_adapter(handler, payload, _annotation(handler, payload, names)),
        takes_context=takes_context,
        is_async=any(inspect.iscoroutinefunction(kind) for kind in kinds),
    )


def location_of(handler: object) -> str:
    """``file:line`` of a handler; for one that was not written in Python, what it is."""
    code = getattr(_function_of(handler), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(handler)


def refuse(handler: object, problem: str) -> NoReturn:
    """Raise the error that names the handler, its file and its line."""
    name = getattr(handler, "__name__", repr(handler))
    raise TaskDefinitionError(f"{location_of(handler)}: @task on {name}: {problem}")


def _function_of(handler: object) -> object:
    """The function that was written: behind decorators and partials, or an object's ``__call__``."""
    function = handler
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004  - the attribute itself is wanted


def _parameters(handler: Callable[..., Any]) -> tuple[inspect.Parameter, bool]:
    """The payload's parameter, and whether a context comes after it."""
    try:
        parameters = list(_signature(handler).parameters.values())
    except (TypeError, ValueError):
        refuse(handler, f"@task decorates a function whose signature Python can read, not {handler!r}")
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    needed = [
        parameter
        for parameter in parameters
        if parameter not in positional[:2]
        and parameter.kind not in _VARIADIC
        and parameter.default is inspect.Parameter.empty
    ]
    if not positional or needed:
        found = str(inspect.Signature(parameters))
        refuse(
            handler,
            f"a handler is called as handler(payload) or handler(payload, ctx), this one takes {found}"
            + ("" if parameters else "; without a payload write handler(payload: None)"),
        )
    takes_context = len(positional) > 1 and (
        positional[1].default is inspect.Parameter.empty or positional[1].name in _CONTEXT_NAMES
    )
    return positional[0], takes_context


def _signature(handler: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # pragma: no cover  - annotations are evaluated there when asked for
        from annotationlib import Format  # noqa: PLC0415  - new in 3.14

        return inspect.signature(handler, annotation_format=Format.FORWARDREF)
    return inspect.signature(handler)


def _annotation(handler: Callable[..., Any], payload: inspect.Parameter, names: Mapping[str, Any]) -> Any:
    """The payload's annotation, evaluated; ``dict`` without one."""
    if payload.annotation is inspect.Parameter.empty:
        return dict[str, Any]
    holder = type("Holder", (), {"__annotations__": {"payload": payload.annotation}})
    module = getattr(_function_of(handler), "__globals__", {})
    try:
        found = typing.get_type_hints(holder, globalns=module, localns=dict(names), include_extras=True)["payload"]
    except NameError as error:
        refuse(
            handler,
            f"the annotation of {payload.name!r} cannot be read ({error}): "
            "import that name at run time, not only under TYPE_CHECKING, and above the handler",
        )
    except Exception as error:  # noqa: BLE001  - an annotation in quotes is code, and may raise anything
        refuse(
            handler,
            f"the annotation of {payload.name!r}, {payload.annotation!r}, cannot be read: "
            f"{type(error).__name__}: {_first_line(error)}",
        )
    if found is JobContext:
        refuse(handler, f"the payload comes first, then the context: handler(payload, {payload.name})")
    return found


def _adapter(handler: Callable[..., Any], payload: inspect.Parameter, annotation: Any) -> "TypeAdapter[Any] | None":
    if annotation is type(None):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True)
    except PydanticUndefinedAnnotation as error:
        refuse(
            handler,
            f"the annotation of {payload.name!r} uses {error.name!r}, which is not defined here: "
            "import it at run time, and define it above the handler",
        )
    except (PydanticUserError, TypeError) as error:
        refuse(
            handler,
            f"the annotation of {payload.name!r}, {annotation!r}, is no type that pydantic can validate: "
            f"{_first_line(error)}",
        )
    return adapter


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
