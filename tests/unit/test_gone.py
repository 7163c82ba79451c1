"""Clients that have gone."""

import pytest
from starlette.types import Message

from jobfn.gone import answer

START = {"type": "http.response.start", "status": 200, "headers": []}


async def send_raises(error: Exception) -> None:
    async def send(_message: Message) -> None:
        raise error

    await answer(send, START, b"ok")


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

    await answer(send, START, b"ok")
    assert sent == [START, {"type": "http.response.body", "body": b"ok"}]
