"""Does what a trigger sends fit what a task takes? Compared before anything is deployed, shape against shape.

Pure. The task's side is the JSON Schema of its payload annotation, so that this module knows nothing of tasks; the
command line loads them. Only what is certain is reported: a text column may hold a UUID, and passes for one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from jobfn.triggers.node import DataJobTrigger
from jobfn.triggers.payload_shape import Value, sent
from jobfn.triggers.table import Table, nearest, shown

Schema = Mapping[str, Any]
#: A part of a schema: true takes anything.
ManifestOptions = Schema | bool

#: Formats of text that a task tells apart, and what it takes for each.
_ACCEPTED_FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "uuid": frozenset({"uuid"}),
    "date": frozenset({"date"}),
    "date-time": frozenset({"date-time", "date"}),
    "time": frozenset({"time"}),
    "duration": frozenset(),
}
_TYPE_LABELS: Final = {
    "any": "JSON of any kind",
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "null": "nothing",
    "number": "a number",
    "object": "an object",
    "string": "text",
}
_FORMATS_IN_WORDS: Final = {"interval": "an interval as PostgreSQL writes it"}
_DEEPEST: Final = 32


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One way in which a trigger and a task do not fit.

    Attributes:
        table: The table's name as a message has it.
        task: The task identifier.
        events: On which events.
        field: Where in the payload, ``new.amount``; empty for the payload as a whole.
        problem: What is wrong: the column and what the field takes.
    """

    table: str
    task: str
    events: tuple[str, ...]
    field: str
    problem: str


def check(node: DataJobTrigger, table: Table, tasks: Mapping[str, Schema]) -> list[Mismatch]:
    """Compare one trigger with the tasks that there are.

    Args:
        node: A node that ``resolve`` has looked at.
        table: Its table.
        tasks: The JSON Schema of each task's payload, by task identifier.

    Returns:
        The mismatches, each once with all events it is about; none where the trigger fits.
    """
    if node.task_identifier not in tasks:
        problem = f"no function has this task{nearest(node.task_identifier, tasks)}"
        return [Mismatch(table.label, node.task_identifier, node.events, "", problem)]
    schema = tasks[node.task_identifier]
    found: dict[tuple[str, str], list[str]] = {}
    for event in node.events:
        for field_and_problem in _Comparison(schema).problems(sent(node, table, event), schema):
            found.setdefault(field_and_problem, []).append(event)
    return [
        Mismatch(table.label, node.task_identifier, tuple(events), field, problem)
        for (field, problem), events in found.items()
    ]


