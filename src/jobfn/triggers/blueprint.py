"""Parse blueprint files into the triggers of each table (contract, section 4).

A file holds one table, a list of tables, or ``{"tables": [...]}``. Nodes of other types are ignored and listed in a
notice. Next step: ``plan.py``.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from jobfn.errors import BlueprintError
from jobfn.sql.quoting import name_problem
from jobfn.triggers.conditions import CONDITION_TAGS, Comparison
from jobfn.triggers.file_formats import read_document
from jobfn.triggers.node import NODE_TYPES, DataJobTrigger, EntityLookup
from jobfn.triggers.table import printable, qualified_label, suggest

DEFAULT_SCHEMA: Final = "public"

#: The platform's node that adds a primary key.
DATA_ID_NODE: Final = "DataId"

_DOCUMENT_SHAPES: Final = 'one table ({"table_name": ..., "nodes": [...]}), a list of tables, or {"tables": [...]}'


@dataclass(frozen=True, slots=True)
class TableTriggers:
    """The complete list of triggers of one table; jobfn drops its other triggers on this table.

    Attributes:
        table: Table name.
        triggers: Trigger nodes, in blueprint order.
        schema: Schema of the table. Default: public.
        fields: Name and type of each field of the blueprint, for SQL without a database.
        primary_key: Column of the platform's node ``DataId``; None without that node.
    """

    table: str
    triggers: Sequence[DataJobTrigger]
    schema: str = DEFAULT_SCHEMA
    fields: tuple[tuple[str, str], ...] = ()
    primary_key: str | None = None

    @property
    def label(self) -> str:
        """Qualified name for messages."""
        return qualified_label(self.schema, self.table)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The triggers of one or more blueprint files.

    Attributes:
        tables: Tables, each once.
        notices: Warnings about ignored nodes and tables.
    """

    tables: tuple[TableTriggers, ...]
    notices: tuple[str, ...] = ()


def load_blueprints(paths: Iterable[Path]) -> Blueprint:
    """Read blueprint files.

    Args:
        paths: Files that end in .json, .yaml, .yml or .toml.

    Raises:
        BlueprintError: A file cannot be read, a node is invalid, or a table occurs twice. The message names the
            file, the table, the node and the parameter.
    """
    tables: dict[str, TableTriggers] = {}
    notices: list[str] = []
    for path in paths:
        for entry in _table_entries(read_document(path), path):
            table = _parse_table(entry, str(path), notices)
            if table is None:
                continue
            if table.label in tables:
                raise BlueprintError(f"{path}: table {table.label} occurs twice: merge its nodes into one entry")
            tables[table.label] = table
    return Blueprint(tuple(tables.values()), tuple(notices))


def parse_node(data: object, location: str) -> DataJobTrigger:
    """Parse the ``data`` of a node.

    Raises:
        BlueprintError: A parameter is missing, unknown or invalid.
    """
    task = data.get("task_identifier") or data.get("signal") if isinstance(data, dict) else None
    prefix = f"{location} {printable(task)}" if isinstance(task, str) and task else location
    try:
        return DataJobTrigger.model_validate(data)
    except ValidationError as error:
        raise BlueprintError(f"{prefix}: {_first_error(error)}") from None


def _table_entries(document: object, path: Path) -> list[Any]:
    if isinstance(document, dict):
        document = document.get("tables", [document])
    if not isinstance(document, list):
        raise BlueprintError(f"{path}: a blueprint must be {_DOCUMENT_SHAPES}, not {type(document).__name__}")
    return document


