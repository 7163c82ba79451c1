"""POST the same request over some connections for some seconds: ``URL BODY CONNECTIONS SECONDS``.

One request is under way on each connection (no pipelining). Prints how many were answered with 200, and the seconds.
"""

import asyncio
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop


class Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes) -> None:
        self.answered = 0
        self.complaint: str | None = None
        self._request = request
        self._rest = b""
        self._stopped = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Send the next one when an answer is complete."""
        data = self._rest + data
        head = data.find(b"\r\n\r\n")
        if head < 0:
            self._rest = data
            return
        at = data.lower().find(b"content-length:", 0, head)
        end = head + 4 + int(data[at + 15 : data.find(b"\r\n", at)])
        if at < 0 or len(data) < end:
            self._rest = data
            return
        self._rest = b""
        if not data.startswith(b"HTTP/1.1 200"):
            self.complaint = f"no 200: {data[:300]!r}"
            self.stop()
            return
        self.answered += 1
        if not self._stopped and self._transport is not None:
            self._transport.write(self._request)

    def stop(self) -> None:
        """Send no more."""
        self._stopped = True
        if self._transport is not None:
            self._transport.close()


async def main(url: str, body: str, connections: int, seconds: float) -> None:
    """Run it."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body.encode())}\r\n\r\n{body}"
    ).encode()
    loop = asyncio.get_running_loop()
    clients = []
    began = time.perf_counter()
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: Client(request), host, port)
        clients.append(client)
    await asyncio.sleep(seconds)
    answered = sum(client.answered for client in clients)
    took = time.perf_counter() - began
    for client in clients:
        client.stop()
    if complaints := [client.complaint for client in clients if client.complaint is not None]:
        sys.exit(complaints[0])
    print(answered, took)


if __name__ == "__main__":
    _, target, text, number, duration = sys.argv
    uvloop.run(main(target, text, int(number), float(duration)))
