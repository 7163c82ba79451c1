"""Read a handler's signature: how it is called, and the payload that it takes.

Every problem of a handler is found here, when its module is imported; the error holds the file and line. ``task.py``
builds a ``Task`` from the result.
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
from jobfn.function.dependencies import Dependency, Resource

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CONTEXT_NAMES = frozenset({"ctx", "context"})
#: Kinds of a parameter that is not a dependency.
_CONTEXT, _UNKNOWN = "context", "unknown"


@dataclass(frozen=True, slots=True)
class Signature:
    """How a handler is called."""

    payload: "TypeAdapter[Any] | None"
    takes_context: bool
    is_async: bool
    dependencies: tuple[Dependency, ...] = ()


def read_signature(handler: Callable[..., Any], names: Mapping[str, Any]) -> Signature:
    """Read a handler's signature; annotations may use ``names`` and the globals of its module."""
    if inspect.isclass(handler) or not callable(handler):
        fail(handler, f"@task decorates a function, not {handler!r}")
    # The handler itself, not what it wraps: a decorator may turn a generator into an ordinary function.
    functions = (handler, getattr(handler, "__call__", None))  # noqa: B004  - an object may have an async __call__
    if any(inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function) for function in functions):
        fail(handler, "a handler must return its result, not yield it")
    payload, takes_context, dependencies = _parameters(handler, names)
    annotation = _annotation(handler, payload, names)
    if annotation is JobContext:
        fail(handler, f"the payload comes first, then the context: handler(payload, {payload.name})")
    return Signature(
        payload=_adapter(handler, payload, annotation),
        takes_context=takes_context,
        is_async=any(inspect.iscoroutinefunction(function) for function in functions),
        dependencies=dependencies,
    )


def location_of(handler: object) -> str:
    """Return ``file:line`` of a handler; its repr if it is not written in Python."""
    code = getattr(_unwrap(handler), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else repr(handler)


def fail(handler: object, problem: str) -> NoReturn:
    """Raise a ``TaskDefinitionError`` with the handler's name, file and line."""
    name = getattr(handler, "__name__", repr(handler))
    raise TaskDefinitionError(f"{location_of(handler)}: @task on {name}: {problem}")


def _unwrap(handler: object) -> object:
    """Return the function behind decorators and partials, or an object's ``__call__``."""
    function = handler
    while isinstance(function, functools.partial) or hasattr(function, "__wrapped__"):
        function = function.func if isinstance(function, functools.partial) else function.__wrapped__
    if inspect.isroutine(function) or inspect.isclass(function):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004  - the attribute itself is needed


def _parameters(
    handler: Callable[..., Any], names: Mapping[str, Any]
) -> tuple[inspect.Parameter, bool, tuple[Dependency, ...]]:
    """Return the payload's parameter, whether the handler takes a context, and its dependencies."""
    try:
        parameters = list(_signature(handler).parameters.values())
    except (TypeError, ValueError):
        fail(handler, f"@task decorates a function whose signature Python can read, not {handler!r}")
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    payload = positional[0] if positional else None
    others = [parameter for parameter in parameters if parameter is not payload and parameter.kind not in _VARIADIC]
    kinds = {
        parameter.name: _classify(handler, parameter, names, is_second=parameter in positional[1:2])
        for parameter in others
    }
    if payload is None or _UNKNOWN in kinds.values():
        fail(
            handler,
            "a handler must be callable as handler(payload) or handler(payload, ctx), but this one takes "
            f"{inspect.Signature(parameters)}"
            + ("" if parameters else ": without a payload write handler(payload: None)")
            + (": annotate the resources after them" if payload is not None else ""),
        )
    for parameter in others:
        if isinstance(kinds[parameter.name], Dependency) and parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            fail(handler, f"{parameter.name!r} is a resource, which is passed by name: put it after the /")
    dependencies = tuple(kind for kind in kinds.values() if isinstance(kind, Dependency))
    return payload, _CONTEXT in kinds.values(), dependencies


def _classify(
    handler: Callable[..., Any], parameter: inspect.Parameter, names: Mapping[str, Any], *, is_second: bool
) -> Dependency | str | None:
    """Return what a parameter after the payload is; None if it keeps its default."""
    is_annotated = parameter.annotation is not inspect.Parameter.empty
    is_required = parameter.default is inspect.Parameter.empty
    may_be_context = is_second and (is_required or parameter.name in _CONTEXT_NAMES)
    if may_be_context and (not is_annotated or parameter.name in _CONTEXT_NAMES):
        return _CONTEXT
    fallback = _UNKNOWN if is_required else None
    if not is_annotated:
        return fallback
    try:
        annotation = _annotation(handler, parameter, names)
    except TaskDefinitionError:  # perhaps imported under TYPE_CHECKING only
        if is_required and not may_be_context:
            raise
        return _CONTEXT if may_be_context else fallback
    resources = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Resource)]
    if resources:
        return Dependency(parameter.name, resources[-1])
    if may_be_context and _accepts_context(annotation):
        return _CONTEXT
    return Dependency(parameter.name) if is_required else None


def _accepts_context(annotation: Any) -> bool:
    """Whether a ``JobContext`` fits an annotation; True if that is unknown."""
    if annotation is Any or not inspect.isclass(annotation):  # Any is a class, too
        return True
    try:
        return issubclass(annotation, JobContext) or issubclass(JobContext, annotation)
    except TypeError:  # a protocol without runtime checks
        return True


def _signature(handler: Callable[..., Any]) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # pragma: no cover  - annotations are evaluated lazily there
        from annotationlib import Format  # noqa: PLC0415  - new in 3.14

        return inspect.signature(handler, annotation_format=Format.FORWARDREF)
    return inspect.signature(handler)


def _annotation(handler: Callable[..., Any], parameter: inspect.Parameter, names: Mapping[str, Any]) -> Any:
    """Return a parameter's evaluated annotation, ``dict`` if it has none."""
    if parameter.annotation is inspect.Parameter.empty:
        return dict[str, Any]
    holder = type("Holder", (), {"__annotations__": {"parameter": parameter.annotation}})
    module = getattr(_unwrap(handler), "__globals__", {})
    try:
        return typing.get_type_hints(holder, globalns=module, localns=dict(names), include_extras=True)["parameter"]
    except NameError as error:
        fail(
            handler,
            f"the annotation of {parameter.name!r} is not readable ({error}): "
            "import that name at run time, not only under TYPE_CHECKING, and above the handler",
        )
    except Exception as error:  # noqa: BLE001  - a quoted annotation is code and may raise anything
        fail(
            handler,
            f"the annotation of {parameter.name!r}, {parameter.annotation!r}, is not readable: "
            f"{type(error).__name__}: {_first_line(error)}",
        )


def _adapter(handler: Callable[..., Any], payload: inspect.Parameter, annotation: Any) -> "TypeAdapter[Any] | None":
    if annotation is type(None):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        if not adapter.pydantic_complete:
            adapter.rebuild(raise_errors=True)
    except PydanticUndefinedAnnotation as error:
        fail(
            handler,
            f"the annotation of {payload.name!r} uses {error.name!r}, which is not defined here: "
            "import it at run time, and define it above the handler",
        )
    except (PydanticUserError, TypeError) as error:
        fail(
            handler,
            f"the annotation of {payload.name!r}, {annotation!r}, is not a type that pydantic can validate: "
            f"{_first_line(error)}",
        )
    return adapter


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
