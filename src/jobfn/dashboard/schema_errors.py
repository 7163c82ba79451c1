"""Check a payload's JSON Schema, and payloads against it. Pure: a remote ``$ref`` is never retrieved.

A schema comes from a function. It can take any time and memory: see ``limits.py``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from referencing import Registry
from referencing.exceptions import Unresolvable

from jobfn.dashboard.schema_fields import Field, Schema, example_payload, form_fields

#: Location of an error: property names and array indexes.
Path = tuple[str | int, ...]

#: Maximum length of a message. Longer ones do not quote the payload.
_MAX_MESSAGE_CHARACTERS: Final = 200


@dataclass(frozen=True, slots=True)
class PayloadDescription:
    """A description of a payload.

    Attributes:
        schema: The JSON Schema; empty if it is unknown or invalid.
        fields: Fields of a form; None if the payload can only be edited as JSON.
        example: An example, JSON text.
    """

    schema: Schema = field(default_factory=dict)
    fields: tuple[Field, ...] | None = None
    example: str = "{}"


NO_DESCRIPTION: Final = PayloadDescription()


def describe_payload(schema: Schema) -> PayloadDescription:
    """Return the form and an example of a payload with this schema."""
    if not is_valid_schema(schema):
        return NO_DESCRIPTION
    example = json.dumps(example_payload(schema), indent=2, ensure_ascii=False)
    return PayloadDescription(schema, form_fields(schema), example)


def is_valid_schema(schema: Schema) -> bool:
    """Whether this is a JSON Schema that payloads can be validated with."""
    try:
        Draft202012Validator.check_schema(schema)
    except (SchemaError, re.error, RecursionError):
        return False
    return True


def validation_errors(payload: Any, schema: Schema) -> dict[Path, str]:
    """Return the first error at each location; empty if the payload is valid or the schema has a remote ``$ref``."""
    validator = Draft202012Validator(
        schema,
        registry=Registry(),  # the default registry fetches unknown URLs
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    errors: dict[Path, str] = {}
    try:
        for error in validator.iter_errors(payload):
            for path, message in _messages(error):
                errors.setdefault(path, message)
    except (Unresolvable, RecursionError):
        return {}
    return errors


def _messages(error: ValidationError) -> Iterator[tuple[Path, str]]:
    # For X | None, report the error of X rather than "not valid under any of the given schemas".
    non_null = [each for each in error.context or () if each.validator_value != "null"]
    has_one_option = len({next(iter(each.schema_path), None) for each in non_null}) == 1
    best = best_match(non_null if has_one_option else [error]) or error
    path = tuple(best.absolute_path)
    if best.validator == "required" and isinstance(best.instance, Mapping):
        required: Any = best.validator_value
        for name in required:
            if name not in best.instance:
                yield (*path, name), "is required"
    else:
        message = best.message
        if len(message) > _MAX_MESSAGE_CHARACTERS:
            message = message.replace(repr(best.instance), "the value")[:_MAX_MESSAGE_CHARACTERS]
        yield path, message
