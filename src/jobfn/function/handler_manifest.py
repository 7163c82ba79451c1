"""Write ``handler.json``, the platform's description of a function, from a task. Pure.

Input and output ports are the fields of the payload and of the result. Fields of an existing file that a task does not
determine, such as ``version``, ``port``, ``icon`` and ``category``, are kept.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from jobfn.function.describe import result_schema
from jobfn.function.execution import AnyTask
from jobfn.handler_json import ports
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
    inputs, outputs = ports(schema), ports(result_schema(task))
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
