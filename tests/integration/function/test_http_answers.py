"""Answers of our HTTP server: what the client reads, however slowly."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from jobfn.http.messages import send_response
from support.http import (
    BOTH_LOOPS,
    Watched,
    part,
    request,
    say,
    sending,
    serving,
    standstill,
    start,
)

pytestmark = BOTH_LOOPS


async def test_an_answer_is_read_while_it_is_made() -> None:
    """Its head and each chunk arrive when they are sent; it may end with an empty message."""
    gates = [asyncio.Event() for _ in range(3)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start((b"X-Name", b"value")))
        for number, gate in enumerate(gates):
            await gate.wait()
            await send(part(b"x" * (number * 9)))
        await send({"type": "http.response.body"})

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(request())
            head = await client.head()
            assert head.line == b"HTTP/1.1 200 OK"
            assert (head.headers[b"x-name"], head.headers[b"transfer-encoding"]) == (b"value", b"chunked")
            gates[0].set()
            for number in (1, 2):
                gates[number].set()
                assert await client.reader.readuntil(b"\r\n") == b"%x\r\n" % (number * 9)
                assert await client.reader.readexactly(number * 9 + 2) == b"x" * (number * 9) + b"\r\n"
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"
            for gate in gates:
                gate.clear()


async def test_an_answer_in_several_parts_with_a_length() -> None:
    """It is not chunked, nor does it need be whole at once; an app may chunk by name, and close."""
    app = sending(start((b"Content-Length", b"10")), part(b"hello"), part(b""), part(b"world"), part(b"", more=False))
    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(request())
            found = await client.answer()
            assert found.body == b"helloworld"
            assert b"transfer-encoding" not in found.headers
    app = sending(
        start((b"Transfer-Encoding", b"Chunked"), (b"Connection", b"Close")), part(b"hello"), part(b"", more=False)
    )
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        head = await client.head()
        assert (head.headers[b"transfer-encoding"], head.headers[b"connection"]) == (b"Chunked", b"Close")
        assert await client.rest() == b"5\r\nhello\r\n0\r\n\r\n"


async def test_a_stream_to_an_old_client() -> None:
    """HTTP/1.0 knows no chunks: the answer ends with the connection."""
    app = sending(start(), part(b"hello"), part(b"world", more=False))
    async with serving(app) as served:
        client = await served.connect()
        await client.send(b"GET / HTTP/1.0\r\n\r\n")
        head = await client.head()
        assert (head.status, head.headers[b"connection"]) == (200, b"close")
        assert b"transfer-encoding" not in head.headers
        assert await client.rest() == b"helloworld"


@pytest.mark.parametrize(
    ("method", "messages", "line", "length"),
    [
        (b"HEAD", [start((b"content-length", b"5")), part(b"hello", more=False)], b"HTTP/1.1 200 OK", b"5"),
        (b"HEAD", [start((b"content-length", b"5")), part(b"", more=False)], b"HTTP/1.1 200 OK", b"5"),
        (b"HEAD", [start(), part(b"hello"), part(b"", more=False)], b"HTTP/1.1 200 OK", None),
        (b"GET", [start(status=204), part(b"", more=False)], b"HTTP/1.1 204 No Content", None),
        (b"GET", [start(status=304), part(b"no", more=False)], b"HTTP/1.1 304 Not Modified", None),
    ],
)
async def test_answers_without_a_body(
    method: bytes, messages: list[Message], line: bytes, length: bytes | None
) -> None:
    """HEAD, 204 and 304 have a head and nothing more; the connection goes on."""
    async with serving(sending(*messages)) as served:
        client = await served.connect()
        await client.send(request(method=method) * 2)
        for _ in range(2):
            head = await client.head()
            assert (head.line, head.headers.get(b"content-length")) == (line, length)
            assert b"transfer-encoding" not in head.headers


async def test_a_status_that_nobody_knows() -> None:
    """It has no phrase, and is sent all the same."""
    async with serving(sending(start((b"content-length", b"2"), status=299), part(b"ok", more=False))) as served:
        client = await served.connect()
        await client.send(request())
        found = await client.answer()
        assert (found.line, found.body) == (b"HTTP/1.1 299 ", b"ok")


async def test_more_names_of_headers_than_are_kept() -> None:
    """Those that are not are made anew each time."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"", *((b"X-%b-%d" % (scope["raw_path"][1:], number), b"y") for number in range(400)))

    async with serving(app) as served:
        client = await served.connect()
        for name in (b"a", b"b", b"c", b"d", b"d"):
            await client.send(request(b"/" + name))
            found = (await client.answer()).headers
            assert [key for key in found if key.startswith(b"x-")] == [b"x-%b-%d" % (name, n) for n in range(400)]


async def test_a_client_that_reads_too_slowly() -> None:
    """The app is held up in sending; when the client reads, it goes on, and nothing is lost."""
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for number in range(200):
            await send(part(b"%04d" % number * 50_000))
            sent += 1
        await send(part(b"", more=False))

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        assert await standstill(lambda: sent) < 200
        assert (await client.answer()).body == b"".join(b"%04d" % number * 50_000 for number in range(200))
        assert sent == 200


async def test_a_client_that_reads_too_slowly_and_goes() -> None:
    """Then nobody holds the app up any more."""
    sent = 0

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(start())
        for _ in range(200):
            await send(part(b"x" * 200_000))
            sent += 1

    app = Watched(stream)
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        assert await standstill(lambda: sent) < 200
        client.writer.transport.abort()
        await app.ends.get()
        assert (sent, app.raised) == (200, [])


async def test_a_client_that_reads_whole_answers_too_slowly() -> None:
    """An answer that is given at once waits as well, from the second one on."""
    given = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal given
        body = scope["raw_path"] * 5_000_000
        await send_response(send, 200, [(b"content-length", b"%d" % len(body))], body)
        given += 1

    async with serving(app) as served:
        client = await served.connect()
        names = [b"/%d" % number for number in range(8)]
        await client.send(b"".join(map(request, names)))
        assert await standstill(lambda: given) < 8
        for name in names:
            assert (await client.answer()).body == name * 5_000_000
        assert given == 8
