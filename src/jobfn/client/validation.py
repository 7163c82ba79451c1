"""Validate the arguments of ``enqueue`` and ``result`` before anything is sent."""

import difflib
import math
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pydantic_core
from pydantic import BaseModel

from jobfn.errors import EnqueueError
from jobfn.task_defaults import MAX_INT, MAX_QUEUE_CHARACTERS
from jobfn.unique import as_interval

#: Limits of the jobs table (contract, section 3).
MAX_KEY_CHARACTERS = 512
MAX_ENTITY_TYPE_CHARACTERS = 126
#: Maximum length of a value in an error message.
_MAX_REPR_CHARACTERS = 100


def validate_option_names(function: str, options: Collection[str], allowed: Collection[str]) -> None:
    """Raise the ``TypeError`` that Python raises for an unknown keyword argument."""
    for name in options:
        if name not in allowed:
            similar = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"use {', '.join(sorted(allowed))}"
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}: {hint}")


def to_json(payload: Any) -> str:
    """Return a payload as JSON text; None becomes ``{}``. A model is sent without the fields that were not set.

    Raises:
        EnqueueError: It is not serializable to JSON.
    """
    text = to_full_json(payload)
    if not isinstance(payload, BaseModel):
        return text
    return omit_unset_fields(payload, text, payload, type(payload).model_validate_json)


def omit_unset_fields(payload: Any, text: str, value: Any, decode: Callable[[str], Any]) -> str:
    """Return the JSON text of a model without the fields that were not set, as a database trigger would send it.

    Args:
        payload: The payload. Only models have fields that are not set.
        text: Its JSON text with all fields.
        value: What the function gets from that text.
        decode: Validates a text as the function does. If it returns another value for the shorter text, as for a
            ``default_factory`` or a field that tells the type of the payload, all fields are sent.
    """
    if not isinstance(payload, BaseModel):
        return text
    try:
        short = payload.model_dump_json(by_alias=True, exclude_unset=True)
        return short if len(short) == len(text) or decode(short) == value else text
    except Exception:  # noqa: BLE001  - a custom serializer or validator may raise anything
        return text


def to_full_json(payload: Any) -> str:
    """Return a payload as JSON text with all fields; None becomes ``{}``.

    Raises:
        EnqueueError: It is not serializable to JSON.
    """
    if payload is None:
        return "{}"
    try:
        text = pydantic_core.to_json(payload, by_alias=True).decode()
    except Exception as error:
        raise EnqueueError(
            f"a payload of type {type(payload).__name__} is not serializable to JSON ({type(error).__name__}): "
            "give a pydantic model, a dataclass, or a JSON value"
        ) from error
    if ("NaN" in text or "Infinity" in text) and not _is_json(text):
        raise EnqueueError("the payload must not contain NaN or infinity, which JSON does not have: use None or text")
    return text


def as_payloads(payloads: object) -> list[Any]:
    """Return the payloads as a list.

    Raises:
        EnqueueError: They are not iterable, or are one payload that happens to be iterable.
    """
    if isinstance(payloads, str | bytes | Mapping | BaseModel) or not isinstance(payloads, Iterable):
        raise EnqueueError(f"the payloads must be a list with one payload for each job, not {type(payloads).__name__}")
    return list(payloads)


def as_column(payloads: list[Any], option: Any, validate: Callable[[Any], str | None]) -> list[str | None] | None:
    """Return the option's value for each payload; None if the option is not set."""
    if option is None:
        return None
    if callable(option):
        return [validate(option(payload)) for payload in payloads]
    return [validate(option)] * len(payloads)


def validate_key(key: object) -> str | None:
    """Return the key of one job."""
    return None if key is None else validate_text("key", key, MAX_KEY_CHARACTERS)


def validate_key_function(key: object) -> Any:
    """Return the key option of many jobs, which must be a function.

    Raises:
        EnqueueError: It is one key for all jobs, which would replace each other.
    """
    if key is not None and not callable(key):
        raise EnqueueError(
            f"key={_short_repr(key)} must be a function of the payload, such as "
            'lambda payload: f"invoice-{payload.id}": of jobs with the same key only the last is kept'
        )
    return key


