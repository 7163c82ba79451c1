"""From a payload's JSON Schema to the fields of a form: pure.

A field is named by the JSON Pointer of its value, ``/customer/name``, so that what is typed in and what is found wrong
meet again. What no simple field can hold (lists of objects, unions, objects of any keys) is written as JSON.
Read next: ``filling.py``, the way back.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

#: Deeper than this, an object is written as JSON.
MAX_DEPTH = 3
#: A text of more characters than this gets several lines.
_LONG_TEXT = 200

Schema = Mapping[str, Any]


class Kind(StrEnum):
    """How a field is filled in."""

    TEXT = "text"
    LONG_TEXT = "long"
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    LINES = "lines"
    JSON = "json"
    GROUP = "group"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a form.

    Attributes:
        pointer: The JSON Pointer of its value; empty for the whole payload.
        label: What stands above it.
        kind: How it is filled in.
        is_required: Whether the payload must have it.
        is_nullable: Whether it may be null.
        hint: The schema's description, and what a person must know to fill it in.
        value: What stands in it at first.
        choices: Of a choice: each as JSON text, and as people read it.
        input_type: Of a text: what an ``<input>`` calls it; of lines: ``number`` where each is one.
        children: Of a group.
    """

    pointer: str
    label: str
    kind: Kind
    is_required: bool = False
    is_nullable: bool = False
    hint: str = ""
    value: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    input_type: str = "text"
    children: tuple["Field", ...] = ()


def fields_of(schema: Schema) -> tuple[Field, ...]:
    """The fields for a payload of this schema; none for a task that takes no payload."""
    whole = _resolved(schema, schema)
    if whole.get("type") == "null":
        return ()
    if _has_fields(whole):
        return _children(whole, root=schema, pointer="", depth=0)
    return (Field("", "Payload", Kind.JSON, is_required=True, hint=_hint(whole), value=_shown(whole.get("default"))),)


def flat(fields: Iterable[Field]) -> Iterable[Field]:
    """All fields, those in groups too, each after its group."""
    for field in fields:
        yield field
        yield from flat(field.children)


def pointer_to(pointer: str, name: str | int) -> str:
    """The pointer of a member (RFC 6901)."""
    return f"{pointer}/{str(name).replace('~', '~0').replace('/', '~1')}"


def _children(schema: Schema, *, root: Schema, pointer: str, depth: int) -> tuple[Field, ...]:
    required = set(schema.get("required", ()))
    return tuple(
        _field(name, inner, root=root, pointer=pointer_to(pointer, name), depth=depth, is_required=name in required)
        for name, inner in schema["properties"].items()
        if isinstance(inner, Mapping)
    )


def _field(name: str, given: Schema, *, root: Schema, pointer: str, depth: int, is_required: bool) -> Field:
    schema, is_nullable = _without_null(_resolved(given, root), root)
    told = {**schema, **{key: given[key] for key in ("title", "description", "default") if key in given}}
    kind = _kind(schema, root, depth)
    choices = _choices(schema)
    if kind is Kind.SWITCH and (is_nullable or (not is_required and "default" not in told)):
        kind, choices = Kind.CHOICE, (("true", "yes"), ("false", "no"))
    return Field(
        pointer=pointer,
        label=name,
        kind=kind,
        is_required=is_required,
        is_nullable=is_nullable,
        hint=_hint(told, kind),
        value=_value(told.get("default"), kind),
        choices=choices,
        input_type=_input_type(schema, kind, root),
        children=_children(schema, root=root, pointer=pointer, depth=depth + 1) if kind is Kind.GROUP else (),
    )


def _kind(schema: Schema, root: Schema, depth: int) -> Kind:
    if "enum" in schema or "const" in schema:
        return Kind.CHOICE
    kind = schema.get("type")
    if kind == "string":
        return Kind.LONG_TEXT if schema.get("maxLength", 0) > _LONG_TEXT or _is_long(schema) else Kind.TEXT
    if kind == "array":
        items = schema.get("items")
        is_simple = isinstance(items, Mapping) and _resolved(items, root).get("type") in {"string", "integer", "number"}
        return Kind.LINES if is_simple and "prefixItems" not in schema else Kind.JSON
    if kind == "object" and _has_fields(schema) and depth + 1 < MAX_DEPTH:
        return Kind.GROUP
    return {"integer": Kind.INTEGER, "number": Kind.NUMBER, "boolean": Kind.SWITCH}.get(str(kind), Kind.JSON)


def _input_type(schema: Schema, kind: Kind, root: Schema) -> str:
    if kind is Kind.LINES:
        return "text" if _resolved(schema["items"], root).get("type") == "string" else "number"
    return {"email": "email", "uri": "url", "password": "password"}.get(str(schema.get("format")), "text")


def _is_long(schema: Schema) -> bool:
    return schema.get("contentMediaType") is not None or schema.get("format") in {"multiline", "textarea"}


def _has_fields(schema: Schema) -> bool:
    """Whether an object's members are known: then it is a form, unless it is one of several shapes."""
    return isinstance(schema.get("properties"), Mapping) and not {"anyOf", "oneOf", "allOf"} & schema.keys()


def _resolved(schema: Schema, root: Schema) -> Schema:
    """The schema behind references of its own document; one that leads nowhere, or in a circle, says nothing."""
    for _ in range(10):
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        found: Any = root
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(found, Mapping) else {}
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**(found if isinstance(found, Mapping) else {}), **beside}
    return {}


def _without_null(schema: Schema, root: Schema) -> tuple[Schema, bool]:
    """``X | None`` as pydantic writes it, as X, and that it may be null."""
    choices = schema.get("anyOf")
    if not isinstance(choices, list):
        return schema, False
    others = [choice for choice in choices if isinstance(choice, Mapping) and choice.get("type") != "null"]
    is_nullable = len(others) < len(choices)
    if is_nullable and len(others) == 1:
        beside = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**_resolved(others[0], root), **beside}, True
    return schema, is_nullable


def _choices(schema: Schema) -> tuple[tuple[str, str], ...]:
    values = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return tuple((json.dumps(value), value if isinstance(value, str) else json.dumps(value)) for value in values)


def _hint(schema: Schema, kind: Kind = Kind.JSON) -> str:
    parts = [str(schema.get("description") or "").strip()]
    if kind is Kind.LINES:
        parts.append("One on each line.")
    elif kind is Kind.JSON:
        parts.append("Written as JSON.")
    elif schema.get("format") in {"date-time", "date", "time", "uuid", "duration"}:
        examples = {
            "date-time": "2026-01-31T09:30:00Z",
            "date": "2026-01-31",
            "time": "09:30:00",
            "uuid": "5b720132-17d5-424d-9bcb-ee7b17c13d43",
            "duration": "PT1H30M",
        }
        parts.append(f"Such as {examples[schema['format']]}.")
    return " ".join(part for part in parts if part)


def _value(default: object, kind: Kind) -> str:
    if default is None:
        return ""
    if kind is Kind.LINES and isinstance(default, list):
        return "\n".join(map(str, default))
    if kind in {Kind.TEXT, Kind.LONG_TEXT}:
        return str(default)
    return _shown(default) if kind is Kind.JSON else json.dumps(default)


def _shown(value: object) -> str:
    return "" if value is None else json.dumps(value, indent=2, ensure_ascii=False)
