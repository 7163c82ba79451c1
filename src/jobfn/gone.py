"""Answering a client that has gone is no error: what each event loop raises then is let go."""

from starlette.types import Message, Send


async def answer(send: Send, start: Message, body: bytes) -> None:
    """Send an answer; where nobody is there to read it, that is the end of it.

    Args:
        send: ASGI's.
        start: The ``http.response.start`` message.
        body: All of the body.
    """
    try:
        await send(start)
        await send({"type": "http.response.body", "body": body})
    except OSError:
        pass
    except RuntimeError as error:  # uvloop, of a connection that it has closed and not told of yet
        if "closed" not in str(error):
            raise
