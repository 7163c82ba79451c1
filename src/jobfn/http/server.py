"""Running an ASGI app inside an event loop of ours: both sides do it, under their own signals.

uvicorn's ``Server`` wants to own the process: its signals, its exits. ``HttpServer`` wants none of that: it binds
first, so that a taken port is one clear error, and it stops when it is told to.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Coroutine, Generator, Iterator
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

from jobfn.errors import ConfigurationError
from jobfn.http.protocol import ServerConnection

T = TypeVar("T")

#: Longer than clients keep idle connections, so that it is the client who closes them.
KEEP_ALIVE_SECONDS = 75


class HttpServer:
    """An ASGI app on a listening socket.

    Args:
        app: The app.
        listener: A bound socket, from ``bind`` or inherited; it is closed with the server.
        shutdown_timeout_seconds: How long running requests may take to end when it stops, in seconds.
        lifespan: Whether the app is told of start and stop; one that does not understand that is served all the same.
        keep_alive_seconds: How long a connection may be idle, in seconds.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        shutdown_timeout_seconds: float,
        lifespan: bool = True,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        self._listener = listener
        self._server = _EmbeddedServer(
            uvicorn.Config(
                app,
                http=ServerConnection,
                ws="none",  # jobs have no use for them
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # nothing here asks who the client is
                timeout_keep_alive=keep_alive_seconds,  # type: ignore[arg-type]  # read by our protocol alone
                timeout_graceful_shutdown=max(1, round(shutdown_timeout_seconds)),
                lifespan="auto" if lifespan else "off",
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
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._server.started:
            await self._serving

    async def stop(self) -> None:
        """Accept nothing new, let running requests end, tell the app, close."""
        self._server.leave()
        if self._serving is not None:
            await self._serving
        self._listener.close()

    async def _serve(self) -> None:
        try:
            await self._server.serve(sockets=[self._listener])
        except SystemExit as error:
            self._listener.close()
            raise ConfigurationError("the app did not start: its lifespan failed, see the log above") from error


class _EmbeddedServer(uvicorn.Server):
    """uvicorn's server, which says when it is ready and leaves the process alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """End the main loop."""
        self.should_exit = True
        self._leaving.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Uvicorn looks ten times a second whether to stop; this is told. The Date header needs one look a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leaving.wait()

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
    except (OSError, OverflowError, UnicodeError) as error:  # the last two: a port or a host name that cannot be
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}. Stop what listens there, or choose another port"
        ) from error
    listener.setblocking(False)
    return listener


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a process's work in an event loop of its own: uvloop's where that is there, which costs half the CPU."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(work)


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop  # noqa: PLC0415  - not there on Windows
    except ImportError:  # pragma: no cover
        return None
    return uvloop.Loop


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set, for as long as the block runs; then they do what they did before."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
