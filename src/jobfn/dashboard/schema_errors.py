"""What is wrong with a payload by its schema, in sentences, each at the field where it is wrong: pure.

``jsonschema`` is what checks. A sentence tells the rule, never the value.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing.exceptions import Unresolvable

from jobfn.dashboard.schema_fields import Schema, pointer_to

_SENTENCES = {
    "const": "must be {}",
    "minLength": "must have {} characters or more",
    "maxLength": "must have {} characters or fewer",
    "minimum": "must be {} or more",
    "exclusiveMinimum": "must be more than {}",
    "maximum": "must be {} or less",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minItems": "needs {} or more",
    "maxItems": "takes {} at most",
    "pattern": "must match {}",
    "additionalProperties": "has a member that is not among those allowed",
}
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}
_FORMATS = {
    "date": "a date",
    "email": "an email address",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "regex": "a regular expression",
    "uuid": "a UUID",
}


def findings(payload: Any, schema: Schema, known: Collection[str] | None = None) -> Iterator[tuple[str, str]]:
    """What is wrong with a payload.

    Args:
        payload: The payload.
        schema: What it is to fit. One that cannot be used finds nothing: the function itself will check.
        known: The pointers of the fields that a form has. Default: any.

    Yields:
        A pointer, that of the nearest field that is known, and what is wrong there.
    """
    try:
        Draft202012Validator.check_schema(schema)
        checker = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        errors = list(checker.iter_errors(payload))
    except (SchemaError, Unresolvable, re.error, RecursionError):
        return
    for error in errors:
        yield from _told(error, known)


def _told(error: ValidationError, known: Collection[str] | None) -> Iterator[tuple[str, str]]:
    pointer = ""
    for part in error.absolute_path:
        pointer = pointer_to(pointer, part)
    rule: Any = error.validator_value
    if error.validator == "required" and isinstance(error.instance, Mapping):
        for name in rule:
            if name not in error.instance:
                yield _nearest(pointer_to(pointer, name), known), "is required"
        return
    best = best_match(error.context) if error.context else None
    if best is not None and (best.validator == "required" or best.absolute_path != error.absolute_path):
        yield from _told(best, known)
        return
    nearest = _nearest(pointer, known)
    inner = pointer.removeprefix(nearest).lstrip("/") if known is not None else ""
    yield nearest, f"{inner}: {_sentence(error)}" if inner else _sentence(error)


def _nearest(pointer: str, known: Collection[str] | None) -> str:
    while known is not None and pointer and pointer not in known:
        pointer = pointer.rpartition("/")[0]
    return pointer


def _sentence(error: ValidationError) -> str:
    rule: Any = error.validator_value
    if error.validator == "type":
        kinds = [rule] if isinstance(rule, str) else rule
        return f"must be {' or '.join(_TYPES.get(kind, kind) for kind in kinds)}"
    if error.validator == "enum":
        return f"must be one of {', '.join(map(str, rule))}"
    if error.validator == "format":
        return f"must be {_FORMATS.get(rule, rule)}"
    best = best_match([one for one in error.context or () if one.validator_value != "null"])
    if best is not None:
        return _sentence(best)
    return _SENTENCES.get(str(error.validator), f"does not fit the schema ({error.validator})").format(rule)
