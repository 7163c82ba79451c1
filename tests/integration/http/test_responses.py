"""Responses of the HTTP server: framing and flow control."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from jobfn.http.messages import send_response
from support.http import (
    BOTH_LOOPS,
    RecordingApp,
    app_sending,
    connected,
    part,
    request,
    respond,
    start,
    wait_until_stalled,
)

pytestmark = BOTH_LOOPS


async def test_chunks_arrive_as_they_are_sent() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"X-Name", b"value")))
        for number, gate in enumerate(gates):
            await gate.wait()
            await send(part(b"x" * (number * 9)))
        await send({"type": "http.response.body"})

    async with connected(app) as client:
        for _ in range(2):
            await client.send(request())
            head = await client.read_head()
            assert head.status_line == b"HTTP/1.1 200 OK"
            assert (head.headers[b"x-name"], head.headers[b"transfer-encoding"]) == (b"value", b"chunked")
            gates[0].set()
            for number in (1, 2):
                gates[number].set()
                assert await client.read_chunk() == b"x" * (number * 9)
            assert await client.read_chunk() == b""
            for gate in gates:
                gate.clear()


async def test_body_with_a_length_may_be_sent_in_parts() -> None:
    messages = start((b"Content-Length", b"10")), part(b"hello"), part(b""), part(b"world"), part(b"", more=False)
    async with connected(app_sending(*messages)) as client:
        for _ in range(2):
            await client.send(request())
            response = await client.read_response()
            assert response.body == b"helloworld"
            assert b"transfer-encoding" not in response.headers


async def test_app_may_chunk_and_close_explicitly() -> None:
    head = start((b"Transfer-Encoding", b"Chunked"), (b"Connection", b"Close"))
    async with connected(app_sending(head, part(b"hello"), part(b"", more=False))) as client:
        await client.send(request())
        response = await client.read_head()
        assert (response.headers[b"transfer-encoding"], response.headers[b"connection"]) == (b"Chunked", b"Close")
        assert await client.read_until_closed() == b"5\r\nhello\r\n0\r\n\r\n"


async def test_stream_to_an_http_1_0_client_ends_with_the_connection() -> None:
    async with connected(app_sending(start(), part(b"hello"), part(b"world", more=False))) as client:
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        head = await client.read_head()
        assert (head.status, head.headers[b"connection"]) == (200, b"close")
        assert b"transfer-encoding" not in head.headers
        assert await client.read_until_closed() == b"helloworld"


@pytest.mark.parametrize(
    ("method", "messages", "status_line", "length"),
    [
        (b"HEAD", [start((b"content-length", b"5")), part(b"hello", more=False)], b"HTTP/1.1 200 OK", b"5"),
        (b"HEAD", [start((b"content-length", b"5")), part(b"", more=False)], b"HTTP/1.1 200 OK", b"5"),
        (b"HEAD", [start(), part(b"hello"), part(b"", more=False)], b"HTTP/1.1 200 OK", None),
        (b"GET", [start(status=204), part(b"", more=False)], b"HTTP/1.1 204 No Content", None),
        (b"GET", [start(status=304), part(b"no", more=False)], b"HTTP/1.1 304 Not Modified", None),
    ],
)
async def test_head_204_and_304_have_no_body_and_keep_the_connection(
    method: bytes, messages: list[Message], status_line: bytes, length: bytes | None
) -> None:
    async with connected(app_sending(*messages)) as client:
        await client.send(request(method=method) * 2)
        for _ in range(2):
            head = await client.read_head()
            assert (head.status_line, head.headers.get(b"content-length")) == (status_line, length)
            assert b"transfer-encoding" not in head.headers


async def test_unknown_status_is_sent_without_a_phrase() -> None:
    messages = start((b"content-length", b"2"), status=299), part(b"ok", more=False)
    async with connected(app_sending(*messages)) as client:
        await client.send(request())
        response = await client.read_response()
        assert (response.status_line, response.body) == (b"HTTP/1.1 299 ", b"ok")


async def test_header_names_beyond_the_cache_limit_are_sent() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"", *((b"X-%b-%d" % (scope["raw_path"][1:], number), b"y") for number in range(400)))

    async with connected(app) as client:
        for name in (b"a", b"b", b"c", b"d", b"d"):
            await client.send(request(b"/" + name))
            headers = (await client.read_response()).headers
            assert [key for key in headers if key.startswith(b"x-")] == [b"x-%b-%d" % (name, n) for n in range(400)]


async def test_app_waits_for_a_slow_reader_and_nothing_is_lost() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for number in range(200):
            await send(part(b"%04d" % number * 50_000))
            sent += 1
        await send(part(b"", more=False))

    async with connected(app) as client:
        await client.send(request())
        assert await wait_until_stalled(lambda: sent) < 200
        assert (await client.read_response()).body == b"".join(b"%04d" % number * 50_000 for number in range(200))
        assert sent == 200


async def test_app_stops_waiting_when_a_slow_reader_disconnects() -> None:
    sent = 0

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for _ in range(200):
            await send(part(b"x" * 200_000))
            sent += 1

    app = RecordingApp(stream)
    async with connected(app) as client:
        await client.send(request())
        assert await wait_until_stalled(lambda: sent) < 200
        client.writer.transport.abort()
        await app.finished.get()
        assert (sent, app.raised) == (200, [])


async def test_send_response_waits_for_a_slow_reader_too() -> None:
    responses = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal responses
        body = scope["raw_path"] * 5_000_000
        await send_response(send, 200, [(b"content-length", b"%d" % len(body))], body)
        responses += 1

    async with connected(app) as client:
        names = [b"/%d" % number for number in range(8)]
        await client.send(b"".join(map(request, names)))
        assert await wait_until_stalled(lambda: responses) < 8
        for name in names:
            assert (await client.read_response()).body == name * 5_000_000
        assert responses == 8
