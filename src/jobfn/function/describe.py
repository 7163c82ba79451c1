"""Describe tasks as plain data. Pure.

``describe_public`` is one entry of a function's index page, ``describe_task`` one of ``dump_tasks.py``. ``json_schema``
and ``openapi`` describe all payloads for callers in other languages: ``jobfn export-schema functions.py`` prints them.
"""

import json
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.errors import PydanticUserError

from jobfn.function.execution import AnyTask
from jobfn.task_defaults import NO_DEFAULTS, TaskDefaults
from jobfn.wire import task_url

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ANY_SCHEMA: dict[str, Any] = {}


def describe_public(task: AnyTask) -> dict[str, Any]:
    """Describe a task for its callers."""
    description: dict[str, Any] = {
        "identifier": task.identifier,
        "description": task.summary,
        "payload": task.payload_schema(),
    }
    if task.schedule_info is not None:
        description["schedule"] = task.schedule_info
    if task.schedule_payload is not None:
        description["schedule_payload"] = json.loads(task.schedule_payload)
    if task.retry_policy.max_attempts is not None:
        description["max_attempts"] = task.retry_policy.max_attempts
    if task.defaults != NO_DEFAULTS:
        description["defaults"] = TypeAdapter(TaskDefaults).dump_python(task.defaults, mode="json", exclude_none=True)
    return description


def describe_task(task: AnyTask) -> dict[str, Any]:
    """Describe a task for its own project: as ``describe_public``, with its location and limits."""
    limits = {"location": task.location, "timeout_seconds": task.timeout, "background": task.background}
    variables = {
        name: [{"name": variable.name, "required": variable.required} for variable in requirements]
        for name, requirements in (("secrets", task.secrets), ("configs", task.configs))
    }
    return {**describe_public(task), **limits, "schedule": task.schedule_info, **variables}


def result_schema(task: AnyTask) -> dict[str, Any]:
    """Return the JSON Schema of a task's result; ``{}`` if its annotation has none."""
    adapter = _result_adapter(task)
    if adapter is None or not _has_schema(adapter, "serialization"):
        return {}
    return adapter.json_schema(by_alias=True, mode="serialization")


def json_schema(tasks: Iterable[AnyTask]) -> dict[str, Any]:
    """Return one JSON Schema for all tasks: an object with one property per task, which is its payload.

    A type generator turns it into ``Payloads["process_invoice"]``. Shared models are in ``$defs``.
    """
    tasks = list(tasks)
    schemas, definitions = _schemas(tasks, ref_template="#/$defs/{model}")
    document: dict[str, Any] = {
        "$schema": DIALECT,
        "title": "Payloads",
        "description": "The payload of each task, by identifier",
        "type": "object",
        "properties": {task.identifier: _with_description(task, schemas[task.identifier, "payload"]) for task in tasks},
        "required": [task.identifier for task in tasks],
        "additionalProperties": False,
    }
    return document | ({"$defs": definitions} if definitions else {})


def openapi(tasks: Iterable[AnyTask], *, title: str, version: str) -> dict[str, Any]:
    """Return an OpenAPI 3.1 document: one POST per task, with its payload, its result and its failure."""
    tasks = list(tasks)
    schemas, definitions = _schemas(tasks, ref_template="#/components/schemas/{model}")
    paths: dict[str, Any] = {}
    path_items: dict[str, Any] = {}
    for task in tasks:
        path = task_url("", task.identifier)
        item: dict[str, Any] = {"post": _operation(task, schemas)}
        if "%" in task.identifier:  # openapi-typescript decodes inline paths repeatedly, which fails at "%"
            name = f"task_{len(path_items) + 1}"
            path_items[name], item = item, {"$ref": f"#/components/pathItems/{name}"}
        else:
            item["post"]["operationId"] = task.identifier
        paths[path] = item
    components = {"schemas": {**definitions, "JobFailure": _FAILURE_SCHEMA}}
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": DIALECT,
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": components | ({"pathItems": path_items} if path_items else {}),
    }


_FAILURE_SCHEMA = {
    "title": "JobFailure",
    "type": "object",
    "required": ["message"],
    "properties": {
        "message": {"type": "string", "description": "Why the job failed"},
        "permanent": {"type": "boolean", "description": "Whether the job must not be retried"},
        "retryAfterSeconds": {"type": "number", "description": "Delay before the next attempt"},
        "traceback": {"type": "string", "description": "The lines of code that failed (JOBFN_TRACEBACKS)"},
        "details": {
            "type": "array",
            "description": "The payload's validation errors",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
                "required": ["field", "problem"],
            },
        },
    },
}


def _operation(task: AnyTask, schemas: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    return {
        "summary": task.summary,
        "requestBody": {
            "required": task.takes_payload,
            "content": _json_content(schemas[task.identifier, "payload"]),
        },
        "responses": _responses(task, schemas[task.identifier, "result"]),
    }


def _responses(task: AnyTask, result: dict[str, Any]) -> dict[str, Any]:
    failure = {"description": "The job failed", "content": _json_content({"$ref": "#/components/schemas/JobFailure"})}
    if task.background:
        return {"202": {"description": "Accepted; the outcome is reported later"}, "default": failure}
    return {"200": {"description": "The handler's result", "content": _json_content(result)}, "default": failure}


def _schemas(
    tasks: list[AnyTask], *, ref_template: str
) -> tuple[dict[tuple[str, str], dict[str, Any]], dict[str, Any]]:
    """Return the schemas of payloads and results by identifier and part, and the shared definitions."""
    inputs: list[tuple[tuple[str, str], Any, TypeAdapter[Any]]] = []
    schemas: dict[tuple[str, str], dict[str, Any]] = {}
    for task in tasks:
        for part, mode, adapter in (
            ("payload", "validation", task.payload_adapter),
            ("result", "serialization", _result_adapter(task)),
        ):
            key = (task.identifier, part)
            if adapter is None:
                schemas[key] = {"type": "null"} if part == "payload" else _ANY_SCHEMA
            elif not _has_schema(adapter, mode):
                schemas[key] = _ANY_SCHEMA
            else:
                inputs.append((key, mode, adapter))
    generated, definitions = TypeAdapter.json_schemas(inputs, by_alias=True, ref_template=ref_template)
    schemas |= {key: dict(schema) for (key, _mode), schema in generated.items()}
    return schemas, definitions.get("$defs", {})


def _has_schema(adapter: TypeAdapter[Any], mode: Any) -> bool:
    try:
        adapter.json_schema(mode=mode)
    except PydanticUserError:  # a custom validator without a JSON Schema
        return False
    return True


def _result_adapter(task: AnyTask) -> TypeAdapter[Any] | None:
    """Return an adapter of the handler's return annotation; None if it has none that pydantic can read."""
    try:
        annotation = typing.get_type_hints(task.handler, include_extras=True).get("return", Any)
        return None if annotation is Any else TypeAdapter(annotation)
    except Exception:  # noqa: BLE001  - an annotation may hold anything; the document works without it
        return None


def _with_description(task: AnyTask, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": task.summary, **schema} if task.summary and "description" not in schema else schema


def _json_content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
