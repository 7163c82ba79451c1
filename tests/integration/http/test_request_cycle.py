"""Disconnecting clients, and apps that raise or send invalid responses."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.http.messages import send_response
from support.http import BOTH_LOOPS, RecordingApp, app_sending, connected, part, request, respond, start

LENGTH_5 = (b"content-length", b"5")


async def send_messages(send: Send) -> None:
    await send(start())
    await send(part(b"hello"))
    await send(part(b"", more=False))


async def send_at_once(send: Send) -> None:
    await send_response(send, 200, [LENGTH_5], b"hello")


@BOTH_LOOPS
@pytest.mark.parametrize("send_to_client", [send_messages, send_at_once])
async def test_disconnect_is_received_and_later_sends_are_ignored(
    send_to_client: Callable[[Send], Awaitable[None]],
) -> None:
    received: list[str] = []
    arrived = asyncio.Event()

    async def receive_three_times(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            received.append((await receive())["type"])
            arrived.set()
        await send_to_client(send)

    app = RecordingApp(receive_three_times)
    async with connected(app) as client:
        await client.send(request())
        await arrived.wait()
        client.writer.close()
        await app.finished.get()
        assert (received, app.raised) == (["http.request", "http.disconnect", "http.disconnect"], [])


@BOTH_LOOPS
async def test_disconnect_is_received_after_the_response() -> None:
    received: list[str] = []

    async def respond_while_receiving(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        receiving = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await respond(send, b"done")
        received.append((await receiving)["type"])
        received.append((await receive())["type"])

    app = RecordingApp(respond_while_receiving)
    async with connected(app) as client:
        await client.send(request())
        assert (await client.read_response()).body == b"done"
        await app.finished.get()
        assert (received, app.raised) == (["http.disconnect"] * 2, [])


async def raise_error(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("a secret")


async def cancel(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


async def return_early(scope: Scope, receive: Receive, send: Send) -> None:
    return


@pytest.mark.parametrize("app", [raise_error, cancel, return_early])
async def test_app_without_a_response_sends_500_and_closes(app: ASGIApp) -> None:
    recording = RecordingApp(app)
    async with connected(recording) as client:
        await client.send(request() + request())
        response = await client.read_response()
        assert response.status_line == b"HTTP/1.1 500 Internal Server Error"
        assert (response.headers[b"connection"], response.body) == (b"close", b"Internal Server Error")
        assert await client.read_until_closed() == b""
        assert recording.finished.qsize() == 1


async def test_app_that_raises_after_its_response_keeps_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"done")
        raise ValueError

    async with connected(app) as client:
        for _ in range(2):
            await client.send(request())
            assert (await client.read_response()).body == b"done"


@pytest.mark.parametrize(
    ("messages", "body"),
    [  # a body of None: nothing was written
        ([start(), part(b"half")], b"4\r\nhalf\r\n"),
        ([start(LENGTH_5), part(b"half")], b"half"),
        ([start(LENGTH_5)], None),
        ([start(LENGTH_5), part(b"half", more=False)], None),
        ([start(LENGTH_5), part(b"longer", more=False)], None),
    ],
)
@pytest.mark.parametrize("raises", [False, True])
async def test_incomplete_response_is_cut_off(messages: list[Message], body: bytes | None, *, raises: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if raises:
            raise ValueError

    async with connected(app) as client:
        await client.send(request() + request())
        if body is not None:
            assert (await client.read_head()).status == 200
        assert await client.read_until_closed() == (body or b"")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-name", b"evil\r\nset-cookie: evil")],
        [(b"x-name", b"\0evil")],
        [(b"x-name\r\nevil", b"")],
        [(b"evil name", b"")],
        [(b"content-length", b"evil")],
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_invalid_header_sends_500(headers: list[tuple[bytes, bytes]], *, at_once: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if at_once:
            await send_response(send, 200, headers, b"evil")
        else:
            await send(start(*headers))

    async with connected(app) as client:
        await client.send(request())
        received = await client.read_until_closed()
        assert received.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"evil" not in received


@pytest.mark.parametrize(
    ("messages", "status_line"),
    [
        ([part(b"evil")], b"HTTP/1.1 500 "),
        ([{"type": "http.response.trailers"}], b"HTTP/1.1 500 "),
        ([start(), start((b"evil", b""))], b"HTTP/1.1 200 "),
        ([start(LENGTH_5), part(b"hello", more=False), part(b"evil")], b"HTTP/1.1 200 "),
        ([start(LENGTH_5), part(b"hello", more=False), start((b"evil", b""))], b"HTTP/1.1 200 "),
    ],
)
async def test_message_out_of_order_raises_and_is_not_sent(messages: list[Message], status_line: bytes) -> None:
    app = app_sending(*messages)
    async with connected(app) as client:
        await client.send(request(b"/", b"Connection: close"))
        received = await client.read_until_closed()
        assert received.startswith(status_line)
        assert b"evil" not in received
        (error,) = app.raised
        assert isinstance(error, RuntimeError)
        assert str(error).startswith(f"unexpected ASGI message '{messages[-1]['type']}'")
