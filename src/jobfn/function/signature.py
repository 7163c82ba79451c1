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
from jobfn.function.dependencies import Need, Resource

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_CONTEXT_NAMES = frozenset({"ctx", "context"})
#: What a parameter can be, beside a resource.
_CONTEXT, _UNKNOWN = "context", "unknown"


@dataclass(frozen=True, slots=True)
class Signature:
    """How a handler is called.

    Attributes:
        payload: Validates the payload; None for a handler that takes none.
        takes_context: Whether the handler wants a ``JobContext``.
        is_async: Whether calling it makes a coroutine.
        needs: The parameters after payload and context that are resources, given by name.
    """

    payload: "TypeAdapter[Any] | None"
    takes_context: bool
    is_async: bool
    needs: tuple[Need, ...] = ()


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
    payload, takes_context, needs = _parameters(handler, names)
    annotation = _annotation(handler, payload, names)
    if annotation is JobContext:
        refuse(handler, f"the payload comes first, then the context: handler(payload, {payload.name})")
    return Signature(
        payload=_adapter(handler, payload, annotation),
        takes_context=takes_context,
        is_async=any(inspect.iscoroutinefunction(kind) for kind in kinds),
        needs=needs,
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


def _parameters(
    handler: Callable[..., Any], names: Mapping[str, Any]
) -> tuple[inspect.Parameter, bool, tuple[Need, ...]]:
    """The payload's parameter, whether a context comes after it, and the resources that the handler needs."""
    try:
        parameters = list(_signature(handler).parameters.values())
    except (TypeError, ValueError):
        refuse(handler, f"@task decorates a function whose signature Python can read, not {handler!r}")
    positional = [parameter for parameter in parameters if parameter.kind in _POSITIONAL]
    payload = positional[0] if positional else None
    others = [each for each in parameters if each is not payload and each.kind not in _VARIADIC]
    found = {each.name: _need(handler, each, names, is_second=each in positional[1:2]) for each in others}
    unknown = [each for each in others if found[each.name] is _UNKNOWN]
    if payload is None or unknown:
        refuse(
            handler,
            "a handler is called as handler(payload) or handler(payload, ctx), this one takes "
            f"{inspect.Signature(parameters)}"
            + ("" if parameters else "; without a payload write handler(payload: None)")
            + ("; what comes after them is a resource, which has an annotation" if payload is not None else ""),
        )
    needs = tuple(need for need in found.values() if isinstance(need, Need))
    for each in others:
        if isinstance(found[each.name], Need) and each.kind is inspect.Parameter.POSITIONAL_ONLY:
            refuse(handler, f"{each.name!r} is a resource, and those are given by name: put it after the /")
    return payload, _CONTEXT in found.values(), needs


def _need(
    handler: Callable[..., Any], parameter: inspect.Parameter, names: Mapping[str, Any], *, is_second: bool
) -> Need | str | None:
    """What a parameter after the payload is: a resource, the context, left to its default (None), or unknown."""
    is_annotated = parameter.annotation is not inspect.Parameter.empty
    is_required = parameter.default is inspect.Parameter.empty
    may_be_context = is_second and (is_required or parameter.name in _CONTEXT_NAMES)
    if may_be_context and (not is_annotated or parameter.name in _CONTEXT_NAMES):
        return _CONTEXT
    otherwise = _UNKNOWN if is_required else None
    if not is_annotated:
        return otherwise
    try:
        annotation = _annotation(handler, parameter, names)
    except TaskDefinitionError:  # imported for type checkers only, perhaps
        if is_required and not may_be_context:
            raise
        return _CONTEXT if may_be_context else otherwise
    marks = [mark for mark in getattr(annotation, "__metadata__", ()) if isinstance(mark, Resource)]
    if not marks and may_be_context and _may_be_context(annotation):
        return _CONTEXT
    return Need(parameter.name, marks[-1] if marks else None) if marks or is_required else None


def _may_be_context(annotation: Any) -> bool:
    """Whether a context fits an annotation, as far as can be told; where it cannot be told, it does."""
    if annotation is Any or not inspect.isclass(annotation):  # Any is a class, too
        return True
    try:
        return issubclass(annotation, JobContext) or issubclass(JobContext, annotation)
    except TypeError:  # a protocol that cannot be asked
        return True


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
