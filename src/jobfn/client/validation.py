"""What is asked when jobs are added or waited for, checked before anything is sent. Each refusal says what to give."""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import pydantic_core
from pydantic import BaseModel

from jobfn.errors import EnqueueError

#: What the jobs table holds (contract, section 3).
MAX_KEY_CHARACTERS = 512
MAX_QUEUE_CHARACTERS = 126
MAX_INT = 2**31 - 1
_SHOWN_CHARACTERS = 100


def json_of(payload: Any) -> str:
    """A payload as JSON text; None is ``{}``, as no payload at all.

    Raises:
        EnqueueError: It holds what JSON cannot.
    """
    if payload is None:
        return "{}"
    try:
        text = pydantic_core.to_json(payload, by_alias=True).decode()
    except Exception as error:
        raise EnqueueError(
            f"the payload, a {type(payload).__name__}, cannot be written as JSON: {type(error).__name__}. "
            "Give a pydantic model, a dataclass, or what JSON can hold"
        ) from error
    if ("NaN" in text or "Infinity" in text) and not _is_json(text):
        raise EnqueueError(
            "the payload holds NaN or an infinity, which JSON has no number for: send None or a text instead"
        )
    return text


def as_payloads(payloads: object) -> list[Any]:
    """Many payloads, one job each. What can be iterated over and is one payload by itself was not meant so.

    Raises:
        EnqueueError: They are no list of payloads.
    """
    if isinstance(payloads, str | bytes | Mapping | BaseModel) or not isinstance(payloads, Iterable):
        raise EnqueueError(f"the payloads, a {type(payloads).__name__}: give a list of payloads, one for each job")
    return list(payloads)


def checked_key(key: object) -> str | None:
    """The key of one job."""
    return None if key is None else check_text("key", key, MAX_KEY_CHARACTERS)


def check_key_function(key: object) -> None:
    """The key of many jobs is a function: one text for all would leave only the last of them.

    Raises:
        EnqueueError: It is none.
    """
    if key is not None and not callable(key):
        raise EnqueueError(
            f"key={_shown(key)}: of jobs with the same key only the last is kept; give a function of the payload, "
            'such as lambda payload: f"invoice-{payload.id}"'
        )


def checked_queue(queue: object) -> str | None:
    """The queue of a job."""
    return None if queue is None else check_text("queue", queue, MAX_QUEUE_CHARACTERS)


def checked_time(run_at: object) -> str | None:
    """When a job is due, ISO 8601.

    Raises:
        EnqueueError: It is no moment.
    """
    if run_at is None:
        return None
    if not isinstance(run_at, datetime) or run_at.tzinfo is None:
        raise EnqueueError(f"run_at={run_at!r}: give a datetime with a time zone, such as datetime.now(UTC)")
    return run_at.isoformat()


def check_tenant(database_id: object) -> None:
    """A tenant.

    Raises:
        EnqueueError: It is no UUID.
    """
    if database_id is None or isinstance(database_id, UUID):
        return
    try:
        UUID(database_id)  # type: ignore[arg-type]  # what is no text is refused by it
    except (ValueError, AttributeError, TypeError):
        raise EnqueueError("database_id is no UUID, such as 5b720132-17d5-424d-9bcb-ee7b17c13d43") from None


def check_text(name: str, value: object, characters: int) -> str:
    """A text that a column of so many characters can hold.

    Raises:
        EnqueueError: It is none.
    """
    if not isinstance(value, str) or not 0 < len(value) <= characters or "\0" in value:
        raise EnqueueError(f"{name}={_shown(value)}: give a text of 1 to {characters} characters")
    return value


def check_int(name: str, value: object, lowest: int) -> None:
    """A whole number that an int column can hold.

    Raises:
        EnqueueError: It is none.
    """
    if type(value) is not int or not lowest <= value <= MAX_INT:
        raise EnqueueError(f"{name}={_shown(value)}: give a whole number from {lowest} to {MAX_INT}")


def check_timeout(seconds: object) -> None:
    """How long to wait.

    Raises:
        ValueError: It is no time.
    """
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and (not is_number or math.isnan(seconds) or seconds < 0):  # type: ignore[arg-type, operator]
        raise ValueError(f"timeout={_shown(seconds)}: give seconds, 0 or more, or None for no limit")


def columns(given: list[Any], option: Any, check: Callable[[Any], str | None]) -> list[str | None] | None:
    """One checked value for each payload; None where the option says nothing."""
    if option is None:
        return None
    if callable(option):
        return [check(option(payload)) for payload in given]
    return [check(option)] * len(given)


def _is_json(text: str) -> bool:
    try:
        pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return False
    return True


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"
