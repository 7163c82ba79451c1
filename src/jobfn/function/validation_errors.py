"""Describe why a payload is invalid, without its values. Pure: pydantic's error in, a ``RequestError`` out.

The text is sent to the caller and the callback server and stored in ``jobs.last_error``, where people read it who may
not see the payload. It holds only:

- the field, by names that the task declares, and positions in arrays. A key of a mapping (``dict[str, ...]``) is data
  and becomes ``*``; a forbidden key is shown if it looks like a name;
- pydantic's message, which describes the type; the few messages that quote the input are replaced;
- the message of the task's own validators (``ValueError``, ``assert``, ``PydanticCustomError``), in which every value
  of the payload of three characters or more becomes ``…``. A message over 1,000 characters is omitted.
"""

import re
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import pydantic_core
from pydantic_core import ErrorDetails, ValidationError, core_schema

from jobfn.errors import BadRequest, InvalidPayload

#: Maximum number of errors in a message.
MAX_LISTED_ERRORS = 20
#: Above this count, reading the errors would block the event loop for too long.
_MAX_READ_ERRORS = 10_000
#: Shorter values are not redacted: they would match by chance.
_MIN_REDACTED_CHARACTERS = 3
#: A longer message of a custom validator probably consists of the payload.
_MAX_CUSTOM_MESSAGE_CHARACTERS = 1_000
_NO_REASON = "Input is not accepted"
_BUILTIN_ERROR_TYPES = frozenset(typing.get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

#: Replacements of the pydantic messages that quote the input.
_REPLACED_MESSAGES = {
    "bytes_invalid_encoding": "Data should be valid {encoding}",
    "datetime_object_invalid": "Input should be a valid datetime",
    "get_attribute_error": "Input should have the attributes of the type",
    "iteration_error": "Input should be iterable",
    "mapping_type": "Input should be a valid mapping",
    "timezone_offset": "Timezone offset of {tz_expected} required",
    "union_tag_invalid": "{discriminator} should be one of {expected_tags}",
    "uuid_parsing": "Input should be a valid UUID",
}


def to_request_error(
    error: ValidationError, *, task: str, body: bytes, declared: frozenset[str]
) -> BadRequest | InvalidPayload:
    """Return the response to an invalid body."""
    if not body.strip():
        return BadRequest(f"The body is empty: send the payload of {task} as JSON")
    try:
        payload = pydantic_core.from_json(body)
    except ValueError as invalid_json:
        return BadRequest(f"The body is not valid JSON in UTF-8: {invalid_json}")
    count = error.error_count()
    if count > _MAX_READ_ERRORS:
        return InvalidPayload(f"The payload does not fit {task} in {count} places, too many to list")
    errors = _first_errors(error)
    quoted = _quoted_values([_message(detail) for detail in errors if _is_custom(detail)], payload, declared)
    problems = dict.fromkeys(
        (
            _field(detail, payload, declared),
            _redact(_message(detail), quoted) if _is_custom(detail) else _message(detail),
        )
        for detail in errors
    )
    listed = "; ".join(f"{field}: {problem}" for field, problem in problems)
    more = f"; and {count - len(errors)} more" if count > len(errors) else ""
    return InvalidPayload(
        f"The payload does not fit {task}: {listed}{more}",
        details=[{"field": field, "problem": problem} for field, problem in problems],
    )


def summarize(error: ValidationError) -> str:
    """Describe a validation error that a handler raised, in one line and without the input."""
    count = error.error_count()
    errors = _first_errors(error) if count <= _MAX_READ_ERRORS else []
    listed = "; ".join(
        f"{'.'.join(str(part) for part in detail['loc']) or '(value)'}: {_message(detail)}" for detail in errors
    )
    more = f"; and {count - len(errors)} more" if count > len(errors) else ""
    return f"{count} validation error{'s' if count > 1 else ''} for {error.title}: {listed}{more}"


def declared_names(schema: object) -> frozenset[str]:
    """Return the names that a JSON Schema declares: its properties and types, at any depth."""
    names: set[str] = set()
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            for keyword in ("properties", "$defs"):
                if isinstance(part.get(keyword), dict):
                    names.update(part[keyword])
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
    return frozenset(names)


def _first_errors(error: ValidationError) -> Sequence[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)[:MAX_LISTED_ERRORS]


def _is_custom(error: ErrorDetails) -> bool:
    """Whether a validator of the task wrote the message."""
    return error["type"] not in _BUILTIN_ERROR_TYPES


def _field(error: ErrorDetails, payload: Any, declared: frozenset[str]) -> str:
    """Return the field of an error. pydantic's location also holds mapping keys (data) and union branches."""
    parts: list[str] = []
    value = payload
    for depth, part in enumerate(error["loc"], 1):
        is_key = isinstance(value, dict) and part in value
        if isinstance(part, int) or part in declared or part == "[key]":
            parts.append(str(part))
        elif is_key:
            is_forbidden_key = error["type"] == "extra_forbidden" and depth == len(error["loc"])
            parts.append(part if is_forbidden_key and _NAME.fullmatch(part) else "*")
        if is_key or (isinstance(part, int) and isinstance(value, list) and part < len(value)):
            value = value[part]
    return ".".join(parts) or "(payload)"


def _message(error: ErrorDetails) -> str:
    replacement = _REPLACED_MESSAGES.get(error["type"])
    if replacement is not None:
        return replacement.format_map(error.get("ctx", {}))
    if not _is_custom(error):
        return error["msg"]
    message = error["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message if 0 < len(message) <= _MAX_CUSTOM_MESSAGE_CHARACTERS else _NO_REASON


def _quoted_values(messages: Sequence[str], payload: Any, declared: frozenset[str]) -> list[str]:
    """Return the payload's values that the messages quote, longest first. Walks the payload once."""
    if not messages:
        return []
    text = "\n".join(messages).casefold()
    return sorted({value for value in _values(payload, declared) if value.casefold() in text}, key=len, reverse=True)


def _redact(message: str, values: Sequence[str]) -> str:
    for value in values:
        message = re.sub(re.escape(value), "…", message, flags=re.IGNORECASE)
    return message


def _values(payload: Any, declared: frozenset[str]) -> Iterator[str]:
    """Yield the texts and numbers of a payload, mapping keys included, that are long enough to redact."""
    pending = [payload]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(key for key in value if key not in declared)
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            text = str(value)
            if len(text) >= _MIN_REDACTED_CHARACTERS:
                yield text
