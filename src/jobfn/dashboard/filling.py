"""From a filled-in form to a payload, and from what is wrong with it to the fields where it is wrong: pure.

``jsonschema`` is what checks; here its findings become sentences at the right fields. A text that is no number is put
into the payload as it is, so that one check finds everything.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing.exceptions import Unresolvable

from jobfn.dashboard.forms import Form
from jobfn.dashboard.schema_fields import Field, Kind, Schema, flat, pointer_to

_MISSING = object()
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class Filled:
    """What a form holds.

    Attributes:
        payload: The payload; None where it cannot be read at all.
        problems: What is wrong, by the field's pointer; under the empty pointer what belongs to no field.
    """

    payload: Any = None
    problems: Mapping[str, str] = field(default_factory=dict)


def fill(fields: Sequence[Field], form: Form, schema: Schema) -> Filled:
    """The payload that a form's fields make up, and what is wrong with it by the schema."""
    problems: dict[str, str] = {}
    payload = _whole(fields, form, problems)
    for pointer, problem in _problems(payload, schema, {found.pointer for found in flat(fields)}):
        problems.setdefault(pointer, problem)
    return Filled(payload, problems)


def fill_json(text: str, schema: Schema) -> Filled:
    """The payload that is written as JSON, and what is wrong with it by the schema."""
    try:
        payload = json.loads(text or "{}", parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Filled(problems={"": f"That is no JSON: {error}"})
    said = [
        f"{pointer.lstrip('/') or 'payload'}: {problem}" if pointer else problem
        for pointer, problem in _problems(payload, schema, None)
    ]
    return Filled(payload, {"": ". ".join(said)} if said else {})


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
        value = _members(one.children, form, problems) if one.kind is Kind.GROUP else _value(one, form, problems)
        if one.kind is Kind.GROUP and not value and not one.is_required:
            continue  # an object that may be left out, and of which nothing is filled in
        if value is not _MISSING:
            found[one.label] = value
    return found


def _value(one: Field, form: Form, problems: dict[str, str]) -> Any:
    """The value of a field; ``_MISSING`` where nothing is filled in and the payload can do without."""
    text = form.one(f"payload{one.pointer}")
    if one.kind is Kind.SWITCH:
        return text == "true"
    if one.kind is Kind.LINES:
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines and not one.is_required:
            return _MISSING
        return [_number(line) for line in lines] if one.input_type == "number" else lines
    if not text:
        return None if one.is_nullable and one.is_required else _MISSING
    if one.kind in {Kind.INTEGER, Kind.NUMBER}:
        return _number(text)
    if one.kind in {Kind.CHOICE, Kind.JSON}:
        try:
            return json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            problems[one.pointer] = f"is no JSON: {error}"
            return _MISSING
    return text


def _number(text: str) -> Any:
    """The number that a text spells; the text itself where it spells none, for the schema to refuse."""
    try:
        value = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that JSON knows")


def _problems(payload: Any, schema: Schema, known: set[str] | None) -> Iterable[tuple[str, str]]:
    """What is wrong, each at the nearest field that the form has (``known``; None: at the value itself)."""
    try:
        Draft202012Validator.check_schema(schema)
        errors = list(
            Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).iter_errors(payload)
        )
    except (SchemaError, Unresolvable, re.error, RecursionError):
        return  # a schema that cannot be used: the function itself will check
    for error in errors:
        yield from _told(error, known)


def _told(error: ValidationError, known: set[str] | None) -> Iterable[tuple[str, str]]:
    pointer = ""
    for part in error.absolute_path:
        pointer = pointer_to(pointer, part)
    if error.validator == "required" and isinstance(error.instance, Mapping):
        for name in error.validator_value:
            if name not in error.instance:
                yield _nearest(pointer_to(pointer, name), known), "is required"
        return
    if error.validator in {"anyOf", "oneOf"} and error.context:
        best = best_match(error.context)
        if best is not None and best.absolute_path != error.absolute_path:
            yield from _told(best, known)
            return
    nearest = _nearest(pointer, known)
    inner = pointer.removeprefix(nearest).lstrip("/") if known is not None else ""
    yield nearest, f"{inner}: {_sentence(error)}" if inner else _sentence(error)


def _nearest(pointer: str, known: set[str] | None) -> str:
    while known is not None and pointer and pointer not in known:
        pointer = pointer.rpartition("/")[0]
    return pointer


def _sentence(error: ValidationError) -> str:
    """What is wrong in words, without the value itself."""
    limit = error.validator_value
    match error.validator:
        case "type":
            kinds = [limit] if isinstance(limit, str) else list(limit)
            return f"must be {' or '.join(_TYPES.get(kind, kind) for kind in kinds)}"
        case "anyOf" | "oneOf":
            best = best_match([one for one in error.context or () if one.validator_value != "null"])
            return _sentence(best) if best is not None else "fits none of the shapes that are allowed"
        case "enum":
            return f"must be one of {', '.join(map(str, limit))}"
        case "const":
            return f"must be {limit}"
        case "minLength":
            return f"must have {limit} characters or more"
        case "maxLength":
            return f"must have {limit} characters or fewer"
        case "minimum" | "exclusiveMinimum":
            return f"must be {limit} or more" if error.validator == "minimum" else f"must be more than {limit}"
        case "maximum" | "exclusiveMaximum":
            return f"must be {limit} or less" if error.validator == "maximum" else f"must be less than {limit}"
        case "multipleOf":
            return f"must be a multiple of {limit}"
        case "minItems":
            return f"needs {limit} or more"
        case "maxItems":
            return f"takes {limit} at most"
        case "pattern":
            return f"must match {limit}"
        case "format":
            return f"must be a {limit}"
        case "additionalProperties":
            return "has a member that is not among those allowed"
        case _:
            return f"does not fit the schema ({error.validator})"
