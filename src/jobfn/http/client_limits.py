"""Limits on servers that aiohttp's client does not set by itself. Imported with aiohttp, by the first request."""

import asyncio
import functools
import socket
from ssl import SSLContext
from typing import Final, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader

from jobfn.tcp import KeepAlive
from jobfn.wire import JOB_ID
from jobfn.wire.headers import ABSENT_VALUES

#: Maximum number of headers, and of trailers.
MAX_HEADERS: Final = 128
#: Maximum size of the status line, of a header and of a trailer.
MAX_FIELD_BYTES: Final = 8190
#: Maximum number of 1xx responses before the response to a request.
MAX_INFORMATIONAL_RESPONSES: Final = 10


class LimitedResponseHandler(ResponseHandler):
    """aiohttp's connection with a limit on 1xx responses, each of which costs the client several kilobytes."""

    _informational_responses = 0

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue a response."""
        if data[0].code >= 200:
            self._informational_responses = 0
        else:
            self._informational_responses += 1
            if self._informational_responses > MAX_INFORMATIONAL_RESPONSES:
                self.close()
                self.set_exception(HttpProcessingError(code=400, message="Too many 1xx responses"))
                return
        super().feed_data(data, size)


class JobResponse(aiohttp.ClientResponse):
    """A response that is about the job of its request.

    If it is about another one, a late answer stands in its place, and so would one for each further request: the
    connection is closed, even if it is in the pool again.
    """

    protocol: ResponseHandler | None = None

    async def start(self, connection: Connection) -> "JobResponse":
        """Read the head.

        Raises:
            ValueError: The response is about another job.
        """
        self.protocol = connection.protocol
        await super().start(connection)
        job = self.request_info.headers.get(JOB_ID)
        if self.headers.get(JOB_ID, job) not in {job, *ABSENT_VALUES}:
            self.break_connection()
            raise ValueError(f"the response is about another job ({JOB_ID})")
        return self

    def break_connection(self) -> None:
        """Close the connection."""
        if self.protocol is not None:
            self.protocol.close()


def connector(
    *, limit: int, limit_per_host: int, keepalive_timeout: float, ssl: bool | SSLContext, keepalive: KeepAlive
) -> aiohttp.TCPConnector:
    """Return a connection pool whose connections are limited. Other arguments as in ``aiohttp.TCPConnector``.

    Args:
        limit: Maximum number of connections.
        limit_per_host: The same for each host.
        keepalive_timeout: Maximum idle time of a connection.
        ssl: TLS settings.
        keepalive: When a connection to a machine that has vanished is given up.
    """

    def open_socket(address: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, _ = address
        opened = socket.socket(family, kind, protocol)
        keepalive.apply(opened)
        return opened

    pool = aiohttp.TCPConnector(
        limit=limit,
        limit_per_host=limit_per_host,
        keepalive_timeout=keepalive_timeout,
        ssl=ssl,
        socket_factory=open_socket,
    )
    factory = functools.partial(LimitedResponseHandler, loop=asyncio.get_running_loop())
    pool._factory = cast("functools.partial[ResponseHandler]", factory)  # noqa: SLF001  - aiohttp has no parameter
    return pool
