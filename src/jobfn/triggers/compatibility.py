"""Check that the payload a trigger sends matches the payload a task accepts, before anything is deployed.

Pure. The task's side is the JSON Schema of its payload annotation, so this module does not import tasks. Only certain
mismatches are reported: a text column may contain UUIDs, so it matches a UUID field.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.payload_shape import ValueShape, payload_shape
from jobfn.triggers.table import Table, printable, suggest

Schema = Mapping[str, Any]
#: A nested schema. True accepts any value.
Subschema = Schema | bool
#: A field's path and its problem.
Problem = tuple[str, str]
_Path = tuple[str, ...]

#: Formats that each string format of a task accepts. Unlisted formats accept any string.
_ACCEPTED_FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "uuid": frozenset({"uuid"}),
    "date": frozenset({"date"}),
    "date-time": frozenset({"date-time", "date"}),
    "time": frozenset({"time"}),
    "duration": frozenset(),
}
_TYPE_LABELS: Final = {
    "any": "any JSON value",
    "array": "an array",
    "boolean": "a boolean",
    "integer": "an integer",
    "null": "null",
    "number": "a number",
    "object": "an object",
    "string": "a string",
}
_FORMAT_LABELS: Final = {"interval": "a PostgreSQL interval"}
_JSON_TYPES: Final[Mapping[type, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
}
#: Maximum depth of a field path, so that recursive schemas end.
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A payload field that a trigger and a task do not agree on.

    Attributes:
        table: Qualified table name, for messages.
        task: Task identifier.
        events: Events whose payload has this mismatch.
        field: Path of the field, for example ``new.amount``; empty for the whole payload.
        problem: What is sent, and what the field accepts.
    """

    table: str
    task: str
    events: tuple[str, ...]
    field: str
    problem: str


def check_compatibility(node: DataJobTrigger, table: Table, tasks: Mapping[str, Schema]) -> list[Mismatch]:
    """Compare the payload of a trigger with its task; a signal has none."""
    if node.signal is not None:
        return []
    if node.task_identifier not in tasks:
        unknown = f"no function has this task{suggest(node.task_identifier, tasks)}"
        return [Mismatch(table.label, node.task_identifier, node.events, "", unknown)]
    schema = tasks[node.task_identifier]
    events_by_problem: dict[Problem, list[str]] = {}
    for event in node.events:
        for problem in _SchemaMatcher(schema).problems(payload_shape(node, table, event), schema):
            events_by_problem.setdefault(problem, []).append(event)
    return [
        Mismatch(table.label, node.task_identifier, tuple(events), field, problem)
        for (field, problem), events in events_by_problem.items()
    ]


