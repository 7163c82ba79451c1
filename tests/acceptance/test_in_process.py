"""``jobfn service --local``: tasks run in the worker's process."""

import signal
from pathlib import Path
from textwrap import dedent

import pytest

from support.commands import Command, Spawn
from support.jobs import Jobs

FUNCTIONS = dedent(
    """
    from jobfn import task

    @task("hello")
    async def hello(payload: dict) -> None:
        print("hello", payload["name"], flush=True)
    """
)


async def test_jobs_run_without_function_or_callback_server(
    jobs: Jobs, database: str, spawn: Spawn, tmp_path: Path
) -> None:
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    service = await spawn("jobfn", "service", "--local", "functions.py", DATABASE_URL=database)
    await jobs.until_gone(await jobs.add("hello", {"name": "ada"}), seconds=30)
    await service.until("hello ada")
    service.send(signal.SIGTERM)
    assert await service.wait() == 0
    assert not [line for line in service.lines if "callback server started" in line]


@pytest.mark.parametrize(
    ("target", "message"), [("nowhere.py", "nowhere.py"), ("other.py:app", "is not an app of create_app")]
)
async def test_target_without_tasks_is_an_error(
    target: str, message: str, database: str, invoke: Command, tmp_path: Path
) -> None:
    (tmp_path / "other.py").write_text("from starlette.applications import Starlette\napp = Starlette()\n")
    result = await invoke("jobfn", "service", "--local", target, DATABASE_URL=database)
    assert result.code == 2
    assert message in result.output
    assert "Traceback" not in result.output
