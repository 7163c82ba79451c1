"""``jobfn dev --blueprint``: the triggers of blueprint files, applied at the start and whenever a file is saved.

A blueprint that does not fit the database, as when its table is yet to be made, stops nothing: the log says what is
wrong, and the next save tries again.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from jobfn.database.connection import connect
from jobfn.devserver.reload import files_saved, saved
from jobfn.errors import JobfnError
from jobfn.telemetry import logs
from jobfn.triggers.blueprint import load_blueprints
from jobfn.triggers.diff import Action
from jobfn.triggers.plan import Plan, apply_triggers
from jobfn.worker.settings import ServiceSettings


async def apply_blueprints(paths: Sequence[Path], settings: ServiceSettings) -> None:
    """Apply blueprint files and log what came of it. Raises nothing."""
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


async def follow_blueprints(paths: Sequence[Path], folder: Path, settings: ServiceSettings) -> None:
    """Apply them again on every save, of one of them or of a Python file, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for saves in (files_saved(paths), saved(folder)):
            group.create_task(_apply_on(saves, paths, settings))


async def _apply_on(saves: AsyncIterator[set[Path]], paths: Sequence[Path], settings: ServiceSettings) -> None:
    async for _ in saves:
        await apply_blueprints(paths, settings)


def _counts(plan: Plan) -> dict[str, int]:
    counts = Counter(change.action for change in plan.changes)
    words = {Action.CREATE: "created", Action.CHANGE: "changed", Action.DROP: "dropped", Action.KEEP: "as_before"}
    return {word: counts[action] for action, word in words.items() if counts[action]}