class _SchemaMatcher:
    """Matches values against a schema and resolves its ``$ref``."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def problems(self, value: ValueShape, schema: Subschema, path: _Path = ()) -> list[Problem]:
        return list(dict.fromkeys(self._match(value, schema, path)))

    def _match(self, value: ValueShape, schema: Subschema, path: _Path) -> Iterator[Problem]:
        if isinstance(schema, bool) or len(path) > _MAX_DEPTH:
            return
        if "$ref" in schema:
            yield from self._match(value, self._resolve(schema["$ref"]), path)
        for part in schema.get("allOf", ()):
            yield from self._match(value, part, path)
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            yield from self._match_any_of(value, options, path)
            return
        if value.nullable and not self._allows_null(schema):
            yield _null_problem(path, value)
        yield from self._match_type(value, schema, path)

    def _match_any_of(self, value: ValueShape, options: Sequence[Schema], path: _Path) -> Iterator[Problem]:
        """Yield the problems with the best option; null and other values may match different options."""
        if value.nullable and not any(self._allows_null(option) for option in options):
            yield _null_problem(path, value)
        non_null = replace(value, nullable=False)
        by_option = [self.problems(non_null, option, path) for option in options if not _is_null(option)]
        only_null = _problem_at(path, f"{value.origin} is sent, but the field accepts only null")
        yield from min(by_option, key=len, default=[only_null])

    def _match_type(self, value: ValueShape, schema: Schema, path: _Path) -> Iterator[Problem]:
        if value.type == "any":
            return
        accepted = _allowed_types(schema)
        if accepted and value.type not in accepted and not (value.type == "integer" and "number" in accepted):
            is_fraction = value.type == "number" and "integer" in accepted
            actual = "can be fractional" if is_fraction else f"is sent as {_TYPE_LABELS[value.type]}"
            expected = " or ".join(_TYPE_LABELS[name] for name in accepted)
            yield _problem_at(path, f"{value.origin} {actual}, but the field accepts {expected}")
            return
        if value.type == "string":
            yield from self._match_string(value, schema, path)
        elif value.type == "array" and value.items is not None and isinstance(schema.get("items"), Mapping):
            yield from self._match(value.items, schema["items"], (*path, "[]"))
        elif value.type == "object" and value.properties is not None:
            yield from self._match_object(value.properties, schema, path)

    def _match_string(self, value: ValueShape, schema: Schema, path: _Path) -> Iterator[Problem]:
        allowed = [schema["const"]] if "const" in schema else schema.get("enum")
        if allowed is not None:
            rejected = [label for label in value.labels if label not in allowed]
            if rejected or value.format is not None:
                actual = f"can be {_join_values(rejected)}" if rejected else "is sent"
                yield _problem_at(path, f"{value.origin} {actual}, but the field accepts only {_join_values(allowed)}")
        formats = _ACCEPTED_FORMATS.get(schema.get("format", ""))
        is_rejected = value.labels or (value.format is not None and value.format not in (formats or ()))
        if formats is not None and is_rejected:
            actual = _FORMAT_LABELS.get(value.format or "", value.format or "one of its labels")
            yield _problem_at(path, f"{value.origin} is sent as {actual}, but the field accepts a {schema['format']}")

    def _match_object(self, properties: Mapping[str, ValueShape], schema: Schema, path: _Path) -> Iterator[Problem]:
        accepted = schema.get("properties", {})
        additional = schema.get("additionalProperties", True)
        for name in schema.get("required", ()):
            if name not in properties:
                sent = _join_values(properties)
                yield _problem_at((*path, name), f"the task requires this field, but the trigger sends only {sent}")
        for name, value in properties.items():
            if name in accepted:
                yield from self._match(value, accepted[name], (*path, name))
            elif additional is False:
                yield _problem_at((*path, name), f"{value.origin} is sent, but the task forbids additional fields")
            elif additional is not True:
                yield from self._match(value, additional, (*path, name))

    def _allows_null(self, schema: Subschema) -> bool:
        if isinstance(schema, bool):
            return schema
        if "$ref" in schema:
            return self._allows_null(self._resolve(schema["$ref"]))
        if "allOf" in schema:
            return all(self._allows_null(part) for part in schema["allOf"])
        options = schema.get("anyOf") or schema.get("oneOf")
        if options:
            return any(self._allows_null(option) for option in options)
        if "const" in schema or "enum" in schema:
            return None in [schema.get("const", ...), *schema.get("enum", ())]
        accepted = _allowed_types(schema)
        return not accepted or "null" in accepted

    def _resolve(self, reference: str) -> Schema:
        target: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            target = target[part.replace("~1", "/").replace("~0", "~")]
        return target if isinstance(target, Mapping) else {}


def _allowed_types(schema: Schema) -> list[str]:
    types = schema.get("type")
    if types is None:
        allowed = [schema["const"]] if "const" in schema else schema.get("enum", ())
        types = sorted({_JSON_TYPES.get(type(value), "null") for value in allowed})
    return [types] if isinstance(types, str) else list(types)


def _is_null(schema: Subschema) -> bool:
    return isinstance(schema, Mapping) and schema.get("type") == "null"


def _join_values(values: Iterable[object]) -> str:
    return ", ".join(printable(value) if isinstance(value, str) else repr(value) for value in values)


def _null_problem(path: _Path, value: ValueShape) -> Problem:
    return _problem_at(path, f"{value.origin} can be NULL, but the field does not accept null")


def _problem_at(path: _Path, problem: str) -> Problem:
    return ".".join(printable(part) for part in path).replace(".[]", "[]"), problem
