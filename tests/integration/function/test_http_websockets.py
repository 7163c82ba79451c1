"""WebSockets, which our HTTP server leaves to uvicorn's own protocol."""

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from http_support import BOTH_LOOPS, Gates, request, serving
from support import LOOPBACK

pytestmark = BOTH_LOOPS


def sockets_and_pages() -> Starlette:
    """An app with a page, and an echo on a WebSocket."""

    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.close()

    async def page(request: Request) -> Response:
        await request.body()
        return PlainTextResponse(f"{request.method} {request.url.path}")

    return Starlette(routes=[Route("/page", page, methods=["GET", "POST"]), WebSocketRoute("/echo", echo)])


HANDSHAKE = (
    *(b"Connection: Upgrade", b"Upgrade: WebSocket"),
    *(b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
)


async def test_a_websocket() -> None:
    """It is served by uvicorn's own protocol."""
    async with serving(sockets_and_pages()) as served, connect(f"ws://{LOOPBACK}:{served.server.port}/echo") as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_a_websocket_behind_a_request_that_is_answered() -> None:
    """The connection changes hands; its head may come in pieces."""
    async with serving(sockets_and_pages()) as served:
        client = await served.connect()
        await client.send(request(b"/page"))
        assert (await client.answer()).body == b"GET /page"
        handshake = request(b"/echo", *HANDSHAKE)
        await client.send(handshake[:50], handshake[50:])
        answer = await client.head()
        assert (answer.status, answer.headers[b"sec-websocket-accept"]) == (101, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        await client.send(b"\x81\x85\0\0\0\0hello")
        assert await client.reader.readexactly(7) == b"\x81\x05hello"


@pytest.mark.parametrize("together", [True, False])
async def test_a_websocket_behind_a_request_that_is_not_answered(*, together: bool) -> None:
    """That is refused, in its turn."""
    app = Gates()
    async with serving(app) as served:
        client = await served.connect()
        if together:
            await client.send(request(b"/a") + request(b"/echo", *HANDSHAKE))
        else:
            await client.send(request(b"/a"))
            await app.arrived("/a").wait()
            await client.send(request(b"/echo", *HANDSHAKE))
        await app.arrived("/a").wait()
        app.opened("/a").set()
        assert (await client.answer()).body == b"/a 0"
        assert (await client.answer()).status == 400
        assert await client.rest() == b""


@pytest.mark.parametrize("lines", [(b"Content-Length: 5",), (b"Transfer-Encoding: chunked",)])
async def test_a_websocket_with_a_body_is_none(lines: tuple[bytes, ...]) -> None:
    """It is answered as an ordinary request, and the connection closed."""
    async with serving(sockets_and_pages()) as served:
        client = await served.connect()
        await client.send(request(b"/page", *HANDSHAKE, *lines, method=b"POST") + b"5\r\nhello\r\n0\r\n\r\n")
        answer = await client.answer()
        assert (answer.body, answer.headers[b"connection"]) == (b"POST /page", b"close")
        assert await client.rest() == b""
