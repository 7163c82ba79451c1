"""The function app as a child process, started again when a file is saved.

The listening socket belongs to the parent: while one child ends and the next one starts, requests wait in the
socket's queue instead of failing.
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

STOP_SECONDS = 10.0


class FunctionProcess:
    """``python -m jobfn.function TARGET`` on an inherited socket.

    Args:
        target: ``FILE_OR_MODULE[:app]``.
        listener: The listening socket.
    """

    def __init__(self, target: str, listener: socket.socket) -> None:
        self._target = target
        self._listener = listener
        self._process: Process | None = None
        self._log = logs.get_logger("jobfn.dev")

    async def start(self) -> None:
        """Start the child. It ends by itself when this process does, however that happens: its input closes.

        It has a session of its own: Ctrl-C in a terminal reaches the parent alone, which lets the jobs under
        way end first. A child that is still importing would die of it, with those jobs waiting in its socket.
        """
        fd = self._listener.fileno()
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "jobfn.function", self._target, "--listener-fd", str(fd), "--until-stdin-closes"),
            stdin=PIPE,
            pass_fds=(fd,),
            start_new_session=True,  # not process_group, which uvloop does not know
        )

    async def stop(self) -> None:
        """Let the child finish what runs, then end it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            self._log.warning("the function app did not stop in time and is ended", seconds=STOP_SECONDS)
            process.kill()
            await process.wait()

    async def restart(self) -> None:
        """Stop it and start it with the code as it is now."""
        await self.stop()
        await self.start()

    async def wait(self) -> int:
        """Wait until the current child has ended. Returns its exit code."""
        if self._process is None:
            raise RuntimeError("start() comes first")
        return await self._process.wait()


async def saved(folder: Path) -> AsyncIterator[set[Path]]:
    """Whenever Python files in a folder change: which."""
    from watchfiles import PythonFilter, awatch  # noqa: PLC0415  - only where reload is wanted

    async for changes in awatch(folder, watch_filter=PythonFilter(), debounce=200, step=50):
        yield {Path(path) for _, path in changes}


async def files_saved(files: Collection[Path]) -> AsyncIterator[set[Path]]:
    """Whenever one of these files changes: which. Their folders are watched, since editors put new files in place."""
    from watchfiles import awatch  # noqa: PLC0415  - only where reload is wanted

    wanted = {file.resolve() for file in files}
    folders = {file.parent for file in wanted}
    async for changes in awatch(
        *folders, watch_filter=lambda _, path: Path(path) in wanted, debounce=200, step=50, recursive=False
    ):
        yield {Path(path) for _, path in changes}
