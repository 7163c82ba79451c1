"""Fuzz tests: requests as raw bytes, responses as a strict client parses them, server processes and a report sink.

Requests are sent over plain sockets, because a client library would refuse to send most of them.
"""

import asyncio
import json
import os
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools
import hypothesis
import psutil
from starlette.types import Receive, Scope, Send

from jobfn.http.messages import read_body, send_response
from jobfn.http.server import HttpServer, bind
from support.network import LOOPBACK

#: Timeout of one response. A server that takes longer counts as hanging.
RESPONSE_TIMEOUT_SECONDS = 10.0
START_TIMEOUT_SECONDS = 30.0
#: Part of every payload value. It must not appear in a response or log. Field names do not contain it, because an error
#: about a forbidden field names that field.
CANARY = "c4n4ry!"
#: ``make fuzz`` sends 25 times as many requests, with a new seed. The short form always sends the same requests.
IS_LONG = os.environ.get("FUZZ") == "long"
SCALE = 25 if IS_LONG else 1
#: Requests after which a server's caches are full and its memory is measured for the first time.
WARMUP_REQUESTS = 3_000 if IS_LONG else 200

Headers = list[tuple[bytes, bytes]]


@dataclass
class FuzzResponse:
    """A response with header names in lower case."""

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        """Return the value of a header that occurs at most once."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name!r} occurs {len(values)} times in the response"
        return values[0] if values else None

    @property
    def is_from_parser(self) -> bool:
        """Whether the server rejected bytes that are not HTTP, so that the app saw no request."""
        return self.status == 400 and (b"content-type", b"text/plain; charset=utf-8") in self.headers

    @property
    def content(self) -> Any:
        assert self.header(b"content-type") == b"application/json", self
        return json.loads(self.body)


class _ResponseReader:
    """httptools callbacks that collect the responses on one connection."""

    def __init__(self, *, is_head: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._is_head = is_head
        self._response = FuzzResponse()
        self.responses: list[FuzzResponse] = []

    def feed(self, data: bytes) -> None:
        if self._is_head:  # hide the length, or the parser would wait for a body
            data = data.replace(b"\r\ncontent-length: ", b"\r\nx-content-length: ")
        self._parser.feed_data(data)

    @property
    def is_incomplete(self) -> bool:
        return self._response.status != 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._response.headers.append((name.lower().removeprefix(b"x-") if self._is_head else name.lower(), value))

    def on_headers_complete(self) -> None:
        self._response.status = self._parser.get_status_code()
        if self._is_head:
            self._complete()

    def on_body(self, body: bytes) -> None:
        self._response.body += body

    def on_message_complete(self) -> None:
        if self._response.status != 100:
            self._complete()

    def _complete(self) -> None:
        if not self._is_head or self._response.status:
            self.responses.append(self._response)
        self._response = FuzzResponse()


def request_bytes(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    """Return the bytes of a request, valid or not.

    CONNECT has no content (RFC 9110, 9.3.6): bytes after its head would be another request with another response.
    """
    body = b"" if method == b"CONNECT" else body
    lines = [b"%s %s HTTP/1.1" % (method, target), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def ends_head_early(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Return whether a header value ends the head, so that the rest is another request."""
    return any(b"\r\n\r\n" in value + b"\r\n" for _, value in headers)


def exchange(port: int, *parts: bytes, count: int = 1, method: bytes = b"") -> list[FuzzResponse]:
    """Send bytes on one connection and read ``count`` responses, or fewer if the server closes it."""
    reader = _ResponseReader(is_head=method == b"HEAD")
    with socket.create_connection((LOOPBACK, port), timeout=RESPONSE_TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # rejected before the end of the request; the response may be readable all the same
        deadline = time.monotonic() + RESPONSE_TIMEOUT_SECONDS
        while len(reader.responses) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {count} responses: {reader.responses}")
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not reader.is_incomplete, "a response was cut off"
                break
            reader.feed(data)
    return reader.responses


class ServerProcess:
    """A server under test in a process."""

    def __init__(self, command: list[str], *, env: dict[str, str], port: int, log: Path, cwd: Path) -> None:
        self._port = port
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def output(self) -> str:
        return self._log.read_text("utf-8", "replace")

    @property
    def memory_bytes(self) -> int:
        """Resident memory."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while time.monotonic() < deadline and self.is_running:
            try:
                socket.create_connection((LOOPBACK, self._port)).close()
            except ConnectionRefusedError:
                time.sleep(0.02)
            else:
                return
        raise AssertionError(f"nothing listens on port {self._port}:\n{self.output}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


class ReportSink:
    """A callback server in a thread that counts reports by path. The first path segment is the status to send."""

    def __init__(self) -> None:
        self.reports: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()
        self._server = HttpServer(self, bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive, limit=2**30)
        path: str = scope["path"]
        self.reports[path] += 1
        await send_response(send, int(path.split("/")[1]), [(b"content-length", b"2")], b"{}")

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass(repr=False)
class FuzzTarget:
    """A server under test, with the number of requests that it received and its memory after the warm-up."""

    process: ServerProcess
    port: int
    requests: int = 0
    warm_memory_bytes: int = 0

    def send(self, *parts: bytes, count: int = 1, method: bytes = b"") -> list[FuzzResponse]:
        """See ``exchange``."""
        self.requests += count
        if self.requests >= WARMUP_REQUESTS and not self.warm_memory_bytes:
            self.warm_memory_bytes = self.process.memory_bytes
        return exchange(self.port, *parts, count=count, method=method)

    def send_then_eof(self, data: bytes) -> bytes:
        """Send bytes, shut down writing, and read until the server closes the connection."""
        self.requests += 1
        received = b""
        with socket.create_connection((LOOPBACK, self.port), timeout=RESPONSE_TIMEOUT_SECONDS) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            try:
                while chunk := connection.recv(65_536):
                    received += chunk
            except ConnectionResetError:
                pass
        return received

    @property
    def memory_growth_bytes(self) -> int:
        """Memory that was added since the warm-up; 0 before it."""
        return self.process.memory_bytes - self.warm_memory_bytes if self.warm_memory_bytes else 0


def fuzz(examples: int) -> hypothesis.settings:
    """Return the settings of a test with this number of examples in the short form."""
    return hypothesis.settings(
        max_examples=examples * SCALE,
        derandomize=not IS_LONG,
        deadline=None,  # responses have their own
        database=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )


def lines_with(text: str, output: str) -> Iterator[str]:
    return (line for line in output.splitlines() if text in line)
