"""``handler.json``: the platform's description of one function. Pure, except for ``HandlerJson.read``.

``jobfn init --handler-json`` and ``jobfn serve FOLDER`` read it; ``function/handler_manifest.py`` writes it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from jobfn.errors import LoadError
from jobfn.settings import Requirement

FILE_NAME: Final = "handler.json"
_PORT_TYPES: Final = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean"}


class HandlerJson(BaseModel):
    """The fields that jobfn reads. Others are kept.

    Attributes:
        task_identifier: Default: the name.
        payload_schema: JSON Schema of the payload; empty if the file has none.
        outputs: The ports of the result, each with a ``name``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = Field(min_length=1)
    task_identifier: str | None = Field(default=None, alias="taskIdentifier", min_length=1)
    description: str = ""
    required_secrets: list[Requirement] = Field(default_factory=list, alias="requiredSecrets")
    required_configs: list[Requirement] = Field(default_factory=list, alias="requiredConfigs")
    payload_schema: dict[str, Any] = Field(default_factory=dict, alias="payloadSchema")
    outputs: list[dict[str, Any]] = Field(default_factory=list)

    @property
    def task(self) -> str:
        """The task identifier."""
        return self.task_identifier or self.name

    @classmethod
    def read(cls, path: Path) -> "HandlerJson":
        """Read a file.

        Raises:
            LoadError: The file is missing, is not JSON, or lacks a field.
        """
        try:
            return cls.model_validate(read_object(path))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise LoadError(f"{path}: {field}: {first['msg']}: correct the field") from None


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file.

    Raises:
        LoadError: The file is missing or has no JSON object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise LoadError(f"{path} must be a JSON object with name, version and taskIdentifier")
    return content


def ports(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one port for each property of an object's schema; none for other schemas."""
    definitions = schema.get("$defs", {})
    root = _resolve(schema, definitions)
    required = root.get("required", ())
    found = []
    for name, declared in root.get("properties", {}).items():
        port = {"name": name, "type": _port_type(declared, definitions)}
        description = declared.get("description")
        if description:
            port["description"] = description
        if name not in required:
            port["optional"] = True
        found.append(port)
    return found


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
