"""``is_disconnected`` on the embedded server."""

import asyncio

import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.http.messages import is_disconnected
from support.http import BOTH_LOOPS, RecordingApp, connected, read_all, request, respond


async def pass_on(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


@BOTH_LOOPS
@pytest.mark.parametrize("middleware_count", [0, 1, 2])
async def test_is_disconnected_before_and_after_the_client_closes(middleware_count: int) -> None:
    results: list[bool] = []
    read = asyncio.Event()
    closed = asyncio.Event()

    async def read_then_poll(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        results.append(await is_disconnected(receive))
        read.set()
        await closed.wait()
        while not await is_disconnected(receive):
            pass
        results.append(await is_disconnected(receive))
        await respond(send, b"dropped")

    app: ASGIApp = read_then_poll
    for _ in range(middleware_count):
        app = BaseHTTPMiddleware(app, pass_on)
    recording = RecordingApp(app)
    async with connected(recording) as client:
        await client.send(request(method=b"POST", body=b"{}"))
        await read.wait()
        client.writer.close()
        closed.set()
        await recording.finished.get()
        assert (results, recording.raised) == ([False, True], [])


@BOTH_LOOPS
async def test_is_disconnected_leaves_the_connection_usable() -> None:
    async def poll(scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        await respond(send, b"%d" % await is_disconnected(receive))

    async with connected(poll) as client:
        for _ in range(2):
            await client.send(request(method=b"POST", body=b"{}"))
            assert (await client.read_response()).body == b"0"
