"""Read a whole request body and send a whole response, for the ASGI apps of both sides.

Behind jobfn's own server, without middleware in between, both skip the ASGI messages: the body is taken from the
request cycle if it has arrived, and the response is written in one call.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from jobfn.errors import PayloadTooLarge
from jobfn.http.request_cycle import RequestCycle

#: Digits of the largest 64-bit integer. Python refuses to parse integers of thousands of digits.
_MAX_DIGITS: Final = 19
#: Maximum number of loop turns to wait for a disconnect. Two of Starlette's ``BaseHTTPMiddleware`` need seven.
_DISCONNECT_TURNS: Final = 8


def buffered_body(receive: Receive, *, limit: int) -> bytes | None:
    """Return the request body if it has arrived completely, else None: ``read_body`` waits for it."""
    cycle = getattr(receive, "__self__", None)
    body = cycle.buffered_body() if type(cycle) is RequestCycle else None
    if body is not None and len(body) > limit:
        raise _too_large(limit)
    return body


async def read_body(receive: Receive, *, limit: int, content_length: bytes | None = None) -> bytes:
    """Read the request body.

    Raises:
        PayloadTooLarge: The body is larger than ``limit``.
        ClientDisconnect: The client disconnected before the end of the body.
    """
    if content_length is not None and _declares_more_than(limit, content_length):
        raise _too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


async def send_response(send: Send, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole response. A client that has disconnected is not an error."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is RequestCycle and cycle.send_response(status, headers, body):
        return
    with ignore_disconnect():
        await send({"type": "http.response.start", "status": status, "headers": [*headers]})
        await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def ignore_disconnect() -> Iterator[None]:
    """Suppress the errors of a ``send`` whose client has disconnected."""
    try:
        yield
    except OSError:
        pass
    except RuntimeError as error:  # uvloop raises this on a closed connection before it calls connection_lost
        if "closed" not in str(error):
            raise


async def is_disconnected(receive: Receive) -> bool:
    """Return whether the client has disconnected. Call it after the whole body was read.

    It returns within a few turns of the event loop (about 13 µs on uvloop), so a disconnect that the server has not
    noticed yet is missed.
    """
    waiting = asyncio.ensure_future(receive())
    try:
        for _ in range(_DISCONNECT_TURNS):
            await asyncio.sleep(0)
            if waiting.done():
                return bool(waiting.result()["type"] == "http.disconnect")
    finally:
        waiting.cancel()
    return False


def _declares_more_than(limit: int, content_length: bytes) -> bool:
    return content_length.isdigit() and (len(content_length) > _MAX_DIGITS or int(content_length) > limit)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over {limit} bytes")
