"""``jobfn dev --blueprint``: apply the triggers of blueprint files at start and when a file is saved.

A blueprint that does not fit the database, because its table does not exist yet for instance, is logged. The next save
tries again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from jobfn.database.connection import connect
from jobfn.devserver.reload import watch_files, watch_python_files
from jobfn.errors import JobfnError
from jobfn.telemetry import logs
from jobfn.triggers.blueprint import load_blueprints
from jobfn.triggers.diff import Action
from jobfn.triggers.plan import Plan, apply_triggers
from jobfn.worker.settings import ServiceSettings


async def apply_blueprints(paths: Sequence[Path], settings: ServiceSettings) -> None:
    """Apply blueprint files and log the result. Errors are logged, not raised."""
    if not paths:
        return
    log = logs.get_logger("jobfn.dev")
    try:
        blueprint = load_blueprints(paths)
        connection = await connect(settings.database_url, application_name="jobfn-dev")
        try:
            plan = await apply_triggers(connection, blueprint.tables, jobs_schema=settings.schema_name)
        finally:
            await connection.close()
    except JobfnError as error:
        log.error("triggers not applied; save the blueprint to try again", reason=str(error))
        return
    for notice in (*blueprint.notices, *plan.notices):
        log.warning(notice)
    log.info("triggers applied", **_counts(plan))


async def watch_blueprints(paths: Sequence[Path], folder: Path, settings: ServiceSettings) -> None:
    """Apply blueprint files when one of them or a Python file is saved, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for changes in (watch_files(paths), watch_python_files(folder)):
            group.create_task(_apply_on_change(changes, paths, settings))


async def _apply_on_change(changes: AsyncIterator[set[Path]], paths: Sequence[Path], settings: ServiceSettings) -> None:
    async for _ in changes:
        await apply_blueprints(paths, settings)


def _counts(plan: Plan) -> dict[str, int]:
    counts = Counter(change.action for change in plan.changes)
    labels = {Action.CREATE: "created", Action.CHANGE: "changed", Action.DROP: "dropped", Action.KEEP: "unchanged"}
    return {label: counts[action] for action, label in labels.items() if counts[action]}
