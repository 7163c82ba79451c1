"""Read a whole request body and send a whole response, for the ASGI apps of both sides."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Send

from jobfn.errors import PayloadTooLarge

#: Timeout of discarding the rest of a body that was refused: see ``send_response``.
LINGER_SECONDS: Final = 5.0
#: Key of the ASGI scope of requests that come from this machine for sure: see ``http/loopback.py``.
LOCAL_REQUEST: Final = "jobfn.local"
#: Digits of the largest 64-bit integer. Python refuses to parse integers of thousands of digits.
_MAX_DIGITS: Final = 19
#: Maximum number of loop turns to wait for a disconnect. Two of Starlette's ``BaseHTTPMiddleware`` need seven.
_DISCONNECT_TURNS: Final = 8


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


async def send_response(
    send: Send,
    status: int,
    headers: Sequence[tuple[bytes, bytes]],
    body: bytes,
    *,
    unread: Receive | None = None,
    linger_seconds: float = LINGER_SECONDS,
) -> None:
    """Send a whole response. A client that has disconnected is not an error.

    Args:
        send: ASGI's.
        status: The status.
        headers: The raw headers.
        body: The body.
        unread: ``receive``, if the request's body was not read and the response closes the connection. The rest is
            then discarded before the close: a close while the client is sending would reset the connection, and many
            clients discard the response of a connection that was reset.
        linger_seconds: Timeout of that.
    """
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if unread is not None:
            await send({"type": "http.response.body", "body": body, "more_body": True})
            await _discard_body(unread, linger_seconds)
            body = b""
        await send({"type": "http.response.body", "body": body})
    except (OSError, RuntimeError) as error:
        if not is_disconnect(error):
            raise


async def _discard_body(receive: Receive, timeout_seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            while (await receive()).get("more_body"):
                pass


def is_disconnect(error: OSError | RuntimeError) -> bool:
    """Return whether an error of ``send`` means that the client has disconnected."""
    # uvloop raises a RuntimeError on a closed connection before it calls connection_lost
    return isinstance(error, OSError) or "closed" in str(error)


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