class _Comparison:
    """One comparison with one schema, whose ``$ref`` it follows."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def problems(self, value: Value, wanted: ManifestOptions, path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
        """Field and problem of each mismatch."""
        return list(dict.fromkeys(self._problems(value, wanted, path)))

    def _problems(self, value: Value, wanted: ManifestOptions, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if isinstance(wanted, bool) or len(path) > _DEEPEST:
            return
        if "$ref" in wanted:
            yield from self._problems(value, self._resolve(wanted["$ref"]), path)
        for part in wanted.get("allOf", ()):
            yield from self._problems(value, part, path)
        options = wanted.get("anyOf") or wanted.get("oneOf")
        if options:
            yield from self._of_options(value, options, path)
            return
        if value.nullable and not self._takes_null(wanted):
            yield _at(path, f"{value.origin} can be NULL, and this field takes no null")
        yield from self._of_type(value, wanted, path)

    def _of_options(self, value: Value, options: Sequence[Schema], path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """The problems with the option that fits best; null and not null may each have an option of its own."""
        if value.nullable and not any(self._takes_null(option) for option in options):
            yield _at(path, f"{value.origin} can be NULL, and this field takes no null")
        held = replace(value, nullable=False)
        tried = [self.problems(held, option, path) for option in options if not _is_null(option)]
        yield from min(tried, key=len, default=[_at(path, f"{value.origin} is sent, and this field takes only null")])

    def _of_type(self, value: Value, wanted: Schema, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        if value.type == "any":
            return
        taken = _types_of(wanted)
        if taken and value.type not in taken and not (value.type == "integer" and "number" in taken):
            fractions = value.type == "number" and "integer" in taken
            said = "can have fractions" if fractions else f"is sent as {_TYPE_LABELS[value.type]}"
            yield _at(
                path, f"{value.origin} {said}, and this field takes {' or '.join(_TYPE_LABELS[t] for t in taken)}"
            )
            return
        if value.type == "string":
            yield from self._of_text(value, wanted, path)
        elif value.type == "array" and value.items is not None and isinstance(wanted.get("items"), Mapping):
            yield from self._problems(value.items, wanted["items"], (*path, "[]"))
        elif value.type == "object" and value.properties is not None:
            yield from self._of_object(value.properties, wanted, path)

    def _of_text(self, value: Value, wanted: Schema, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        allowed = [wanted["const"]] if "const" in wanted else wanted.get("enum")
        if allowed is not None:
            refused = [label for label in value.labels if label not in allowed]
            if refused:
                listed = ", ".join(shown(label) for label in refused)
                yield _at(path, f"{value.origin} can be {listed}, and this field takes only {_listed(allowed)}")
            elif value.format is not None:
                yield _at(path, f"{value.origin} is sent, and this field takes only {_listed(allowed)}")
        fitting = _ACCEPTED_FORMATS.get(wanted.get("format", ""))
        unfit = value.labels or (value.format is not None and value.format not in (fitting or ()))
        if fitting is not None and unfit:
            said = _FORMATS_IN_WORDS.get(value.format or "", value.format or "one of its labels")
            yield _at(path, f"{value.origin} is sent as {said}, and this field takes a {wanted['format']}")

    def _of_object(
        self, properties: Mapping[str, Value], wanted: Schema, path: tuple[str, ...]
    ) -> Iterator[tuple[str, str]]:
        taken = wanted.get("properties", {})
        others = wanted.get("additionalProperties", True)
        for name in wanted.get("required", ()):
            if name not in properties:
                listed = ", ".join(shown(sent_name) for sent_name in properties)
                yield _at((*path, name), f"the task needs this field, and the trigger sends only {listed}")
        for name, value in properties.items():
            if name in taken:
                yield from self._problems(value, taken[name], (*path, name))
            elif others is False:
                yield _at((*path, name), f"{value.origin} is sent, and the task forbids fields that it does not know")
            elif others is not True:
                yield from self._problems(value, others, (*path, name))

    def _takes_null(self, wanted: ManifestOptions) -> bool:
        if isinstance(wanted, bool):
            return wanted
        if "$ref" in wanted:
            return self._takes_null(self._resolve(wanted["$ref"]))
        if "allOf" in wanted:
            return all(self._takes_null(part) for part in wanted["allOf"])
        options = wanted.get("anyOf") or wanted.get("oneOf")
        if options:
            return any(self._takes_null(option) for option in options)
        if "const" in wanted or "enum" in wanted:
            return None in [wanted.get("const", ...), *wanted.get("enum", ())]
        taken = _types_of(wanted)
        return not taken or "null" in taken

    def _resolve(self, reference: str) -> Schema:
        found: Any = self._root
        for part in reference.removeprefix("#/").split("/"):
            found = found[part.replace("~1", "/").replace("~0", "~")]
        return found if isinstance(found, Mapping) else {}


def _types_of(wanted: Schema) -> list[str]:
    named = wanted.get("type")
    if named is None:
        allowed = [wanted["const"]] if "const" in wanted else wanted.get("enum", ())
        named = sorted({_type_of(value) for value in allowed})
    return [named] if isinstance(named, str) else list(named)


def _type_of(value: object) -> str:
    types = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
    return types.get(type(value), "null")


def _is_null(wanted: ManifestOptions) -> bool:
    return isinstance(wanted, Mapping) and wanted.get("type") == "null"


def _listed(values: Sequence[object]) -> str:
    return ", ".join(shown(value) if isinstance(value, str) else repr(value) for value in values)


def _at(path: tuple[str, ...], problem: str) -> tuple[str, str]:
    return ".".join(shown(part) for part in path).replace(".[]", "[]"), problem
