"""Write ``handler.json``, the platform's description of a function, from a task. Pure.

Input and output ports are the fields of the payload and of the result. Fields of an existing file that a task does not
determine, such as ``version``, ``port``, ``icon`` and ``category``, are kept.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jobfn.function.describe import result_schema
from jobfn.function.execution import AnyTask
from jobfn.settings import Requirement
from jobfn.wire.dns_names import dns_name

#: Order of the fields. Others follow.
_ORDER: Final = (
    "name",
    "version",
    "type",
    "port",
    "taskIdentifier",
    "scope",
    "description",
    "requiredSecrets",
    "requiredConfigs",
    "payloadSchema",
    "inputs",
    "outputs",
)
_PORT_TYPES: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}


def handler_manifest(task: AnyTask, existing: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the content of a task's ``handler.json``.

    Args:
        task: The task.
        existing: The present content.
    """
    existing = existing or {}
    schema = task.payload_schema()
    fields: dict[str, Any] = {
        "name": dns_name(task.identifier),
        "version": "0.1.0",
        "type": "python",
        "scope": "platform",
        **existing,
        "taskIdentifier": task.identifier,
        "requiredSecrets": _requirements(task.secrets, existing.get("requiredSecrets")),
        "requiredConfigs": _requirements(task.configs, existing.get("requiredConfigs")),
    }
    if task.summary:
        fields["description"] = task.summary
    inputs, outputs = _ports(schema), _ports(result_schema(task))
    if inputs or "payloadSchema" not in existing:
        fields["payloadSchema"] = schema
    if inputs:
        fields["inputs"] = inputs
    if outputs:
        fields["outputs"] = outputs
    return {name: fields[name] for name in dict.fromkeys((*_ORDER, *fields)) if name in fields}


def _requirements(declared: Iterable[Requirement], existing: object) -> list[dict[str, Any]]:
    """Return the declared variables, each with the fields that it has in the existing file."""
    entries = existing if isinstance(existing, list) else []
    present = {entry.get("name"): entry for entry in entries if isinstance(entry, dict)}
    return [
        {**present.get(requirement.name, {}), "name": requirement.name, "required": requirement.required}
        for requirement in declared
    ]


def _ports(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one port for each property of an object's schema; none for other schemas."""
    definitions = schema.get("$defs", {})
    root = _resolve(schema, definitions)
    required = root.get("required", ())
    ports = []
    for name, declared in root.get("properties", {}).items():
        port = {"name": name, "type": _port_type(declared, definitions)}
        description = declared.get("description")
        if description:
            port["description"] = description
        if name not in required:
            port["optional"] = True
        ports.append(port)
    return ports


def _port_type(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return ``string``, ``number`` or ``boolean``, or else ``json``, which accepts every value."""
    schema = _resolve(schema, definitions)
    choices = [_port_type(choice, definitions) for choice in schema.get("anyOf", ()) if choice.get("type") != "null"]
    if choices:
        return choices[0] if len(set(choices)) == 1 else "json"
    declared = schema.get("type")
    return _PORT_TYPES.get(declared, "json") if isinstance(declared, str) else "json"


def _resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    resolved: Mapping[str, Any] = definitions.get(name, schema)
    return resolved
