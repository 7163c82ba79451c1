"""HTTP/1.1 as far as a proxy must understand it: where a message ends, and what its headers say."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

#: What ends when the other side does.
BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response, whole.

    Attributes:
        start: The first line.
        headers: Names and values, in order.
        body: The rest.
    """

    start: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """The value of a header; empty where there is none."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def with_header(self, name: str, value: str) -> "Message":
        """The same with this header instead of what it had by that name."""
        others = tuple((key, old) for key, old in self.headers if key.lower() != name)
        return replace(self, headers=(*others, (name, value)))

    def without_header(self, name: str) -> "Message":
        """The same without what it has by that name."""
        return replace(self, headers=tuple((key, value) for key, value in self.headers if key.lower() != name))

    def with_body(self, body: bytes) -> "Message":
        """The same with another body."""
        return replace(self, body=body).with_header("content-length", str(len(body)))

    @property
    def path(self) -> str:
        """A request's target."""
        return self.start.split(" ")[1]

    @property
    def status(self) -> int:
        """A response's status."""
        return int(self.start.split(" ")[1])

    @property
    def raw(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message; None where the other side has ended between two of them.

    Raises:
        OSError: The connection broke.
        IncompleteReadError: It ended in the middle of a message.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    start, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    message = Message(start, tuple((name, value.strip()) for name, _, value in pairs), b"")
    length = message.header("content-length")
    body = await reader.readexactly(int(length)) if length else b""
    return replace(message, body=body)


@contextlib.asynccontextmanager
async def connected(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of one's own, which ends at once with the block, whatever is under way.

    Raises:
        OSError: Nobody listens there.
    """
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def ask(port: int, request: Message) -> Message:
    """The answer to a request.

    Raises:
        OSError: Nobody listens there, or the connection broke.
        IncompleteReadError: It ended in the middle of the answer, or before it.
    """
    async with connected(port) as (reader, writer):
        writer.write(request.raw)
        answer = await read_message(reader)
        if answer is None:
            raise asyncio.IncompleteReadError(b"", None)
        return answer