def validate_queue(queue: object) -> str | None:
    """Return the queue of a job."""
    return None if queue is None else validate_text("queue", queue, MAX_QUEUE_CHARACTERS)


def validate_run_at(run_at: object) -> str | None:
    """Return the due time of a job in ISO 8601."""
    return None if run_at is None else _validate_time("run_at", run_at)


def validate_expiry(expires_at: object, expires_in: object) -> tuple[str | None, str | None] | None:
    """Return the expiry of a job as a time in ISO 8601 or as an interval from now; None: it has none.

    Raises:
        EnqueueError: Both are set, or one of them is not a time with a zone or a duration above 0.
    """
    if expires_at is None and expires_in is None:
        return None
    if expires_at is not None and expires_in is not None:
        raise EnqueueError("expires_at and expires_in exclude each other: give one of them")
    if expires_in is None:
        return _validate_time("expires_at", expires_at), None
    return None, validate_duration("expires_in", expires_in)


def validate_duration(name: str, value: object) -> str:
    """Return a duration as a PostgreSQL interval.

    Raises:
        EnqueueError: It is not a timedelta above 0.
    """
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise EnqueueError(f"{name}={value!r} must be a timedelta above 0")
    return as_interval(value)


def validate_uuid(name: str, value: object) -> str | None:
    """Return a UUID as text.

    Raises:
        EnqueueError: It is not a UUID.
    """
    if value is None:
        return None
    try:
        if not isinstance(value, UUID):
            UUID(value)  # type: ignore[arg-type]  # raises for anything but text
    except (ValueError, AttributeError, TypeError):
        raise EnqueueError(f"{name} must be a UUID, such as 5b720132-17d5-424d-9bcb-ee7b17c13d43") from None
    return str(value)


def validate_entity_type(entity_type: object) -> str | None:
    """Return what an entity is."""
    return None if entity_type is None else validate_text("entity_type", entity_type, MAX_ENTITY_TYPE_CHARACTERS)


def validate_text(name: str, value: object, max_characters: int) -> str:
    """Return a text that fits its column.

    Raises:
        EnqueueError: It is not text, empty, too long, or contains a NUL.
    """
    if not isinstance(value, str) or not 0 < len(value) <= max_characters or "\0" in value:
        raise EnqueueError(f"{name}={_short_repr(value)} must be text of 1 to {max_characters} characters")
    return value


def validate_int(name: str, value: object, lowest: int) -> int:
    """Return a number that fits an int column.

    Raises:
        EnqueueError: It is not an int, or out of range.
    """
    if type(value) is not int or not lowest <= value <= MAX_INT:
        raise EnqueueError(f"{name}={_short_repr(value)} must be a whole number from {lowest} to {MAX_INT}")
    return value


def validate_job_ids(name: str, ids: object) -> list[str] | None:
    """Return ids of jobs as text.

    Raises:
        EnqueueError: They are not a list of ids.
    """
    if ids is None:
        return None
    given = list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str | bytes | Mapping) else [None]
    texts = [str(int(each)) for each in given if isinstance(each, int)]
    if len(texts) != len(given):
        raise EnqueueError(f"{name}={_short_repr(ids)} must be a list of jobs or their ids")
    return texts


def validate_timeout(seconds: object) -> None:
    """Check the timeout of a wait.

    Raises:
        ValueError: It is not a number, or negative.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and (not is_number or math.isnan(seconds) or seconds < 0):  # type: ignore[arg-type, operator]
        raise ValueError(f"timeout={_short_repr(seconds)} must be seconds, 0 or more, or None for no limit")


def _validate_time(name: str, value: object) -> str:
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise EnqueueError(f"{name}={value!r} must be a datetime with a time zone, such as datetime.now(UTC)")
    return value.isoformat()


def _is_json(text: str) -> bool:
    try:
        pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _short_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_REPR_CHARACTERS else f"{text[:_MAX_REPR_CHARACTERS]}…"
