"""``jobfn dev`` and the schedules in the code: asked of the function app, brought into the database.

The user's code is imported by the function's process alone, so a save is seen and a broken file breaks nothing here.
"""

from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from jobfn.database.connection import CONNECTION_LOST, connect
from jobfn.errors import JobfnError
from jobfn.scheduler.sync import Change, CodeTask, sync
from jobfn.telemetry import logs


class _Listed(BaseModel):
    identifier: str
    schedule: dict[str, Any] | None = None


class _Index(BaseModel):
    """What ``GET /`` of a function app says of its tasks."""

    tasks: list[_Listed]


async def sync_schedules(function_url: str, *, target: str, database_url: str | None, schema: str, prune: bool) -> None:
    """Bring the schedules of a function app's tasks into the database; say in the log what changed.

    Args:
        function_url: Where the app answers, or will: the request waits in its socket while it starts.
        target: The user's file, for errors.
        database_url: The database; None where ``PG*`` name it.
        schema: The jobs schema.
        prune: Whether what came from other files may be removed: where this app is all there is.
    """
    log = logs.get_logger("jobfn.dev")
    index = await _index_of(function_url)
    if index is None:
        return
    tasks = [CodeTask(task.identifier, target, task.schedule) for task in index.tasks]
    try:
        connection = await connect(database_url, application_name="jobfn-dev")
        try:
            changes = await sync(connection, schema, tasks, prune=prune)
        finally:
            await connection.close()
    except (JobfnError, *CONNECTION_LOST) as error:
        log.error("schedules not brought into the database", error=str(error))
        return
    for change, task in changes:
        if change is not Change.UNCHANGED:
            log.info("schedule from code", change=change.value, task=task)


async def _index_of(function_url: str) -> _Index | None:
    """The app's list of tasks; None where it ends without an answer, or is an app of the user's with a page there."""
    async with httpx.AsyncClient(timeout=None, trust_env=False) as client:  # noqa: S113  - a save cancels it
        try:
            answer = await client.get(f"{function_url}/")
            return _Index.model_validate_json(answer.content)
        except (httpx.TransportError, ValidationError):
            return None
