"""Running an ASGI app inside an event loop of ours: both sides do it, under their own signals.

uvicorn's ``Server`` wants to own the process: its signals, its exits. ``HttpServer`` wants none of that: it binds
first, so that a taken port is one clear error, and it stops when it is told to.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Generator, Iterator

import uvicorn
from starlette.types import ASGIApp

from jobfn.errors import ConfigurationError

#: Longer than clients keep idle connections, so that it is the client who closes them.
KEEP_ALIVE_SECONDS = 75


class HttpServer:
    """An ASGI app on a listening socket.

    Args:
        app: The app.
        listener: A bound socket, from ``bind`` or inherited; it is closed with the server.
        shutdown_seconds: How long running requests may take to end when it stops, in seconds.
        lifespan: Whether the app is told of start and stop, and whether it must understand that.
    """

    def __init__(
        self, app: ASGIApp, listener: socket.socket, *, shutdown_seconds: float, lifespan: bool = True
    ) -> None:
        self._listener = listener
        self._server = _QuietServer(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(shutdown_seconds)),
                lifespan="on" if lifespan else "off",
            )
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Serve in the background; returns when connections are accepted.

        Raises:
            ConfigurationError: The app's own start-up failed; the log holds why.
        """
        self._serving = asyncio.create_task(self._serve())
        while not self._server.started:
            if self._serving.done():
                self._serving.result()
                raise ConfigurationError("the app did not start: its lifespan failed, see the log above")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Accept nothing new, let running requests end, tell the app, close."""
        self._server.should_exit = True
        if self._serving is not None:
            await self._serving
        self._listener.close()

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._listener])
        except SystemExit as error:
            raise ConfigurationError("the app did not start: its lifespan failed, see the log above") from error


class _QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave the process's signals to whoever runs the loop."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """A listening TCP socket.

    Args:
        host: The address to listen on, such as ``127.0.0.1`` or ``0.0.0.0``.
        port: 0 takes any free one.

    Raises:
        ConfigurationError: The port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio switches Nagle off, 40 ms a response, only where it knows that this is TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}. Stop what listens there, or choose another port"
        ) from error
    listener.setblocking(False)
    return listener


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, for as long as the block runs."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
