"""Run an ASGI app inside an existing event loop, with its own signal handling.

uvicorn's ``Server`` expects to own the process, its signals and its exit. ``HttpServer`` binds first, so that a port in
use is one clear error, and stops when its owner calls ``stop``.
"""

import asyncio
import contextlib
import os
import signal
import socket
import time
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, TypeVar

import uvicorn
from starlette.types import ASGIApp

from jobfn.errors import ConfigurationError
from jobfn.http.connections import LimitedServerState, default_maximum
from jobfn.http.limits import ConnectionSweeper, LimitedHttpToolsProtocol
from jobfn.tcp import HTTP

T = TypeVar("T")

#: Timeout of idle connections. Longer than clients', so that the client closes them.
KEEP_ALIVE_SECONDS = 75


class HttpServer:
    """An ASGI app on a listening socket.

    Args:
        app: The app.
        listener: A bound socket, from ``bind`` or inherited. It is closed with the server.
        shutdown_timeout_seconds: How long requests in flight may take on shutdown.
        lifespan: Whether to send lifespan events. An app that does not support them is served all the same.
        max_connections: Number of connections at which requests get 503. Default: see ``default_maximum``.
        clock: Monotonic time in seconds, for the timeout of slow clients.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        *,
        shutdown_timeout_seconds: float,
        lifespan: bool = True,
        max_connections: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._listener = listener
        maximum = max_connections or default_maximum()
        self._server = _EmbeddedServer(
            uvicorn.Config(
                app,
                http=LimitedHttpToolsProtocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the client's address is not used
                limit_concurrency=maximum,
                backlog=max(16, min(2048, maximum // 4)),  # also the number of connections accepted at once
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=max(1, round(shutdown_timeout_seconds)),
                lifespan="auto" if lifespan else "off",
            ),
            maximum,
            clock,
        )
        self._serving: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """TCP port of the listener."""
        return int(self._listener.getsockname()[1])

    async def start(self) -> None:
        """Serve in the background. Returns when connections are accepted.

        Raises:
            ConfigurationError: The app's lifespan failed; the cause is logged.
        """
        self._serving = asyncio.create_task(self._serve())
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait({self._serving, ready}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if not self._server.started:
            await self._serving

    async def stop(self) -> None:
        """Stop accepting, finish requests in flight, end the lifespan, close the socket."""
        self._server.request_shutdown()
        if self._serving is not None:
            await self._serving
        self._listener.close()

    def leave_to_parent(self) -> None:
        """Replace the sockets of this process, a forked child, by ``/dev/null``.

        Otherwise the port stays in use after its parent, and clients wait for responses on connections that nobody
        reads. The numbers stay in use, because other objects of this process still know them.
        """
        null = os.open(os.devnull, os.O_RDWR)
        for number in (self._listener.fileno(), *self._server.connection_numbers()):
            if number >= 0:
                os.dup2(null, number, inheritable=False)
        os.close(null)

    async def _serve(self) -> None:
        _SERVERS.add(self)
        try:
            await self._server.serve(sockets=[self._listener])
        except SystemExit as error:
            self._listener.close()
            raise ConfigurationError("the app did not start: its lifespan failed, see the log above") from error


#: Servers of this process, for forked children.
_SERVERS: "weakref.WeakSet[HttpServer]" = weakref.WeakSet()


def _leave_to_parent() -> None:
    for server in _SERVERS:
        server.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class _EmbeddedServer(uvicorn.Server):
    """uvicorn's server without signal handlers, with events instead of flags."""

    def __init__(self, config: uvicorn.Config, max_connections: int, clock: Callable[[], float]) -> None:
        super().__init__(config)
        self.server_state = LimitedServerState(max_connections)
        self._sweeper = ConnectionSweeper(self.server_state, clock)
        self.ready = asyncio.Event()
        self._shutdown_requested = asyncio.Event()

    def request_shutdown(self) -> None:
        """End the main loop."""
        self.should_exit = True
        self._shutdown_requested.set()

    def connection_numbers(self) -> list[int]:
        """Return the file descriptors of the open connections."""
        sockets = (protocol.transport.get_extra_info("socket") for protocol in self.server_state.connections)
        return [connected.fileno() for connected in sockets if connected is not None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and set ``ready``."""
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        """Tick once a second, instead of ten times a second to poll ``should_exit``."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._shutdown_requested.wait()

    async def on_tick(self, counter: int) -> bool:
        """Update the Date header, and close connections of slow clients."""
        self._sweeper.sweep()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install no signal handlers."""
        yield


def bind(host: str, port: int, *, option: str | None = None) -> socket.socket:
    """Return a listening TCP socket; port 0 chooses a free one.

    Args:
        host: The address to listen on.
        port: The port.
        option: The command's option or the variable that sets the port, for the error.

    Raises:
        ConfigurationError: The port is in use, or the address does not belong to this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio disables Nagle's algorithm (40 ms per response) only if the socket's protocol is explicitly TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    HTTP.apply(listener)  # its connections inherit the options
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError, UnicodeError) as error:  # the last two: an invalid port or host name
        listener.close()
        reason = getattr(error, "strerror", None) or error
        other = "choose another port" + (f" with {option}" if option else "")
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}. Stop the process that uses it, or {other}"
        ) from error
    listener.setblocking(False)
    return listener


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new event loop: uvloop's if installed, which halves the CPU time."""
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(main)
    finally:
        main.close()  # if Ctrl-C came before it started, asyncio warns otherwise


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    try:
        import uvloop  # noqa: PLC0415  - not available on Windows
    except ImportError:  # pragma: no cover
        return None
    return uvloop.Loop


@contextlib.contextmanager
def stop_signals() -> Iterator[asyncio.Event]:
    """Yield an event that SIGTERM and SIGINT set. The previous handlers are restored afterwards."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in previous:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
