"""POST one request repeatedly: ``URL BODY CONNECTIONS SECONDS``.

One request is in flight on each connection (no pipelining). Prints the number of 200 responses and the seconds.
"""

import asyncio
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import uvloop


class LoadConnection(asyncio.Protocol):
    """One connection."""

    def __init__(self, request: bytes) -> None:
        self.responses = 0
        self.error: str | None = None
        self._request = request
        self._buffer = b""
        self._stopped = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Send the next request when a response is complete."""
        data = self._buffer + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self._buffer = data
            return
        length_at = data.lower().find(b"content-length:", 0, head_end)
        end = head_end + 4 + int(data[length_at + 15 : data.find(b"\r\n", length_at)])
        if length_at < 0 or len(data) < end:
            self._buffer = data
            return
        self._buffer = b""
        if not data.startswith(b"HTTP/1.1 200"):
            self.error = f"the response is not 200: {data[:300]!r}"
            self.stop()
            return
        self.responses += 1
        if not self._stopped and self._transport is not None:
            self._transport.write(self._request)

    def stop(self) -> None:
        """Close the connection."""
        self._stopped = True
        if self._transport is not None:
            self._transport.close()


async def main(url: str, body: str, connections: int, seconds: float) -> None:
    """Run the load."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = (
        f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body.encode())}\r\n\r\n{body}"
    ).encode()
    loop = asyncio.get_running_loop()
    clients: list[LoadConnection] = []
    started_at = time.perf_counter()
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: LoadConnection(request), host, port)
        clients.append(client)
    await asyncio.sleep(seconds)
    responses = sum(client.responses for client in clients)
    duration = time.perf_counter() - started_at
    for client in clients:
        client.stop()
    if errors := [client.error for client in clients if client.error is not None]:
        sys.exit(errors[0])
    print(responses, duration)


if __name__ == "__main__":
    _, url_argument, body_argument, connections_argument, seconds_argument = sys.argv
    uvloop.run(main(url_argument, body_argument, int(connections_argument), float(seconds_argument)))
