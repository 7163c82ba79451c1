"""What tasks are, take and give, as plain data. Pure.

Single tasks for a function's own page and for ``listing.py``; all of them, for callers in other languages, as JSON
Schema or an OpenAPI 3.1 document: ``jobfn schema functions.py`` prints it, generators of TypeScript types read it.
"""

import typing
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from jobfn.function.execution import AnyTask
from jobfn.wire import task_url

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANYTHING: dict[str, Any] = {}


def describe_public(task: AnyTask) -> dict[str, Any]:
    """What a function's page tells everybody of a task."""
    told = {"identifier": task.identifier, "description": task.summary, "payload": task.payload_schema()}
    return told if task.schedule_info is None else told | {"schedule": task.schedule_info}


def facts(task: AnyTask) -> dict[str, Any]:
    """That, and what its own project wants to know: where the task stands, and what limits it."""
    return {
        **describe_public(task),
        "location": task.location,
        "timeout_seconds": task.timeout,
        "background": task.background,
        "schedule": task.schedule_info,
    }


def json_schema(tasks: Iterable[AnyTask]) -> dict[str, Any]:
    """One JSON Schema for all tasks: an object with a property for each, which is its payload.

    A generator of types makes ``Payloads["process_invoice"]`` of it. The models that they share stand in ``$defs``.
    """
    known = list(tasks)
    schemas, definitions = _schemas(known, ref_template="#/$defs/{model}")
    document: dict[str, Any] = {
        "$schema": DIALECT,
        "title": "Payloads",
        "description": "What each task takes, by its identifier",
        "type": "object",
        "properties": {task.identifier: _described(task, schemas[task.identifier, "payload"]) for task in known},
        "additionalProperties": False,
    }
    return document | ({"$defs": definitions} if definitions else {})


def openapi(tasks: Iterable[AnyTask], *, title: str, version: str) -> dict[str, Any]:
    """An OpenAPI 3.1 document: one POST for each task, with its payload, its result, and how a failure looks.

    Args:
        tasks: Which.
        title: Of the document.
        version: Of the document.
    """
    known = list(tasks)
    schemas, definitions = _schemas(known, ref_template="#/components/schemas/{model}")
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {"title": title, "version": version},
        "paths": {
            task_url("", task.identifier): {
                "post": {
                    "operationId": task.identifier,
                    "summary": task.summary,
                    "requestBody": {
                        "required": task.takes_payload,
                        "content": _json(schemas[task.identifier, "payload"]),
                    },
                    "responses": _responses(task, schemas[task.identifier, "result"]),
                }
            }
            for task in known
        },
        "components": {"schemas": {**definitions, "JobFailure": _FAILURE}},
    }


_FAILURE = {
    "title": "JobFailure",
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {"type": "string", "description": "Why the job failed"},
        "permanent": {"type": "boolean", "description": "Whether it is not to be tried again"},
        "retryAfterSeconds": {"type": "number", "description": "When it is to be tried again"},
        "details": {
            "type": "array",
            "description": "Where the payload does not fit",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
                "required": ["field", "problem"],
            },
        },
    },
}


def _responses(task: AnyTask, result: dict[str, Any]) -> dict[str, Any]:
    failed = {"description": "The job failed", "content": _json({"$ref": "#/components/schemas/JobFailure"})}
    if task.background:
        return {"202": {"description": "Accepted; the report says how it ended"}, "default": failed}
    return {"200": {"description": "The handler's result", "content": _json(result)}, "default": failed}


def _schemas(
    tasks: list[AnyTask], *, ref_template: str
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """The schemas of payloads and results, and the definitions that they refer to."""
    inputs: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = []
    plain: dict[tuple[str, str], dict[str, Any]] = {}
    for task in tasks:
        for part, mode, adapter in (
            ("payload", "validation", task.payload_adapter),
            ("result", "serialization", _result_adapter(task)),
        ):
            name = (task.identifier, part)
            if adapter is None:
                plain[name] = {"type": "null"} if part == "payload" else _ANYTHING
            elif not _can_be_described(adapter, mode):
                plain[name] = _ANYTHING
            else:
                inputs.append((name, mode, adapter))
    found, definitions = TypeAdapter.json_schemas(inputs, by_alias=True, ref_template=ref_template)
    schemas = {name: dict(schema) for (name, _mode), schema in found.items()}
    return plain | schemas, definitions.get("$defs", {})


def _can_be_described(adapter: TypeAdapter[Any], mode: Any) -> bool:
    try:
        adapter.json_schema(mode=mode)
    except PydanticUserError:  # a validator of Python's own types, which no schema can describe
        return False
    return True


def _result_adapter(task: AnyTask) -> TypeAdapter[Any] | None:
    """Of what the handler says that it returns; None where it says nothing that can be read."""
    try:
        annotation = typing.get_type_hints(task.handler, include_extras=True).get("return", Any)
        return None if annotation is Any else TypeAdapter(annotation)
    except Exception:  # noqa: BLE001  - an annotation may hold anything; nothing depends on it
        return None


def _described(task: AnyTask, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": task.summary, **schema} if task.summary and "description" not in schema else schema


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
