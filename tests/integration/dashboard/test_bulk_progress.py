"""Actions on all matching jobs run in the background: a page shows their progress, and can be left."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from jobfn.dashboard.bulk import MAX_RUNNING, MAX_SHOWN, BulkAction, BulkActions
from jobfn.dashboard.live import LivePages
from jobfn.dashboard.render import Pages
from jobfn.dashboard.settings import DashboardSettings
from jobfn.errors import ConfigurationError
from jobfn.operations import Action, ActionResult
from support.dashboard import Site
from support.jobs import Jobs
from support.network import eventually

FORM = {"action": "cancel", "scope": "matching", "filter": "task=mail", "back": "/jobs?task=mail", "reason": "closed"}


@contextlib.asynccontextmanager
async def locked(database: str, job: int) -> AsyncIterator[None]:
    """Hold the lock of a job's row, at which an action waits."""
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():
            await connection.execute("select from app_jobs.jobs where id = $1 for update", job)
            yield
    finally:
        await connection.close()


async def add_many(jobs: Jobs, count: int) -> int:
    """Add jobs, and return the id of the first one, which a bulk action handles last."""
    ids: list[int] = await jobs.connection.fetchval(
        "select app_jobs.add_jobs('mail', (select array_agg('{}'::json) from generate_series(1, $1)))", count
    )
    return ids[0]


async def until_shown(dashboard: Site, path: str, text: str) -> None:
    async def is_shown() -> bool:
        return text in (await dashboard.get(path)).text

    await eventually(is_shown, seconds=30)


async def test_long_action_shows_its_progress_and_goes_on(dashboard: Site, jobs: Jobs, database: str) -> None:
    first = await add_many(jobs, 1200)
    async with locked(database, first):
        response = await dashboard.post("/jobs/apply", FORM)
        assert (response.status_code, response.headers["Location"]) == (303, "/jobs/bulk/1")
        await until_shown(dashboard, "/jobs/bulk/1", "Cancelled: 1,000 of 1,200 jobs")
        assert '<progress max="1200" value="1000"' in (await dashboard.get("/jobs/bulk/1")).text
        # Finished batches are committed, and their rows are not locked.
        cancelled = "select count(*) from app_jobs.jobs where ended_as = 'cancelled'"
        assert await jobs.connection.fetchval(cancelled) == 1000
    await until_shown(dashboard, "/jobs/bulk/1", "Cancelled: 1,200 jobs")
    assert await jobs.connection.fetchval(cancelled) == 1200


async def test_long_action_is_stopped_after_its_transaction(dashboard: Site, jobs: Jobs, database: str) -> None:
    first = await add_many(jobs, 1200)
    async with locked(database, first + 500):  # in the second batch
        assert (await dashboard.post("/jobs/apply", FORM)).status_code == 303
        response = await dashboard.post("/jobs/bulk/1/stop", {})
        assert "ends after the current transaction" in response.text
        await until_shown(dashboard, "/jobs/bulk/1", "Cancelled: 500 of 1,200 jobs, stopping")
    await until_shown(dashboard, "/jobs/bulk/1", "Cancelled: 1,000 jobs, then it was stopped")


async def test_failure_is_shown(dashboard: Site, jobs: Jobs, database: str) -> None:
    first = await add_many(jobs, 3)
    async with locked(database, first):
        assert (await dashboard.post("/jobs/apply", FORM)).status_code == 303
        await jobs.connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock' and pid <> $1",
            jobs.connection.get_server_pid(),
        )
        await until_shown(dashboard, "/jobs/bulk/1", "then it failed")


async def test_unknown_action_names_the_audit_list(dashboard: Site) -> None:
    for response in (await dashboard.get("/jobs/bulk/7"), await dashboard.post("/jobs/bulk/7/stop", {})):
        assert (response.status_code, "audit list" in response.text) == (410, True)


async def test_number_of_actions_is_limited() -> None:
    pages = Pages(DashboardSettings(port=0), database_label="test")
    live: Any = LivePages(pages, None, refresh_seconds=1.0, stream_seconds=1.0)  # type: ignore[arg-type]
    bulk_actions = BulkActions(pages, live, grace_seconds=0.01)
    released = asyncio.Event()

    async def work(_action: BulkAction) -> ActionResult:
        await released.wait()
        return ActionResult(Action.RETRY, done=1)

    started = [(await bulk_actions.start("Retried", "/", work))[1] for _ in range(MAX_RUNNING)]
    with pytest.raises(ConfigurationError, match="5 bulk actions are running already"):
        await bulk_actions.start("Retried", "/", work)
    assert [action.is_running for action in started] == [True] * 5
    released.set()
    await asyncio.gather(*(action.task for action in started if action.task is not None))
    for _ in range(MAX_SHOWN):
        _, action = await bulk_actions.start("Retried", "/", work)
        assert action.outcome().done == 1

    async def show(number: int) -> bool:
        try:
            await bulk_actions.show(Request({"type": "http", "path_params": {"number": number}}))
        except HTTPException:
            return False
        return True

    assert [await show(number) for number in (5, 6, 55)] == [False, True, True]
    assert not bulk_actions.should_stop(action)
    live.close()
    assert bulk_actions.should_stop(action)
