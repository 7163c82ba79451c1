"""Handlers that fork, and leave a child behind."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from support.commands import RunningCommand, Spawn
from support.network import LOOPBACK, free_port

FUNCTIONS = """\
import os, signal
from jobfn import task

@task("fork")
async def fork(payload: None) -> int:
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for output in (1, 2):  # which the test reads to their end
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
        signal.pause()
        os._exit(0)
    return child
"""
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")


@pytest.fixture
async def forked(spawn: Spawn, tmp_path: Path) -> AsyncIterator[tuple[RunningCommand, int, httpx.AsyncClient]]:
    """A function whose handler has forked, its port, and the client whose connection is still open."""
    (tmp_path / "functions.py").write_text(FUNCTIONS)
    port = free_port()
    process = await spawn("python", "-m", "jobfn.function", "functions.py", "--host", LOOPBACK, PORT=str(port))
    await process.until("serving")
    async with httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", trust_env=False, timeout=20) as client:
        child = (await client.post("/fork", json=None)).json()
        try:
            yield process, port, client
        finally:
            os.kill(child, signal.SIGKILL)


async def test_function_can_be_restarted_while_a_forked_child_lives(
    forked: tuple[RunningCommand, int, httpx.AsyncClient], spawn: Spawn
) -> None:
    process, port, client = forked
    process.process.send_signal(signal.SIGKILL)
    await process.process.wait()
    again = await spawn("python", "-m", "jobfn.function", "functions.py", "--host", LOOPBACK, PORT=str(port))
    await again.until("serving")
    assert (await client.get("/healthz")).status_code == 200, "the connection to the dead process was closed"


async def test_function_goes_on_after_a_fork(forked: tuple[RunningCommand, int, httpx.AsyncClient]) -> None:
    _, port, client = forked
    assert (await client.get("/healthz")).status_code == 200
    async with httpx.AsyncClient(trust_env=False) as other:
        assert (await other.get(f"http://{LOOPBACK}:{port}/healthz")).status_code == 200
