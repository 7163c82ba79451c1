"""Blueprints: which tables have which triggers, from files that hold much else (contract, section 4).

A file holds one table, a list of tables, or ``{"tables": [...]}``. Nodes of other types are left alone and named in a
notice. The flow goes on in ``plan.py``.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from jobfn.errors import BlueprintError
from jobfn.triggers.conditions import CONDITION_KINDS, Comparison
from jobfn.triggers.file_formats import read_document
from jobfn.triggers.node import NODE_TYPES, DataJobTrigger
from jobfn.triggers.quoting import name_problem
from jobfn.triggers.table import label_of, nearest, shown

DEFAULT_SCHEMA: Final = "public"

_EXPECTED: Final = 'one table ({"table_name": ..., "nodes": [...]}), a list of tables, or {"tables": [...]}'


@dataclass(frozen=True, slots=True)
class TableTriggers:
    """A table and the triggers it is to have: all of them, so that none means that ours go.

    Attributes:
        table: Its name.
        triggers: Its nodes, in their order.
        schema: Its schema. Default: public.
    """

    table: str
    triggers: Sequence[DataJobTrigger]
    schema: str = DEFAULT_SCHEMA

    @property
    def label(self) -> str:
        """Its name as a message has it."""
        return label_of(self.schema, self.table)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What one or more blueprint files say about triggers.

    Attributes:
        tables: The tables they name, each once.
        notices: What was left alone.
    """

    tables: tuple[TableTriggers, ...]
    notices: tuple[str, ...] = ()


def load_blueprints(paths: Iterable[Path]) -> Blueprint:
    """Read blueprint files.

    Args:
        paths: Files that end in .json, .yaml, .yml or .toml.

    Raises:
        BlueprintError: A file cannot be read, a node in it is wrong, or two entries are about one table; names the
            file, the table, the node and the parameter.
    """
    tables: dict[str, TableTriggers] = {}
    notices: list[str] = []
    for path in paths:
        for entry in _entries(read_document(path), path):
            found = _table(entry, str(path), notices)
            if found is None:
                continue
            if found.label in tables:
                raise BlueprintError(f"{path}: table {found.label} is named a second time: put its nodes together")
            tables[found.label] = found
    return Blueprint(tuple(tables.values()), tuple(notices))


def parse_node(data: object, place: str) -> DataJobTrigger:
    """A node's ``data``.

    Args:
        data: Its parameters.
        place: Where it stands, for the error.

    Raises:
        BlueprintError: A parameter is missing, unknown or impossible; names it.
    """
    task = data.get("task_identifier") if isinstance(data, dict) else None
    named = f"{place} {shown(task)}" if isinstance(task, str) and task else place
    try:
        return DataJobTrigger.model_validate(data)
    except ValidationError as error:
        raise BlueprintError(f"{named}: {_problem(error)}") from None


def _entries(document: object, path: Path) -> list[Any]:
    if isinstance(document, dict) and "tables" in document:
        document = document["tables"]
    elif isinstance(document, dict):
        document = [document]
    if not isinstance(document, list):
        raise BlueprintError(f"{path}: a blueprint is {_EXPECTED}, not {type(document).__name__}")
    return document


def _table(entry: object, path: str, notices: list[str]) -> TableTriggers | None:
    if not isinstance(entry, dict):
        raise BlueprintError(f"{path}: a table is an object with table_name and nodes, not {entry!r:.40}")
    if "table_name" not in entry and "module" in entry:
        notices.append(f"{path}: a table of a platform module is left alone: name it by table_name")
        return None
    name = _name(entry, "table_name", path)
    schema = _schema(entry, path)
    label = label_of(schema, name)
    nodes = entry.get("nodes")
    if not isinstance(nodes, list):
        raise BlueprintError(f"{path}: table {label}: nodes must be a list; [] removes the table's triggers")
    triggers: list[DataJobTrigger] = []
    others: Counter[str] = Counter()
    for index, node in enumerate(nodes):
        place = f"{path}: table {label}, nodes[{index}]"
        kind = _kind(node, place)
        if kind in NODE_TYPES:
            triggers.append(parse_node(_data(node, place), f"{place} {kind}"))
        else:
            others[kind] += 1
    if others:
        listed = ", ".join(shown(kind) + (f" (x{count})" if count > 1 else "") for kind, count in others.items())
        notices.append(f"{path}: table {label}: nodes of other types are left alone: {listed}")
    return TableTriggers(name, tuple(triggers), schema)


def _schema(entry: dict[str, Any], path: str) -> str:
    """``schema``, or ``schema_name`` as the platform's blueprints have it."""
    found = {key: _name(entry, key, path) for key in ("schema", "schema_name") if entry.get(key) is not None}
    if len(set(found.values())) > 1:
        raise BlueprintError(f"{path}: table {entry['table_name']}: schema and schema_name differ; leave one out")
    return next(iter(found.values()), DEFAULT_SCHEMA)


def _name(entry: dict[str, Any], key: str, path: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise BlueprintError(f"{path}: {key} must be a name in text, not {value!r:.40}")
    problem = name_problem(value)
    if problem is not None:
        raise BlueprintError(f"{path}: {key} {shown(value)!r}: {problem}")
    return value


def _kind(node: object, place: str) -> str:
    kind = node.get("$type") if isinstance(node, dict) else node
    if not isinstance(kind, str):
        raise BlueprintError(f'{place}: a node is {{"$type": "DataJobTrigger", "data": {{...}}}}, not {node!r:.40}')
    return kind


def _data(node: object, place: str) -> object:
    if not isinstance(node, dict):
        return {}
    stray = [key for key in node if key not in {"$type", "data"}]
    if stray:
        raise BlueprintError(f"{place}: {shown(stray[0])}: parameters go into data, beside $type there is nothing else")
    data = node.get("data")
    if data is not None and not isinstance(data, dict):
        raise BlueprintError(f"{place}: data must be an object of parameters, not {data!r:.40}")
    return data or {}


def _problem(error: ValidationError) -> str:
    """The first mismatch in one line: the parameter, and what is wrong with it."""
    first = error.errors(include_url=False, include_context=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    where = [str(part) for part in first["loc"]]
    if not where:
        return message
    parameter = where[0]
    if first["type"] == "extra_forbidden":
        known = DataJobTrigger.model_fields if len(where) == 1 else Comparison.model_fields
        prefix = "" if len(where) == 1 else f"{parameter}: "
        return f"{prefix}unknown parameter {shown(where[-1])}{nearest(where[-1], known)}"
    if first["type"] == "missing":
        return f"{'' if len(where) == 1 else f'{parameter}: '}{where[-1]} is missing"
    if first["type"] != "value_error":  # pydantic's own, which begin with a capital
        message = message[0].lower() + message[1:]
    given = first["input"]
    shown_input = f", not {given!r:.60}" if isinstance(given, (str, int, float, bool)) else ""
    inner = [part for part in where[1:] if not part.isdecimal() and part not in CONDITION_KINDS]
    return f"{': '.join([parameter, *inner[-1:]])}: {message}{shown_input if 'should' in message else ''}"
