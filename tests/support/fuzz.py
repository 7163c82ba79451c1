"""What the fuzz tests speak of: requests as raw bytes, answers as a strict client reads them, servers and a sink.

Requests go over plain sockets, because a client library would refuse to send most of them.
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

from jobfn.http.server import HttpServer, bind
from support.network import LOOPBACK

#: Longer than this no answer may take: a server that needs more is said to hang.
ANSWER_SECONDS = 10.0
#: In every value that a payload may hold and an answer or a log may not. Nothing that looks like a field's name: a
#: field that a task forbids is told by it.
CANARY = "c4n4ry!"
#: ``make fuzz`` sends ten times as many requests, others each time; the short form sends the same ones every time.
IS_LONG = os.environ.get("FUZZ") == "long"
TIMES = 10 if IS_LONG else 1

#: After so many requests a server has seen everything once, and its memory is measured.
WARM_AFTER = 300 * TIMES

Headers = list[tuple[bytes, bytes]]


@dataclass
class Answer:
    """An HTTP response.

    Attributes:
        status: Its status.
        headers: Names in lower case.
        body: Its body.
    """

    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        """The value of a header that is there once at most."""
        found = [value for key, value in self.headers if key == name]
        assert len(found) < 2, f"{name!r} stands {len(found)} times in the answer"
        return found[0] if found else None

    @property
    def is_refusal_of_http(self) -> bool:
        """Whether it is the server's answer to what is no HTTP: no request has reached us then."""
        return self.status == 400 and (b"content-type", b"text/plain; charset=utf-8") in self.headers

    @property
    def content(self) -> Any:
        """The body's JSON."""
        assert self.header(b"content-type") == b"application/json", self
        return json.loads(self.body)


class _Reader:
    """Collects what httptools' parser says of the responses on one connection.

    Args:
        bodiless: They are answers to HEAD.
    """

    def __init__(self, *, bodiless: bool) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._bodiless = bodiless
        self._answer = Answer()
        self.answers: list[Answer] = []

    def feed(self, data: bytes) -> None:
        if self._bodiless:  # the parser would wait for the body that Content-Length speaks of
            data = data.replace(b"\r\ncontent-length: ", b"\r\nx-content-length: ")
        self._parser.feed_data(data)

    @property
    def is_amid_an_answer(self) -> bool:
        return self._answer.status != 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers.append((name.lower().removeprefix(b"x-") if self._bodiless else name.lower(), value))

    def on_headers_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if self._bodiless:
            self._end()

    def on_body(self, body: bytes) -> None:
        self._answer.body += body

    def on_message_complete(self) -> None:
        if self._answer.status != 100:  # to be continued
            self._end()

    def _end(self) -> None:
        if not self._bodiless or self._answer.status:
            self.answers.append(self._answer)
        self._answer = Answer()


def request_bytes(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    """A request as it goes onto the wire, whatever it holds.

    CONNECT has no content (RFC 9110, 9.3.6): what follows its head would be another request, and have its own answer.
    """
    body = b"" if method == b"CONNECT" else body
    lines = [b"%s %s HTTP/1.1" % (method, target), *(b"%s: %s" % header for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def ends_early(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether one of these values ends the head that it stands in: what follows is another request then."""
    return any(b"\r\n\r\n" in value + b"\r\n" for _, value in headers)


def exchange(port: int, *parts: bytes, answers: int = 1, method: bytes = b"") -> list[Answer]:
    """Send these bytes on one connection and read so many answers, fewer only if the server closes it.

    Raises:
        TimeoutError: The server hangs: it neither answers nor closes.
    """
    reader = _Reader(bodiless=method == b"HEAD")
    with socket.create_connection((LOOPBACK, port), timeout=ANSWER_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                connection.sendall(part)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was refused before its end; the answer may be there all the same
        deadline = time.monotonic() + ANSWER_SECONDS
        while len(reader.answers) < answers:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no {answers} answers within {ANSWER_SECONDS} s: {reader.answers}")
            try:
                data = connection.recv(65_536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not reader.is_amid_an_answer, "an answer that was cut short"
                break
            reader.feed(data)
    return reader.answers


class ServerProcess:
    """A server under test, in a process of its own.

    Args:
        command: What starts it.
        env: Its environment.
        log: Where its output goes.
    """

    def __init__(self, command: list[str], *, env: dict[str, str], log: Path, cwd: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self._log.read_text("utf-8", "replace")

    @property
    def memory_bytes(self) -> int:
        """What it holds of the machine's memory now."""
        return int(psutil.Process(self._process.pid).memory_info().rss)

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def until_said(self, text: str, *, seconds: float = 30.0) -> str:
        """Wait until a line holds this text; returns it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.is_running:
            for line in self.output.splitlines():
                if text in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{text!r} was not said in:\n{self.output}")

    def stop(self) -> int:
        """End it as an orchestrator does; returns its exit code."""
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise


class ReportSink:
    """A callback server that only counts: how many reports came to which path. It runs in a thread of its own."""

    def __init__(self) -> None:
        self.reports: Counter[str] = Counter()
        self._loop = asyncio.new_event_loop()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._take(scope, receive, send)

        self._server = HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._server.start(), self._loop).result(10)

    async def _take(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body", False):
            pass
        path: str = scope["path"]
        self.reports[path] += 1
        status = int(path.split("/")[1])  # the path says how to answer
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass(repr=False)
class Watched:
    """A server under test: where it listens, what it was asked, and whether its memory stays flat.

    Attributes:
        server: Its process.
        port: Where it listens.
        requests: How many it has been sent.
        warm_bytes: What it held once it had seen ``WARM_AFTER`` requests.
    """

    server: ServerProcess
    port: int
    requests: int = 0
    warm_bytes: int = 0

    def ask(self, *parts: bytes, answers: int = 1, method: bytes = b"") -> list[Answer]:
        """See ``exchange``."""
        self.requests += answers
        if self.requests >= WARM_AFTER and not self.warm_bytes:
            self.warm_bytes = self.server.memory_bytes
        return exchange(self.port, *parts, answers=answers, method=method)

    @property
    def grown_bytes(self) -> int:
        """How much more memory it holds than when it was warm; 0 where it never was."""
        return self.server.memory_bytes - self.warm_bytes if self.warm_bytes else 0


def fuzz(examples: int) -> hypothesis.settings:
    """The settings of a test that takes so many examples in its short form."""
    return hypothesis.settings(
        max_examples=examples * TIMES,
        derandomize=not IS_LONG,
        deadline=None,  # the answers have one of their own
        database=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow],
    )


def lines_with(text: str, output: str) -> Iterator[str]:
    """The lines of a log that hold this text."""
    return (line for line in output.splitlines() if text in line)
