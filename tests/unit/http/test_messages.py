"""Reading bodies and sending responses in ASGI messages."""

from collections.abc import Iterable

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive

from jobfn.errors import PayloadTooLarge
from jobfn.http.messages import read_body, send_response


def receiving(messages: Iterable[Message]) -> Receive:
    remaining = iter(messages)

    async def receive() -> Message:
        return next(remaining)

    return receive


async def send_failing_with(error: Exception) -> None:
    async def send(_message: Message) -> None:
        raise error

    await send_response(send, 200, [], b"ok")


@pytest.mark.parametrize(
    "error", [OSError(), ConnectionResetError(), RuntimeError("unable to perform operation; the handler is closed")]
)
async def test_send_response_ignores_a_disconnected_client(error: Exception) -> None:
    await send_failing_with(error)


@pytest.mark.parametrize("error", [RuntimeError("Expected ASGI message"), ValueError("closed")])
async def test_send_response_raises_other_errors(error: Exception) -> None:
    with pytest.raises(type(error)):
        await send_failing_with(error)


async def test_send_response_sends_start_and_body() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_response(send, 200, [(b"content-length", b"2")], b"ok")
    assert sent == [
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]},
        {"type": "http.response.body", "body": b"ok"},
    ]


async def test_read_body_joins_parts_with_and_without_a_body_key() -> None:
    receive = receiving(
        [
            {"type": "http.request", "body": b"a", "more_body": True},
            {"type": "http.request", "more_body": True},
            {"type": "http.request", "body": b"b"},
        ]
    )
    assert await read_body(receive, limit=2) == b"ab"


async def test_read_body_stops_at_the_limit() -> None:
    with pytest.raises(PayloadTooLarge):
        await read_body(receiving([{"type": "http.request", "body": b"ab", "more_body": True}]), limit=1)


@pytest.mark.parametrize("content_length", [b"2", b"1" * 5000])
async def test_read_body_reads_nothing_if_the_declared_length_is_over_the_limit(content_length: bytes) -> None:
    with pytest.raises(PayloadTooLarge):
        await read_body(receiving([]), limit=1, content_length=content_length)


async def test_read_body_ignores_an_invalid_content_length() -> None:
    receive = receiving([{"type": "http.request", "body": b"a"}])
    assert await read_body(receive, limit=1, content_length=b"-2") == b"a"


async def test_read_body_raises_if_the_client_disconnects() -> None:
    receive = receiving([{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}])
    with pytest.raises(ClientDisconnect):
        await read_body(receive, limit=9)
