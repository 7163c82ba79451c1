"""HTTP/1.1 messages, as far as a proxy needs them: headers, body, end of a message."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import NamedTuple

#: Errors of a connection that the other side closes.
DISCONNECTED = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Message:
    """A request or a response."""

    start_line: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    def with_header(self, name: str, value: str) -> "Message":
        """Return a copy with a header set."""
        return replace(self, headers=(*self.without_header(name).headers, (name, value)))

    def without_header(self, name: str) -> "Message":
        """Return a copy without a header."""
        return replace(self, headers=tuple((key, value) for key, value in self.headers if key.lower() != name))

    def with_body(self, body: bytes) -> "Message":
        """Return a copy with another body."""
        return replace(self, body=body).with_header("content-length", str(len(body)))

    @property
    def path(self) -> str:
        """Target of a request."""
        return self.start_line.split(" ")[1]

    @property
    def status(self) -> int:
        """Status of a response."""
        return int(self.start_line.split(" ")[1])

    @property
    def raw(self) -> bytes:
        """The bytes on the wire."""
        lines = [self.start_line, *(f"{name}: {value}" for name, value in self.headers), "", ""]
        return "\r\n".join(lines).encode("latin-1") + self.body


class BodyPart(NamedTuple):
    """A part of a body: a chunk if the body is chunked, otherwise all of it."""

    raw: bytes
    content: bytes

    def cut(self, length: int) -> "BodyPart":
        """Return the first bytes of the part."""
        start = self.raw.index(self.content)
        return BodyPart(self.raw[:length], self.content[: max(length - start, 0)])


async def read_head(reader: asyncio.StreamReader) -> Message | None:
    """Read the next message without its body. Return None if the connection ends between two messages.

    Raises:
        OSError: The connection broke.
        IncompleteReadError: The connection ended within the head.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    start_line, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Message(start_line, tuple((name, value.strip()) for name, _, value in pairs), b"")


async def read_body(reader: asyncio.StreamReader, head: Message) -> AsyncIterator[BodyPart]:
    """Yield the parts of a body as they arrive.

    Raises:
        OSError: The connection broke.
        IncompleteReadError: The connection ended within the body.
    """
    if head.header("transfer-encoding") != "chunked":
        body = await reader.readexactly(int(head.header("content-length") or 0))
        yield BodyPart(body, body)
        return
    content = None
    while content != b"":
        line = await reader.readuntil(b"\r\n")
        chunk = await reader.readexactly(int(line, 16) + 2)
        content = chunk[:-2]
        yield BodyPart(line + chunk, content)


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """Read the next message. Return None if the connection ends between two messages.

    Raises:
        OSError: The connection broke.
        IncompleteReadError: The connection ended within the message.
    """
    head = await read_head(reader)
    if head is None:
        return None
    content = b"".join([part.content async for part in read_body(reader, head)])
    return head.without_header("transfer-encoding").with_body(content) if content else head


@contextlib.asynccontextmanager
async def connect(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection that is aborted at the end of the block.

    Raises:
        OSError: Nothing listens on the port.
    """
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def send_request(port: int, request: Message) -> Message:
    """Send a request on a new connection. Return the response.

    Raises:
        OSError: Nothing listens on the port, or the connection broke.
        IncompleteReadError: The connection ended before the end of the response.
    """
    async with connect(port) as (reader, writer):
        writer.write(request.raw)
        response = await read_message(reader)
        if response is None:
            raise asyncio.IncompleteReadError(b"", None)
        return response
