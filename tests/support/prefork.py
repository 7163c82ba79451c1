"""Start ``jobfn`` commands by forking a process that has already imported the command line.

Importing takes most of a command's time, and the suite runs hundreds of commands. A fork is a real process: its own
pid, environment, folder, output and exit code. Commands whose imports are what a test is about use the real script.
"""

import asyncio
import contextlib
import gc
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

#: Imported before the first fork: every verb, and what they load when they run.
_PRELOADED: Final = ("asyncpg", "jsonschema", "rich.console", "starlette.routing", "uvicorn", "uvloop", "yaml")
_MAX_REQUEST_BYTES: Final = 1 << 20


class ForkedProcess:
    """A forked command, with the part of ``asyncio.subprocess.Process`` that tests use."""

    def __init__(self, connection: socket.socket, pid: int, stdout: asyncio.StreamReader | None) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._exited = asyncio.ensure_future(self._wait(connection))

    async def _wait(self, connection: socket.socket) -> int:
        with connection:
            reply = await asyncio.get_running_loop().sock_recv(connection, 64)
        self.returncode = int(reply) if reply else -signal.SIGKILL
        return self.returncode

    async def wait(self) -> int:
        """Return the exit code; minus the signal's number if a signal ended it."""
        return await asyncio.shield(self._exited)

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


async def fork_command(
    address: Path, arguments: list[str], env: dict[str, str], folder: Path, *, terminal: int | None = None
) -> ForkedProcess:
    """Run ``jobfn`` with these arguments in a fork of the server at ``address``, perhaps in a terminal."""
    loop = asyncio.get_running_loop()
    connection = socket.socket(socket.AF_UNIX)
    connection.setblocking(False)
    await loop.sock_connect(connection, str(address))
    read, write = os.pipe() if terminal is None else (-1, os.dup(terminal))
    stdin = os.open(os.devnull, os.O_RDONLY) if terminal is None else os.dup(terminal)
    request = json.dumps({"arguments": arguments, "env": env, "folder": str(folder)}).encode()
    connection.setblocking(True)
    socket.send_fds(connection, [len(request).to_bytes(4, "big")], [stdin, write])
    connection.sendall(request)
    os.close(stdin)
    os.close(write)
    connection.setblocking(False)
    pid = int.from_bytes(await loop.sock_recv(connection, 4), "big")
    if terminal is not None:
        return ForkedProcess(connection, pid, None)
    stdout = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), os.fdopen(read, "rb"))
    return ForkedProcess(connection, pid, stdout)


def serve(address: str) -> None:
    """Fork a command for each connection, until the process that started this one ends."""
    from jobfn.cli import app  # noqa: PLC0415  - imported by the server alone

    app.build_app()
    for name in _PRELOADED:
        __import__(name)
    gc.freeze()  # keeps the pages of what is imported shared with the forks
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:  # waits for its one command and reports its exit code
            listener.close()
            _supervise(connection)


def _supervise(connection: socket.socket) -> None:
    length, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
    request = _receive(connection, int.from_bytes(length, "big"))
    pid = os.fork()
    if pid == 0:
        connection.close()
        _run(request, *descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(pid.to_bytes(4, "big"))
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):  # the test has ended without waiting for its command
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os.kill(os.getpid(), signal.SIGKILL)  # nothing of this process is measured


def _receive(connection: socket.socket, length: int) -> dict[str, Any]:
    parts = bytearray()
    while len(parts) < length:
        parts += connection.recv(min(length - len(parts), _MAX_REQUEST_BYTES))
    request: dict[str, Any] = json.loads(parts)
    return request


def _run(request: dict[str, Any], stdin: int, output: int) -> None:
    os.dup2(stdin, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(stdin)
    os.close(output)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored if a shell runs the tests in the background
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["jobfn", *request["arguments"]]
    from jobfn.cli import main  # noqa: PLC0415  - as the installed script does

    sys.exit(main())


if __name__ == "__main__":
    serve(sys.argv[1])
