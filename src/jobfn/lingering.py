"""Closing a connection on a client that still sends, so that it reads the answer.

A body that is too large is refused before it has come. If the connection were closed at that moment, with bytes
unread, TCP would answer the client with a reset, and many clients then drop the very answer that says why. So the
server ends its own half, takes what still comes and throws it away, for a bounded time, and only then closes.
``hosting.py`` gives this protocol to uvicorn.
"""

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: How long a client that was refused may go on sending.
LINGER_SECONDS = 5.0


class LingeringProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, patient with clients that were answered early."""

    _lingering: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Let closing go through here."""
        super().connection_made(transport)
        self._connection = transport
        self.transport = cast("asyncio.Transport", _Closing(transport, self))

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, or the time is over."""
        if self._lingering is not None:
            self._lingering.cancel()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """A request that follows the refused one is not for us any more."""
        if self._lingering is None:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request has come whole, read by anybody or not."""
        super().on_message_complete()
        if self.cycle is not None:  # pragma: no branch  - it is None where a websocket is opened
            self.cycle.more_body = False
        if self._lingering is not None:
            self._connection.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; a refused client has had its answer."""
        if self._lingering is None:
            super().send_400_response(msg)
        else:
            self._connection.close()

    def close(self) -> None:
        """Close now, or, where a client that has its answer still sends, when it is done."""
        # before the first request there is no cycle
        answered_early = getattr(self.cycle, "response_complete", False) and self.cycle.more_body
        if self._lingering is not None or not answered_early:
            self._connection.close()
            return
        self._lingering = self.loop.call_later(LINGER_SECONDS, self._connection.abort)
        self._connection.write_eof()
        self._connection.resume_reading()

    @property
    def lingering(self) -> bool:
        """Whether it only waits for the client's end."""
        return self._lingering is not None


class _Closing:
    """A transport whose ``close`` goes through the protocol; everything else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, protocol: LingeringProtocol) -> None:
        self._transport = transport
        self._protocol = protocol
        self.write = transport.write

    def close(self) -> None:
        self._protocol.close()

    def is_closing(self) -> bool:
        return self._protocol.lingering or self._transport.is_closing()

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)
