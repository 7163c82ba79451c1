"""A server that answers a delivery or a report without end, to fill the memory of its client."""

import asyncio
import contextlib

import pytest

from jobfn.errors import TransportError
from jobfn.http.client import HttpTransport
from support.network import LOOPBACK

OK = b"HTTP/1.1 200 OK\r\n"
TRAILER = OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
INFORMATIONAL = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
#: More than the sockets of both sides hold.
BUFFERED_BYTES = 16 * 1024 * 1024


class EndlessServer:
    """Server that repeats a packet until its client closes the connection."""

    def __init__(self, start: bytes, packet: bytes) -> None:
        self._start, self._packet = start, packet
        self.sent = 0
        self.closed = asyncio.Event()

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._start)
        with contextlib.suppress(ConnectionError):
            while self.sent < 2 * BUFFERED_BYTES:
                writer.write(self._packet)
                await writer.drain()
                self.sent += len(self._packet)
        writer.close()
        self.closed.set()


@pytest.mark.parametrize(
    ("start", "packet", "reason"),
    [
        (b"HTTP/1.1 200 ", b"x" * 65_536, "Got more than 8190 bytes when reading"),
        (OK, b"X-Long: y\r\n" * 5000, "Too many headers received"),
        (OK, b"x" * 65_536, "Got more than 8190 bytes when reading"),
        (OK + b"X-Long: ", b"x" * 65_536, "Got more than 8190 bytes when reading"),
        (TRAILER, b"X-Long: y\r\n" * 5000, "Too many headers received"),
        (TRAILER + b"X-Long: ", b"x" * 65_536, "Got more than 8190 bytes when reading"),
        (b"", INFORMATIONAL * 1000, "Too many 1xx responses"),
    ],
    ids=["reason", "headers", "name", "value", "trailers", "trailer value", "1xx"],
)
async def test_endless_response_breaks_the_connection(start: bytes, packet: bytes, reason: str) -> None:
    endless = EndlessServer(start, packet)
    server = await asyncio.start_server(endless.serve_connection, LOOPBACK, 0)
    transport = HttpTransport()
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(TransportError) as caught:
        await transport.post(url, body=b"{}", headers={}, timeout_seconds=20)
    assert str(caught.value) == f"POST {url} failed: invalid HTTP response: {reason}"
    await endless.closed.wait()
    assert endless.sent < BUFFERED_BYTES
    await transport.aclose()
    server.close()


async def test_a_few_informational_responses_are_skipped_on_each_request() -> None:
    async def serve_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"{}"):
                writer.write(INFORMATIONAL * 10 + OK + b"Content-Length: 2\r\n\r\nok")
        writer.close()

    server = await asyncio.start_server(serve_connection, LOOPBACK, 0)
    transport = HttpTransport()
    for _ in range(3):
        url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
        assert (await transport.post(url, body=b"{}", headers={}, timeout_seconds=20)).body == b"ok"
    await transport.aclose()
    server.close()


def answer(job: str, body: bytes = b"ok") -> bytes:
    head = f"X-Job-Id: {job}\r\n" if job else ""
    return OK + f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class LateServer:
    """Server that answers each request of a connection with the next of its answers."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.connections = 0

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for each in self._answers:
                await reader.readuntil(b"{}")
                writer.write(each)
                await writer.drain()
        writer.close()


@pytest.mark.parametrize("headers", [{"X-Job-Id": "2"}, {}], ids=["another job", "batch"])
async def test_answer_for_another_job_breaks_the_connection(headers: dict[str, str]) -> None:
    late_server = LateServer(answer("1"), answer("1"), answer("2"))
    server = await asyncio.start_server(late_server.serve_connection, LOOPBACK, 0)
    transport = HttpTransport()
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    assert (await transport.post(url, body=b"{}", headers={"X-Job-Id": "1"})).body == b"ok"
    with pytest.raises(TransportError, match=r"failed: the response is about another job \(X-Job-Id\)$"):
        await transport.post(url, body=b"{}", headers=headers)
    assert late_server.connections == 1
    assert (await transport.post(url, body=b"{}", headers={"X-Job-Id": "1"})).body == b"ok"
    assert late_server.connections == 2
    await transport.aclose()
    server.close()


@pytest.mark.parametrize("absent", ["undefined", "null", ""])
async def test_node_function_names_no_job_for_a_request_without_one(absent: str) -> None:
    node = LateServer(answer(absent), answer(absent))
    server = await asyncio.start_server(node.serve_connection, LOOPBACK, 0)
    transport = HttpTransport()
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    for _ in range(2):
        assert (await transport.post(url, body=b"{}", headers={})).body == b"ok"
    assert node.connections == 1
    await transport.aclose()
    server.close()


async def test_stream_that_is_left_early_breaks_the_connection_although_the_response_is_complete() -> None:
    late_server = LateServer(answer("", b'{"job": "1", "status": 200}\n' * 2), answer(""))
    server = await asyncio.start_server(late_server.serve_connection, LOOPBACK, 0)
    transport = HttpTransport()
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    for connections in (1, 2):
        async with transport.stream(url, body=b"{}", headers={}) as response:
            async for line in response.lines():
                assert line == b'{"job": "1", "status": 200}'
                break
        assert late_server.connections == connections
    await transport.aclose()
    server.close()
