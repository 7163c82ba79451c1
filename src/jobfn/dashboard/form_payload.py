"""Turn a submitted form into a payload and its validation errors. Pure.

Text that is not a number is put into the payload as it is, so that one validation finds all errors.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn

from jobfn.dashboard.forms import Form
from jobfn.dashboard.schema_errors import validation_errors
from jobfn.dashboard.schema_fields import Field, Schema

#: Name of the HTML input for JSON text, and key of errors that belong to no field.
PAYLOAD_INPUT: Final = "payload"
_MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class ParsedForm:
    """The payload of a submitted form."""

    payload: Any = None
    problems: Mapping[str, str] = field(default_factory=dict)


def parse_fields(fields: Sequence[Field], form: Form, schema: Schema) -> ParsedForm:
    """Build the payload from the fields of a form and validate it."""
    values = {each.name: _value(each, form) for each in fields}
    payload = {name: value for name, value in values.items() if value is not _MISSING}
    input_names = {each.name: each.input_name for each in fields}
    problems: dict[str, str] = {}
    for path, message in validation_errors(payload, schema).items():
        problems.setdefault(input_names.get(str(path[0]), PAYLOAD_INPUT) if path else PAYLOAD_INPUT, message)
    return ParsedForm(payload, problems)


def parse_json(text: str, schema: Schema) -> ParsedForm:
    """Parse a payload that was written as JSON and validate it."""
    try:
        payload = json.loads(text or "{}", parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        return ParsedForm(problems={PAYLOAD_INPUT: f"invalid JSON: {error}"})
    messages = [
        f"{'/'.join(map(str, path))}: {message}" if path else message
        for path, message in validation_errors(payload, schema).items()
    ]
    return ParsedForm(payload, {PAYLOAD_INPUT: "; ".join(messages)} if messages else {})


def _value(one: Field, form: Form) -> Any:
    """Return the value of a field; ``_MISSING`` if it is empty and can be omitted."""
    text = form.one(one.input_name)
    if one.kind == "checkbox":
        return text == "true"
    if not text:
        return None if one.is_nullable and one.is_required else _MISSING
    if one.kind in {"text", "multiline"}:
        return text
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return text


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
