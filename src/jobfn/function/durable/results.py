"""Results of steps as JSON, and back as the types of their annotations."""

import functools
import inspect
import json
import typing
from collections.abc import Callable
from typing import Any, Final

import pydantic_core
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from jobfn.errors import DurableError
from jobfn.function.outcome import message_of
from jobfn.function.validation_errors import summarize
from jobfn.wire.steps import MAX_STEP_BYTES

#: Maximum number of functions and of types whose adapters are cached.
MAX_CACHED_TYPES: Final = 1000


def result_to_json(result: Any, annotation: Any, name: str) -> str:
    """Return a step's result as JSON text.

    Raises:
        DurableError: It is not JSON, or too large.
    """
    adapter = _adapter(annotation)
    try:
        data = pydantic_core.to_json(result) if adapter is None else adapter.dump_json(result)
        if b"NaN" in data or b"Infinity" in data:
            json.loads(data, parse_constant=_reject_constant)
    except Exception as error:  # noqa: BLE001  - a result's own serializers may raise anything
        raise DurableError(
            f"the result of step {name!r} ({type(result).__name__}) cannot be stored as JSON: {message_of(error)}. "
            "The step has run, so the job is not retried"
        ) from None
    if len(data) > MAX_STEP_BYTES:
        raise DurableError(
            f"the result of step {name!r} is larger than {MAX_STEP_BYTES} bytes: store it elsewhere and return a "
            "reference. The step has run, so the job is not retried"
        )
    return data.decode()


def validate_json(text: str | None, annotation: Any, what: str) -> Any:
    """Return JSON text as the type of an annotation; without one, as JSON types.

    Raises:
        DurableError: It does not fit, for example because the code was changed while the job was parked.
    """
    adapter = _adapter(annotation)
    if adapter is None:
        return None if text is None else pydantic_core.from_json(text)
    try:
        return adapter.validate_json("null" if text is None else text)
    except ValidationError as error:
        raise DurableError(f"{what} does not fit its type: {summarize(error)}") from None


def return_annotation(function: Callable[..., Any]) -> Any:
    """Return the annotation of a function's result; None if it has none."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return _cached_annotation(getattr(function, "__func__", function))
    except TypeError:  # not hashable
        return None


@functools.lru_cache(maxsize=MAX_CACHED_TYPES)
def _cached_annotation(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(inspect.unwrap(function), include_extras=True).get("return")
    except Exception:  # noqa: BLE001  - an annotation that cannot be evaluated here, or not a function
        return None


def _adapter(annotation: Any) -> "TypeAdapter[Any] | None":
    """Return the adapter of an annotation; None for JSON types.

    Raises:
        DurableError: Pydantic cannot validate the type.
    """
    if annotation is None or annotation is Any:
        return None
    try:
        return _cached_adapter(annotation)
    except (PydanticUserError, TypeError) as error:
        raise DurableError(
            f"pydantic cannot validate {annotation!r}: {next(iter(str(error).splitlines()), '')}"
        ) from None


@functools.lru_cache(maxsize=MAX_CACHED_TYPES)
def _cached_adapter(annotation: Any) -> "TypeAdapter[Any]":
    return TypeAdapter(annotation)


def _reject_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
