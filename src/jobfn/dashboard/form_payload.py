"""From a filled-in form to a payload: pure. ``findings.py`` says what is wrong with it.

A text that is no number is put into the payload as it is, so that one check finds everything.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jobfn.dashboard.forms import Form
from jobfn.dashboard.schema_errors import findings
from jobfn.dashboard.schema_fields import Field, Kind, Schema, flat

_MISSING = object()


@dataclass(frozen=True, slots=True)
class ParsedForm:
    """What a form holds.

    Attributes:
        payload: The payload; None where it cannot be read at all.
        problems: What is wrong, by the field's pointer; under the empty pointer what belongs to no field.
    """

    payload: Any = None
    problems: Mapping[str, str] = field(default_factory=dict)


def fill(fields: Sequence[Field], form: Form, schema: Schema) -> ParsedForm:
    """The payload that a form's fields make up, and what is wrong with it by the schema."""
    problems: dict[str, str] = {}
    payload = _whole(fields, form, problems)
    for pointer, problem in findings(payload, schema, {found.pointer for found in flat(fields)}):
        problems.setdefault(pointer, problem)
    return ParsedForm(payload, problems)


def fill_json(text: str, schema: Schema) -> ParsedForm:
    """The payload that is written as JSON, and what is wrong with it by the schema."""
    try:
        payload = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return ParsedForm(problems={"": f"That is no JSON: {error}"})
    said = [
        f"{pointer.lstrip('/') or 'payload'}: {problem}" if pointer else problem
        for pointer, problem in findings(payload, schema)
    ]
    return ParsedForm(payload, {"": ". ".join(said)} if said else {})


def _whole(fields: Sequence[Field], form: Form, problems: dict[str, str]) -> Any:
    if not fields:
        return {}
    if fields[0].pointer == "":
        value = _value(fields[0], form, problems)
        return None if value is _MISSING else value
    return _members(fields, form, problems)


def _members(fields: Iterable[Field], form: Form, problems: dict[str, str]) -> dict[str, Any]:
    found = {}
    for one in fields:
        if one.kind is Kind.GROUP and not one.is_required and not _is_touched(one, form):
            continue  # an object that may be left out, and of which nothing is filled in
        value = _members(one.children, form, problems) if one.kind is Kind.GROUP else _value(one, form, problems)
        if value is not _MISSING:
            found[one.label] = value
    return found


def _is_touched(one: Field, form: Form) -> bool:
    """Whether a person has filled in anything of a field, beside what stood there at first."""
    if one.kind is Kind.GROUP:
        return any(_is_touched(child, form) for child in one.children)
    return form.one(f"payload{one.pointer}") not in {"", one.value}


def _value(one: Field, form: Form, problems: dict[str, str]) -> Any:
    """The value of a field; ``_MISSING`` where nothing is filled in and the payload can do without."""
    text = form.one(f"payload{one.pointer}")
    if one.kind is Kind.SWITCH:
        return text == "true"
    if one.kind is Kind.LINES:
        lines = [line for line in text.split("\n") if line.strip()]
        if lines or one.is_required:
            return [_number(line) for line in lines] if one.input_type == "number" else lines
        return _MISSING
    if not text:
        return None if one.is_nullable and one.is_required else _MISSING
    if one.kind in {Kind.CHOICE, Kind.JSON}:
        return _json(text, one.pointer, problems)
    return _number(text) if one.kind in {Kind.INTEGER, Kind.NUMBER} else text


def _json(text: str, pointer: str, problems: dict[str, str]) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        problems[pointer] = f"is no JSON: {error}"
        return _MISSING


def _number(text: str) -> Any:
    """The number that a text spells; the text itself where it spells none, for the schema to refuse."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON knows")
