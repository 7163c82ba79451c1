"""Streamed responses of the HTTP client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from jobfn.errors import TransportError
from jobfn.http.client import MAX_RESPONSE_BYTES, HttpTransport, ResponseStream
from support.network import LOOPBACK

CHUNKED = b"HTTP/1.1 200 OK\r\nX-Job-Batch: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Writes a response. Then the server waits for the next request.
Respond = Callable[[asyncio.StreamWriter], Awaitable[None]]


class StreamingServer:
    """Server that responds to each request with ``respond``."""

    def __init__(self, respond: Respond) -> None:
        self.connections = 0
        self.disconnected = asyncio.Event()
        self._respond = respond

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await self._respond(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            self.disconnected.set()


StartServer = Callable[[Respond], Awaitable[tuple[StreamingServer, str]]]


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    opened = HttpTransport()
    yield opened
    await opened.aclose()


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Start a server and return it with its URL."""
    servers: list[asyncio.Server] = []

    async def start(respond: Respond) -> tuple[StreamingServer, str]:
        streaming = StreamingServer(respond)
        servers.append(server := await asyncio.start_server(streaming.serve_connection, LOOPBACK, 0))
        return streaming, f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}/jobs"

    yield start
    for server in servers:
        server.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def lines_of(transport: HttpTransport, url: str, timeout_seconds: float | None = None) -> list[bytes]:
    async with transport.stream(url, body=b"", headers={}, timeout_seconds=timeout_seconds) as response:
        return [line async for line in response.lines()]


async def lines_and_error(response: ResponseStream) -> tuple[list[bytes], str]:
    """Return the lines of a response that breaks off, and the error."""
    lines: list[bytes] = []
    try:
        async for line in response.lines():
            lines.append(line)  # noqa: PERF401  - keeps the lines before the error
    except TransportError as error:
        return lines, str(error)
    pytest.fail("the response ended without an error")


async def test_lines_arrive_before_the_end_of_the_response(transport: HttpTransport, start_server: StartServer) -> None:
    second = asyncio.Event()

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one\nt"))
        await second.wait()
        writer.write(chunk(b"wo\n\n") + chunk(b"la") + chunk(b"st") + chunk(b""))

    server, url = await start_server(respond)
    async with transport.stream(url, body=b"", headers={}) as response:
        lines = response.lines()
        assert (response.status, response.headers["x-job-batch"]) == (200, "2")
        assert await anext(lines) == b"one"
        second.set()
        assert [line async for line in lines] == [b"two", b"", b"last"]
    assert await lines_of(transport, url) == [b"one", b"two", b"", b"last"]
    assert server.connections == 1


async def test_body_of_a_stream_is_read_whole_up_to_the_maximum(
    transport: HttpTransport, start_server: StartServer
) -> None:
    body = b"x" * (MAX_RESPONSE_BYTES - 2)
    rest = iter([b"", b"y", b"yyy" + body])

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(body + next(rest)) + chunk(b""))
        await writer.drain()

    server, url = await start_server(respond)
    for suffix in (b"", b"y", b"yy"):
        async with transport.stream(url, body=b"", headers={}) as response:
            assert await response.read() == body + suffix
    await server.disconnected.wait()
    assert server.connections == 1, "only the response beyond the maximum closes the connection"


async def test_line_beyond_the_maximum_is_an_error(transport: HttpTransport, start_server: StartServer) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for line in (b"x" * MAX_RESPONSE_BYTES + b"\n", b"x" * (MAX_RESPONSE_BYTES + 1)):
            writer.write(chunk(line))
            await writer.drain()

    _, url = await start_server(respond)
    async with transport.stream(url, body=b"", headers={}) as response:
        lines = response.lines()
        assert await anext(lines) == b"x" * MAX_RESPONSE_BYTES
        with pytest.raises(TransportError, match="a line of the response exceeds 1048576 bytes"):
            await anext(lines)


async def test_lines_before_the_connection_breaks_are_yielded(
    transport: HttpTransport, start_server: StartServer
) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(50_000))  # more than the client buffers

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(lines + b"half a li"))
        await writer.drain()
        writer.close()

    _, url = await start_server(respond)
    async with transport.stream(url, body=b"", headers={}) as response:
        received, error = await lines_and_error(response)
    assert (len(received), received[-1]) == (50_000, b"line 49999")
    assert error == f"POST {url} failed: the connection was closed in the middle of the response"


async def test_response_without_a_length_ends_with_the_connection(
    transport: HttpTransport, start_server: StartServer
) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nX-Job-Batch: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\none\ntwo")
        await writer.drain()
        writer.close()

    _, url = await start_server(respond)
    assert await lines_of(transport, url) == [b"one", b"two"]


async def test_timeout_includes_the_body(transport: HttpTransport, start_server: StartServer) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one\ntwo"))

    _, url = await start_server(respond)
    async with transport.stream(url, body=b"", headers={}, timeout_seconds=2) as response:
        assert await lines_and_error(response) == ([b"one"], f"POST {url} got no response within 2 s")


async def test_timeout_includes_the_head(transport: HttpTransport, start_server: StartServer) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None: ...

    _, url = await start_server(respond)
    with pytest.raises(TransportError, match=rf"^POST {url} got no response within 0.05 s$"):
        await lines_of(transport, url, timeout_seconds=0.05)


@pytest.mark.parametrize("error", [None, ZeroDivisionError])
async def test_connection_of_a_response_that_was_left_early_is_closed(
    error: type[Exception] | None, start_server: StartServer
) -> None:
    transport = HttpTransport(max_connections=1)
    rest = iter([b"", chunk(b"two\n") + chunk(b"")])

    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one\n") + next(rest))

    server, url = await start_server(respond)
    with pytest.raises(error) if error is not None else contextlib.nullcontext():
        async with transport.stream(url, body=b"", headers={}) as response:
            assert await anext(response.lines()) == b"one"
            if error is not None:
                raise error
    await server.disconnected.wait()
    assert await lines_of(transport, url) == [b"one", b"two"]
    assert server.connections == 2
    await transport.aclose()


async def test_closing_the_transport_aborts_a_stream(transport: HttpTransport, start_server: StartServer) -> None:
    async def respond(writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED + chunk(b"one\n"))

    server, url = await start_server(respond)
    async with transport.stream(url, body=b"", headers={}) as response:
        lines = response.lines()
        assert await anext(lines) == b"one"
        await transport.aclose()
        with pytest.raises(TransportError, match=rf"^POST {url} failed: "):
            await anext(lines)
    await server.disconnected.wait()
