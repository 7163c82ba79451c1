"""Bodies and answers, whole, over ASGI's messages; that the same goes without them is for the server's own tests."""

from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from jobfn.errors import PayloadTooLarge
from jobfn.http.messages import buffered_body, read_body, send_response


async def send_raises(error: Exception) -> None:
    async def send(_message: Message) -> None:
        raise error

    await send_response(send, 200, [], b"ok")


@pytest.mark.parametrize(
    "error", [OSError(), ConnectionResetError(), RuntimeError("unable to perform operation; the handler is closed")]
)
async def test_that_nobody_listens_is_no_error(error: Exception) -> None:
    """Whichever way the event loop says it."""
    await send_raises(error)


@pytest.mark.parametrize("error", [RuntimeError("Expected ASGI message"), ValueError("closed")])
async def test_all_else_is_one(error: Exception) -> None:
    """A mistake of ours is not let go."""
    with pytest.raises(type(error)):
        await send_raises(error)


async def test_an_answer_is_sent_whole() -> None:
    """Start, and body."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_response(send, 200, [(b"content-length", b"2")], b"ok")
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]},
        {"type": "http.response.body", "body": b"ok"},
    ]


class Client:
    """Sends these messages, as ASGI servers put them."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = iter(messages)

    async def receive(self) -> Message:
        """The next one."""
        return next(self._messages)


async def test_a_body_comes_in_parts() -> None:
    """Some servers leave out what is empty."""
    client = Client(
        [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "more_body": True},
            {"type": "http.request", "body": b"b"},
        ]
    )
    assert buffered_body(client.receive, limit=2) is None
    assert await read_body(client.receive, limit=2) == b"ab"


async def test_a_body_that_is_too_long_is_not_read_on() -> None:
    """Its rest stays where it is."""
    client = Client([{"type": "http.request", "body": b"ab", "more_body": True}])
    with pytest.raises(PayloadTooLarge):
        await read_body(client.receive, limit=1)


@pytest.mark.parametrize("said", [b"2", b"1" * 5000])
async def test_a_body_that_says_that_it_is_too_long_is_not_read(said: bytes) -> None:
    """None of it; what is no number says nothing."""
    with pytest.raises(PayloadTooLarge):
        await read_body(Client([]).receive, limit=1, content_length=said)
    client = Client([{"type": "http.request", "body": b"a"}])
    assert await read_body(client.receive, limit=1, content_length=b"-2") == b"a"


async def test_a_client_that_goes_in_the_middle() -> None:
    """There is no half of a body."""
    client = Client([{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}])
    with pytest.raises(ClientDisconnect):
        await read_body(client.receive, limit=9)
