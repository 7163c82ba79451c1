"""Sync the schedules and the options of the tasks in the code of ``jobfn dev``.

The function app lists them. Only its process imports the user's code, so a broken file affects nothing else.
"""

import json
from typing import Any

import asyncpg
import httpx
from pydantic import BaseModel, ValidationError

from jobfn.database.connection import CONNECTION_ERRORS, connect
from jobfn.errors import DatabaseError, JobfnError, SchemaError
from jobfn.operations import task_settings
from jobfn.operations.actor import Source, acting, os_actor
from jobfn.operations.statements import translate_errors
from jobfn.scheduler.sync import Change, CodeTask, sync
from jobfn.task_defaults import NO_DEFAULTS, TaskDefaults
from jobfn.telemetry import logs


class _TaskEntry(BaseModel):
    identifier: str
    schedule: dict[str, Any] | None = None
    schedule_payload: Any = None
    defaults: TaskDefaults = NO_DEFAULTS


class _Index(BaseModel):
    """Response of ``GET /`` of a function app."""

    tasks: list[_TaskEntry]


async def sync_schedules(function_url: str, *, target: str, database_url: str | None, schema: str, prune: bool) -> None:
    """Sync schedules and options of a function app's tasks. Prune: remove those of other files too.

    While the app starts, the request waits in its socket.
    """
    log = logs.get_logger("jobfn.dev")
    index = await _fetch_index(function_url)
    if index is None:
        return
    tasks = [
        CodeTask(task.identifier, target, task.schedule, json.dumps(task.schedule_payload or {}))
        for task in index.tasks
    ]
    try:
        connection = await connect(database_url, application_name="jobfn-dev")
        try:
            async with acting(connection, os_actor(Source.CLI)):
                changes = await sync(connection, schema, tasks, prune=prune)
                await _sync_options(connection, schema, index, target=target, prune=prune)
        finally:
            await connection.close()
    except (JobfnError, *CONNECTION_ERRORS) as error:
        log.error("schedules not synced", error=str(error))
        return
    for change, task in changes:
        if change is not Change.UNCHANGED:
            log.info("schedule synced", change=change.value, task=task)


async def _sync_options(
    connection: "asyncpg.Connection[Any]", schema: str, index: _Index, *, target: str, prune: bool
) -> None:
    log = logs.get_logger("jobfn.dev")
    tasks = [task_settings.DeclaredTask(task.identifier, target, task.defaults) for task in index.tasks]
    try:
        with translate_errors(schema):
            changes = await task_settings.sync(connection, schema, tasks, prune=prune)
    except SchemaError:  # the platform's schema has no settings of tasks
        return
    except DatabaseError as error:
        log.error("options of tasks not synced", error=str(error))
        return
    for change in changes:
        if change.change is not task_settings.Change.UNCHANGED:
            log.info("options of task synced", change=change.change.value, task=change.task)


async def _fetch_index(function_url: str) -> _Index | None:
    """Return the app's list of tasks; None if the app ended, or is not jobfn's own."""
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:  # noqa: S113  - the next save cancels it
        try:
            response = await client.get(f"{function_url}/")
            return _Index.model_validate_json(response.content)
        except (httpx.TransportError, ValidationError):
            return None
