"""Turn the JSON Schema of a payload into form fields, or into an example to edit as JSON. Pure.

An object whose properties are all scalars becomes a form with one field per property. Other payloads (nested objects,
arrays, unions) are edited as JSON text. Next step: ``form_payload.py``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Schema = Mapping[str, Any]
#: A nested schema. True accepts any value.
Subschema = Schema | bool
FieldKind = Literal["text", "multiline", "number", "checkbox", "select"]

#: Minimum ``maxLength`` of a string with a multi-line input.
_MULTILINE_CHARACTERS: Final = 200
#: Maximum length of a chain of references, and maximum nesting of referenced models in an example.
_MAX_REFERENCES: Final = 5
_COMBINATORS: Final = ("anyOf", "oneOf", "allOf")
_FORMAT_EXAMPLES: Final = {
    "decimal": "19.90",  # as _without_null calls it
    "date-time": "2026-01-31T09:30:00Z",
    "date": "2026-01-31",
    "time": "09:30:00",
    "duration": "PT1H30M",
    "uuid": "5b720132-17d5-424d-9bcb-ee7b17c13d43",
    "email": "ada@example.com",
    "uri": "https://example.com/",
}
_INPUT_TYPES: Final = {"date": "date", "email": "email", "uri": "url", "password": "password"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form.

    Attributes:
        name: Name of the property.
        kind: Kind of input.
        is_required: Whether the payload must contain the property.
        is_nullable: Whether the property can be null.
        hint: Description and format of the property.
        value: Initial value.
        choices: Options of a select: the value as JSON text, and the label.
        input_type: ``type`` attribute of a text input.
    """

    name: str
    kind: FieldKind
    is_required: bool = False
    is_nullable: bool = False
    hint: str = ""
    value: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    input_type: str = "text"

    @property
    def input_name(self) -> str:
        """Name of the HTML input."""
        return f"payload/{self.name}"


def form_fields(schema: Schema) -> tuple[Field, ...] | None:
    """Return one field per property; None if the payload must be edited as JSON."""
    resolved = _resolve(schema, schema)
    if resolved.get("type") == "null":
        return ()
    if "properties" not in resolved or any(keyword in resolved for keyword in _COMBINATORS):
        return None
    required = resolved.get("required", ())
    fields: list[Field] = []
    for name, subschema in resolved["properties"].items():
        field = _field(name, subschema, schema, is_required=name in required)
        if field is None:
            return None
        fields.append(field)
    return tuple(fields)


def example_payload(schema: Schema) -> Any:
    """Build a payload from defaults, examples and types. A schema without constraints gives ``{}``."""
    example = _example(schema, schema, frozenset())
    return {} if example is None else example


def _field(name: str, subschema: Subschema, root: Schema, *, is_required: bool) -> Field | None:
    schema, is_nullable = _without_null(_resolve(subschema, root), root)
    kind = _kind(schema)
    if kind is None:
        return None
    values = [schema["const"]] if "const" in schema else schema.get("enum", ())
    choices = tuple((json.dumps(value), value if isinstance(value, str) else json.dumps(value)) for value in values)
    if kind == "checkbox" and (is_nullable or (not is_required and "default" not in schema)):
        # A checkbox cannot tell "no" from "not given".
        kind, choices = "select", (("true", "yes"), ("false", "no"))
    return Field(
        name=name,
        kind=kind,
        is_required=is_required,
        is_nullable=is_nullable,
        hint=_hint(schema, kind),
        value=_initial_value(schema.get("default"), kind),
        choices=choices,
        input_type=_INPUT_TYPES.get(str(schema.get("format")), "text"),
    )


def _kind(schema: Schema) -> FieldKind | None:
    """Return the input of a scalar; None for any other schema."""
    if "enum" in schema or "const" in schema:
        return "select"
    match schema.get("type"):
        case "string":
            # A single-line input would drop the line breaks of a default value.
            is_multiline = schema.get("maxLength", 0) > _MULTILINE_CHARACTERS or "\n" in str(schema.get("default"))
            return "multiline" if is_multiline else "text"
        case "integer" | "number":
            return "number"
        case "boolean":
            return "checkbox"
    return None


def _hint(schema: Schema, kind: FieldKind) -> str:
    parts = [str(schema.get("description") or "").strip()]
    if kind == "text" and schema.get("format") in _FORMAT_EXAMPLES:
        parts.append(f"For example {_FORMAT_EXAMPLES[schema['format']]}.")
    return " ".join(part for part in parts if part)


def _initial_value(default: object, kind: FieldKind) -> str:
    if default is None:
        return ""
    return str(default) if kind in {"text", "multiline"} else json.dumps(default)


def _resolve(schema: Subschema, root: Schema) -> Schema:
    """Follow references within the document; a reference to nowhere, or in a circle, gives an empty schema."""
    for _ in range(_MAX_REFERENCES):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            return schema
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        target: Any = root if schema["$ref"].startswith("#") else {}
        for part in schema["$ref"].removeprefix("#").split("/")[1:]:
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, Mapping) else None
        schema = {**target, **siblings} if isinstance(target, Mapping) else siblings
    return {}


def _without_null(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """Split ``X | None``, as pydantic writes it, into the schema of X and whether it is nullable.

    A ``Decimal``, which pydantic writes as a number or a string, becomes a string: a number could lose digits.
    """
    options = schema.get("anyOf", ())
    non_null = [_resolve(option, root) for option in options if not _is_null(option)]
    is_nullable = len(non_null) == len(options) - 1
    siblings = {key: value for key, value in schema.items() if key != "anyOf"}
    if [option.get("type") for option in non_null] == ["number", "string"]:
        return {"format": "decimal", **non_null[1], **siblings}, is_nullable
    if len(non_null) != 1 or not is_nullable:
        return schema, False
    return {**non_null[0], **siblings}, True


def _is_null(schema: Subschema) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _example(schema: Subschema, root: Schema, references: frozenset[str]) -> Any:
    """Return an example; None for null, for recursive references and for schemas without constraints."""
    if not isinstance(schema, Mapping):
        return None
    if "$ref" in schema:
        if schema["$ref"] in references or len(references) == _MAX_REFERENCES:
            return None
        references |= {schema["$ref"]}
        schema = _resolve(schema, root)
    declared = [schema[keyword] for keyword in ("default", "const") if keyword in schema]
    declared += [*schema.get("examples", ()), *schema.get("enum", ())]
    if declared:
        return declared[0]
    options = next((schema[keyword] for keyword in _COMBINATORS if keyword in schema), None)
    if options is not None:
        return next((_example(each, root, references) for each in options if not _is_null(each)), None)
    return _example_of_type(schema, root, references)


def _example_of_type(schema: Schema, root: Schema, references: frozenset[str]) -> Any:
    types = schema.get("type", "object" if "properties" in schema else None)
    first = types[0] if isinstance(types, list) else types
    if first == "object":
        properties = schema.get("properties", {})
        return {name: _example(subschema, root, references) for name, subschema in properties.items()}
    if first == "array":
        item = _example(schema.get("items", {}), root, references)
        return [] if item is None else [item]
    if first == "string":
        return _FORMAT_EXAMPLES.get(str(schema.get("format")), "string")
    if first in {"integer", "number"}:
        return schema.get("minimum", 0)
    return False if first == "boolean" else None
