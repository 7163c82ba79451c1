"""How a payload does not fit, said without what the payload holds. Pure: pydantic's error in, a ``RequestError`` out.

What is told goes to the caller, to the callback server and into ``jobs.last_error``, where people read it whom the
payload is none of. So of a mismatch only this is shown:

- the field, by the names that the task itself declares, and positions in arrays. A key of a free mapping
  (``dict[str, ...]``) is data and becomes ``*``; a key that the task forbids is named if it looks like a name;
- pydantic's own text, which speaks of the type, with the few that quote the input replaced;
- what the task's own validators say (``ValueError``, ``assert``, ``PydanticCustomError``), which is the
  developer's text, except that a whole value of the payload in it, three characters or longer, becomes ``…``. Over
  1,000 characters it is not told at all.
"""

import re
import typing
from collections.abc import Iterator
from typing import Any

import pydantic_core
from pydantic_core import ErrorDetails, ValidationError, core_schema

from jobfn.errors import BadRequest, InvalidPayload

#: So many mismatches are listed; more help nobody.
MAX_LISTED = 20
#: Over this, reading the list would keep the event loop busy for longer than it is worth.
_MAX_READ = 10_000
_MIN_HIDDEN_CHARACTERS = 3
#: A longer text of a validator's quotes more than it says.
_MAX_OWN_CHARACTERS = 1_000
_NO_REASON = "Input is not accepted"
_BUILTIN_ERROR_TYPES = frozenset(typing.get_args(core_schema.ErrorType)) - {"value_error", "assertion_error"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")

#: The texts of pydantic that quote a part of the input, in words that do not.
_REWORDED = {
    "bytes_invalid_encoding": "Data should be valid {encoding}",
    "datetime_object_invalid": "Input should be a valid datetime",
    "get_attribute_error": "Input should have the attributes of the type",
    "iteration_error": "Input should be iterable",
    "mapping_type": "Input should be a valid mapping",
    "timezone_offset": "Timezone offset of {tz_expected} required",
    "union_tag_invalid": "{discriminator} should be one of {expected_tags}",
    "uuid_parsing": "Input should be a valid UUID",
}


def refusal(error: ValidationError, *, task: str, body: bytes, declared: frozenset[str]) -> BadRequest | InvalidPayload:
    """What to answer to a body that did not validate.

    Args:
        error: From the payload's validation.
        task: The task identifier.
        body: The request body.
        declared: The names that the task's payload declares, from ``declared_names``.
    """
    if not body.strip():
        return BadRequest(f"The body is empty: send the payload of {task} as JSON")
    try:
        payload = pydantic_core.from_json(body)
    except ValueError as unreadable:
        return BadRequest(f"The body is not valid JSON in UTF-8: {unreadable}")
    count = error.error_count()
    if count > _MAX_READ:
        return InvalidPayload(f"The payload does not fit {task} in {count} places, too many to list")
    found = list(
        dict.fromkeys(
            (_field(mismatch, payload, declared), _text(mismatch), mismatch["type"] in _BUILTIN_ERROR_TYPES)
            for mismatch in _read(error)
        )
    )
    shown = found[:MAX_LISTED]
    quoted = _quoted_values([text for _, text, is_pydantic_s in shown if not is_pydantic_s], payload, declared)
    told = dict.fromkeys(
        (field, text if is_pydantic_s else _redact(text, quoted)) for field, text, is_pydantic_s in shown
    )
    details = [{"field": field, "problem": problem} for field, problem in told]
    listed = "; ".join(f"{field}: {problem}" for field, problem in told)
    more = f"; and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return InvalidPayload(f"The payload does not fit {task}: {listed}{more}", details=details)


def summary(error: ValidationError) -> str:
    """A validation that failed in the handler itself, in one line and without the values."""
    count = error.error_count()
    shown = [] if count > _MAX_READ else _read(error)[:MAX_LISTED]
    listed = "; ".join(
        f"{'.'.join(str(part) for part in mismatch['loc']) or '(value)'}: {_text(mismatch)}" for mismatch in shown
    )
    more = f"; and {count - len(shown)} more" if count > len(shown) else ""
    return f"{count} validation error{'s' if count > 1 else ''} for {error.title}: {listed}{more}"


def declared_names(schema: object) -> frozenset[str]:
    """The names that a JSON Schema declares: properties and the types they are of."""
    found: set[str] = set()
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            for keyword in ("properties", "$defs"):
                if isinstance(part.get(keyword), dict):
                    found.update(part[keyword])
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    return frozenset(found)


def _read(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _field(mismatch: ErrorDetails, payload: Any, declared: frozenset[str]) -> str:
    """Where it is. pydantic's path also holds keys of mappings, which are data, and branches of unions."""
    parts: list[str] = []
    here = payload
    last = len(mismatch["loc"]) - 1
    for position, part in enumerate(mismatch["loc"]):
        known = isinstance(here, dict) and part in here
        if isinstance(part, int) and not known:
            parts.append(str(part))
            here = here[part] if isinstance(here, list) and part < len(here) else None
            continue
        if part in declared or part == "[key]":
            parts.append(str(part))
        elif known:
            forbidden = mismatch["type"] == "extra_forbidden" and position == last
            parts.append(str(part) if forbidden and _NAME.fullmatch(str(part)) else "*")
        if known:
            here = here[part]
    return ".".join(parts) or "(payload)"


def _quoted_values(texts: list[str], payload: Any, declared: frozenset[str]) -> list[str]:
    """The values of the payload that these texts quote, longest first. One look at the payload, whatever its size."""
    if not texts:
        return []
    lowered = "\n".join(texts).casefold()
    found = {value for value in _values(payload, declared) if value.casefold() in lowered}
    return sorted(found, key=len, reverse=True)


def _redact(text: str, quoted: list[str]) -> str:
    for value in quoted:
        if value.casefold() in text.casefold():
            text = re.sub(re.escape(value), "…", text, flags=re.IGNORECASE)
    return text


def _text(mismatch: ErrorDetails) -> str:
    reworded = _REWORDED.get(mismatch["type"])
    if reworded is not None:
        return reworded.format_map(mismatch.get("ctx", {}))
    text = mismatch["msg"]
    if mismatch["type"] in {"value_error", "assertion_error"}:
        text = text.removeprefix("Value error, ").removeprefix("Assertion failed, ") or _NO_REASON
    is_too_long = len(text) > _MAX_OWN_CHARACTERS and mismatch["type"] not in _BUILTIN_ERROR_TYPES
    return _NO_REASON if is_too_long else text


def _values(payload: Any, declared: frozenset[str]) -> Iterator[str]:
    """The texts and numbers of a payload that are long enough to mean something, keys of mappings among them."""
    waiting = [payload]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend(key for key in value if key not in declared)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, str | int | float) and not isinstance(value, bool):
            text = str(value)
            if len(text) >= _MIN_HIDDEN_CHARACTERS:
                yield text
