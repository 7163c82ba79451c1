"""Apps and clients of our HTTP server that do what they should not, or go."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.http.messages import send_response
from support.http import (
    BOTH_LOOPS,
    Watched,
    part,
    request,
    say,
    sending,
    serving,
    start,
)

pytestmark = BOTH_LOOPS


async def by_messages(send: Send) -> None:
    await send(start())
    await send(part(b"hello"))
    await send(part(b"", more=False))


async def at_once(send: Send) -> None:
    await send_response(send, 200, [(b"content-length", b"5")], b"hello")


@pytest.mark.parametrize("give", [by_messages, at_once])
async def test_a_client_that_goes(give: Callable[[Send], Awaitable[None]]) -> None:
    """The app is told when it asks; what it sends then goes nowhere, and is no error."""
    seen: list[str] = []
    arrived = asyncio.Event()

    async def ask_twice(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            seen.append((await receive())["type"])
            arrived.set()
        await give(send)

    app = Watched(ask_twice)
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        await arrived.wait()
        client.writer.close()
        await app.ends.get()
        assert (seen, app.raised) == (["http.request", "http.disconnect", "http.disconnect"], [])


async def test_an_app_that_has_answered_is_told_so() -> None:
    """One that waits for the client to go, such as Starlette's streams, is let go by the end of its answer."""
    seen: list[str] = []

    async def answer_while_waiting(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await say(send, b"done")
        seen.append((await waiting)["type"])
        seen.append((await receive())["type"])

    app = Watched(answer_while_waiting)
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        assert (await client.answer()).body == b"done"
        await app.ends.get()
        assert (seen, app.raised) == (["http.disconnect"] * 2, [])


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("a secret")


async def stops(scope: Scope, receive: Receive, send: Send) -> None:
    raise asyncio.CancelledError


async def returns(scope: Scope, receive: Receive, send: Send) -> None:
    return


@pytest.mark.parametrize("app", [raises, stops, returns])
async def test_an_app_that_does_not_answer(app: ASGIApp) -> None:
    """The client has a 500, and its connection is closed; what waited behind that is not served."""
    watched = Watched(app)
    async with serving(watched) as served:
        client = await served.connect()
        await client.send(request() + request())
        found = await client.answer()
        assert found.line == b"HTTP/1.1 500 Internal Server Error"
        assert (found.headers[b"connection"], found.body) == (b"close", b"Internal Server Error")
        assert await client.rest() == b""
        assert watched.ends.qsize() == 1


async def test_an_app_that_breaks_behind_its_answer() -> None:
    """The client has what it asked for, and may ask again."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await say(send, b"done")
        raise ValueError

    async with serving(app) as served:
        client = await served.connect()
        for _ in range(2):
            await client.send(request())
            assert (await client.answer()).body == b"done"


LENGTH_5 = (b"content-length", b"5")


@pytest.mark.parametrize(
    ("messages", "written"),
    [
        ([start(), part(b"half")], b"4\r\nhalf\r\n"),
        ([start()], b""),
        ([start(LENGTH_5), part(b"half")], b"half"),
        ([start(LENGTH_5)], None),
        ([start(LENGTH_5), part(b"half", more=False)], None),
        ([start(LENGTH_5), part(b"longer", more=False)], None),
        ([start(LENGTH_5), part(b"half"), part(b"longer")], b"half"),
    ],
)
@pytest.mark.parametrize("how", ["ends", "raises"])
async def test_an_answer_that_is_not_finished(messages: list[Message], written: bytes | None, how: str) -> None:
    """It is cut, so that the client can tell: no last chunk, or fewer bytes than its length says; None: not begun."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)
        if how == "raises":
            raise ValueError

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request() + request())
        if written is not None:
            assert (await client.head()).status == 200
        assert await client.rest() == (written or b"")


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-name", b"evil\r\nset-cookie: evil")],
        [(b"x-name", b"evil\n")],
        [(b"x-name", b"evil\r")],
        [(b"x-name", b"\0evil")],
        [(b"x-name\r\nevil", b"")],
        [(b"evil name", b"")],
        [(b"evil:", b"")],
        [(b"", b"evil")],
        [(b"content-length", b"evil")],
    ],
)
@pytest.mark.parametrize("at_once", [False, True])
async def test_headers_that_are_none(headers: list[tuple[bytes, bytes]], *, at_once: bool) -> None:
    """What would end a line, or is no name or length: nothing of that is sent but a 500."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if at_once:
            await send_response(send, 200, headers, b"evil")
        else:
            await send(start(*headers))

    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        said = await client.rest()
        assert said.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"evil" not in said


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([part(b"evil")], b"HTTP/1.1 500 "),
        ([{"type": "http.response.trailers"}], b"HTTP/1.1 500 "),
        ([start(), start((b"evil", b""))], b"HTTP/1.1 200 "),
        ([start(LENGTH_5), part(b"hello", more=False), part(b"evil")], b"HTTP/1.1 200 "),
        ([start(LENGTH_5), part(b"hello", more=False), start((b"evil", b""))], b"HTTP/1.1 200 "),
    ],
)
async def test_messages_out_of_their_order(messages: list[Message], said: bytes) -> None:
    """They raise in the app, and nothing of them is sent."""
    app = sending(*messages)
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request(b"/", b"Connection: close"))
        found = await client.rest()
        assert found.startswith(said)
        assert b"evil" not in found
        assert [type(error) for error in app.raised] == [RuntimeError]
        assert (
            str(app.raised[0])
            == f"unexpected ASGI message '{messages[-1]['type']}': send one start, then bodies until more_body is false"
        )


async def test_an_answer_at_once_behind_one_that_has_begun() -> None:
    """That is out of order as well."""

    async def answer_twice(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send_response(send, 200, [LENGTH_5], b"hello")

    app = Watched(answer_twice)
    async with serving(app) as served:
        client = await served.connect()
        await client.send(request())
        assert (await client.head()).status == 200
        assert await client.rest() == b""
        assert [str(error) for error in app.raised] == [
            "unexpected ASGI message 'http.response.start': send one start, then bodies until more_body is false"
        ]