def _parse_table(entry: object, path: str, notices: list[str]) -> TableTriggers | None:
    if not isinstance(entry, dict):
        raise BlueprintError(f"{path}: a table must be an object with table_name and nodes, not {entry!r:.40}")
    if "table_name" not in entry and "module" in entry:
        notices.append(f"{path}: ignored a table of a platform module: name it by table_name")
        return None
    name = _parse_name(entry, "table_name", path)
    schema = _parse_schema(entry, path)
    label = qualified_label(schema, name)
    nodes = entry.get("nodes")
    if not isinstance(nodes, list):
        raise BlueprintError(f"{path}: table {label}: nodes must be a list; [] removes the table's triggers")
    triggers: list[DataJobTrigger] = []
    ignored: Counter[str] = Counter()
    for index, node in enumerate(nodes):
        location = f"{path}: table {label}, nodes[{index}]"
        node_type = _node_type(node, location)
        if node_type in NODE_TYPES:
            triggers.append(parse_node(_node_data(node, location), f"{location} {node_type}"))
        else:
            ignored[node_type] += 1
    if ignored:
        names = ", ".join(printable(name) + (f" (x{count})" if count > 1 else "") for name, count in ignored.items())
        notices.append(f"{path}: table {label}: ignored nodes of other types: {names}")
    return TableTriggers(name, tuple(triggers), schema, _parse_fields(entry), _primary_key(nodes))


def _parse_fields(entry: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the names and types of the table's fields, which belong to the platform: others are ignored."""
    fields = entry.get("fields")
    pairs = [(field.get("name"), field.get("type")) for field in fields if isinstance(field, dict)] if fields else []
    return tuple((name, kind) for name, kind in pairs if isinstance(name, str) and isinstance(kind, str))


def _primary_key(nodes: Sequence[Any]) -> str | None:
    for node in nodes:
        if node == DATA_ID_NODE:
            return "id"
        if isinstance(node, dict) and node.get("$type") == DATA_ID_NODE:
            data = node.get("data")
            name = data.get("field_name") if isinstance(data, dict) else None
            return name if isinstance(name, str) else "id"
    return None


def _parse_schema(entry: dict[str, Any], path: str) -> str:
    """Return ``schema``, or ``schema_name`` as the platform's blueprints call it."""
    names = {_parse_name(entry, key, path) for key in ("schema", "schema_name") if entry.get(key) is not None}
    if len(names) > 1:
        raise BlueprintError(f"{path}: table {entry['table_name']}: schema and schema_name differ: remove one")
    return next(iter(names), DEFAULT_SCHEMA)


def _parse_name(entry: dict[str, Any], key: str, path: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str):
        raise BlueprintError(f"{path}: {key} must be a string, not {value!r:.40}")
    problem = name_problem(value)
    if problem is not None:
        raise BlueprintError(f"{path}: {key} {printable(value)!r}: {problem}")
    return value


def _node_type(node: object, location: str) -> str:
    node_type = node.get("$type") if isinstance(node, dict) else node
    if not isinstance(node_type, str):
        raise BlueprintError(
            f'{location}: a node must be {{"$type": "DataJobTrigger", "data": {{...}}}}, not {node!r:.40}'
        )
    return node_type


def _node_data(node: object, location: str) -> object:
    if not isinstance(node, dict):
        return {}
    unexpected = [key for key in node if key not in {"$type", "data"}]
    if unexpected:
        raise BlueprintError(f"{location}: {printable(unexpected[0])} is not allowed beside $type: move it into data")
    data = node.get("data")
    if data is not None and not isinstance(data, dict):
        raise BlueprintError(f"{location}: data must be an object of parameters, not {data!r:.40}")
    return data or {}


def _first_error(error: ValidationError) -> str:
    """Format the first validation error in one line: the parameter and the problem."""
    first = error.errors(include_url=False, include_context=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    path = [str(part) for part in first["loc"]]
    if not path:
        return message
    parameter = path[0]
    prefix = "" if len(path) == 1 else f"{parameter}: "
    if first["type"] == "extra_forbidden":
        nested = EntityLookup if parameter == "entity_lookup" else Comparison
        known = (DataJobTrigger if len(path) == 1 else nested).model_fields
        return f"{prefix}unknown parameter {printable(path[-1])}{suggest(path[-1], known)}"
    if first["type"] == "missing":
        return f"{prefix}{path[-1]} is missing"
    if first["type"] != "value_error":  # pydantic's own messages start with a capital letter
        message = message[0].lower() + message[1:]
    value = first["input"]
    actual = f", not {value!r:.60}" if "should" in message and isinstance(value, (str, int, float, bool)) else ""
    inner = [part for part in path[1:] if not part.isdecimal() and part not in CONDITION_TAGS]
    return f"{': '.join([parameter, *inner[-1:]])}: {message}{actual}"
