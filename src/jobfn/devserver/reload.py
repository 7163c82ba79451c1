"""Run the function app as a child process, and restart it when a file is saved.

The parent owns the listening socket: requests wait in it while a child ends and the next one starts.
"""

import asyncio
import contextlib
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Collection
from pathlib import Path

from jobfn.telemetry import logs

SHUTDOWN_TIMEOUT_SECONDS = 10.0


class FunctionProcess:
    """``python -m jobfn.function TARGET`` on an inherited socket."""

    def __init__(self, target: str, listener: socket.socket) -> None:
        self._target = target
        self._listener = listener
        self._process: Process | None = None
        self._log = logs.get_logger("jobfn.dev")

    async def start(self) -> None:
        """Start the child. It ends when this process does, even by SIGKILL, because its standard input closes.

        It has its own session, so that Ctrl-C in a terminal reaches the parent only, which drains running jobs first.
        A child that is still importing would end at once, and the jobs waiting in its socket with it.
        """
        fd = self._listener.fileno()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "jobfn.function", self._target, "--listener-fd", str(fd), "--until-stdin-closes"),
            stdin=PIPE,
            pass_fds=(fd,),
            start_new_session=True,  # uvloop does not support process_group
        )

    async def stop(self) -> None:
        """Let the child finish running jobs, then end it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_SECONDS):
                await process.wait()
        except TimeoutError:
            self._log.warning("function app did not stop in time, killing it", seconds=SHUTDOWN_TIMEOUT_SECONDS)
            process.kill()
            await process.wait()

    async def restart(self) -> None:
        """Stop the child and start it with the current code."""
        await self.stop()
        await self.start()

    async def wait(self) -> int:
        """Wait until the current child ends and return its exit code."""
        if self._process is None:
            raise RuntimeError("start() must be called first")
        return await self._process.wait()


async def watch_python_files(folder: Path) -> AsyncIterator[set[Path]]:
    """Yield the Python files of a folder that changed, on each change."""
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415  - only for reload

    async for changes in awatch(folder, watch_filter=PythonFilter(), debounce=200, step=50):
        yield {Path(path) for _, path in changes}


async def watch_files(files: Collection[Path]) -> AsyncIterator[set[Path]]:
    """Yield those of the files that changed, on each change. Watches their folders, since editors replace files."""
    from watchfiles import awatch  # noqa: PLC0415  - only for reload

    watched = {file.resolve() for file in files}
    folders = {file.parent for file in watched}
    async for changes in awatch(
        *folders, watch_filter=lambda _, path: Path(path) in watched, debounce=200, step=50, recursive=False
    ):
        yield {Path(path) for _, path in changes}
