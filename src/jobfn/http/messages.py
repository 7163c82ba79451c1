"""A request's body and its answer, each whole, as both sides' apps read and send them.

ASGI hands them over in messages, which suits what streams. Behind our own server (``http_exchange.py``), with nobody
between it and the app, what has come is taken and the answer is given without messages.
"""

from collections.abc import Iterable
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from jobfn.errors import PayloadTooLarge
from jobfn.http.request_cycle import RequestCycle

#: Of a length that a number of 64 bits holds; Python reads no number of thousands.
_MAX_DIGITS: Final = 19


def buffered_body(receive: Receive, *, limit: int) -> bytes | None:
    """The request's body, where it has come whole already; None: ``body_of`` has to be waited for.

    Args:
        receive: ASGI's.
        limit: So many bytes it may have.

    Raises:
        PayloadTooLarge: It is longer.
    """
    exchange = getattr(receive, "__self__", None)
    body = exchange.take_all() if type(exchange) is RequestCycle else None
    if body is not None and len(body) > limit:
        raise PayloadTooLarge(f"the body is over {limit} bytes")
    return body


async def body_of(receive: Receive, *, limit: int, said: bytes | None = None) -> bytes:
    """The request's body.

    Args:
        receive: ASGI's.
        limit: So many bytes it may have; a longer one is not read to its end.
        said: How long it says it is, its ``content-length``: one that says too much is not read at all.

    Raises:
        PayloadTooLarge: It is longer.
        ClientDisconnect: The client was gone before its end.
    """
    if said is not None and said.isdigit() and (len(said) > _MAX_DIGITS or int(said) > limit):
        raise PayloadTooLarge(f"the body is over {limit} bytes")
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        length += len(chunk)
        if length > limit:
            raise PayloadTooLarge(f"the body is over {limit} bytes")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def answer(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """Answer with all of a body. Where nobody is there to read it, that is the end of it, and no error.

    Args:
        send: ASGI's.
        status: HTTP's.
        headers: As ASGI has them, ``content-length`` among them.
        body: All of it.
    """
    exchange = getattr(send, "__self__", None)
    if type(exchange) is RequestCycle and exchange.answer(status, headers, body):
        return
    try:
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        await send({"type": "http.response.body", "body": body})
    except OSError:
        pass
    except RuntimeError as error:  # uvloop, of a connection that it has closed and not told of yet
        if "closed" not in str(error):
            raise
