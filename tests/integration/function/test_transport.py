"""HTTP out, against servers that do what servers do."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from starlette.responses import JSONResponse

from jobfn.errors import TransportError
from jobfn.hosting import HttpServer, bind
from jobfn.transport import KEEP_ALIVE_SECONDS, MAX_ANSWER_BYTES, AiohttpTransport
from support import LOOPBACK, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def transport() -> AsyncIterator[AiohttpTransport]:
    """One that is closed at the end."""
    opened = AiohttpTransport()
    yield opened
    await opened.aclose()


class Peer:
    """A server by hand: reads requests, and answers each with the next bytes; None cuts the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.hold = asyncio.Event()

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if answer is None:
                    break
                if answer == b"hang":
                    await self.hold.wait()
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()


Serving = Callable[[Peer], Awaitable[str]]


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    """Serve a peer; returns its base URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(peer: Peer) -> str:
            server = await asyncio.start_server(peer.talk, LOOPBACK, 0)
            stack.callback(server.close)
            stack.callback(peer.hold.set)
            return f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

        yield start


async def test_a_request_to_the_byte(transport: AiohttpTransport, serving: Serving) -> None:
    """The path and query as given, the headers as given, the body, and little besides."""
    peer = Peer(OK)
    url = await serving(peer)
    answer = await transport.post(
        f"{url}/email:send%2Fnow%20a/%C3%BC?a=%2F&b=c:d@e", body=b"{}", headers={"X-Job-Id": "7"}
    )
    assert (answer.status, answer.body) == (200, b"ok")
    head, _, body = peer.requests[0].partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert first == b"POST /email:send%2Fnow%20a/%C3%BC?a=%2F&b=c:d@e HTTP/1.1"
    assert sorted(line.split(b":")[0].lower() for line in lines) == [
        *(b"accept", b"accept-encoding", b"content-length", b"content-type", b"host", b"user-agent", b"x-job-id")
    ]
    assert b"Accept-Encoding: identity" in lines
    assert body == b"{}"


async def test_a_connection_is_used_again(transport: AiohttpTransport, serving: Serving) -> None:
    """Ten requests, one connection; answers of every status are answers; header names have no case."""
    statuses = [200, 204, 404, 500, 503]
    peer = Peer(*(b"HTTP/1.1 %d X\r\nX-Job-Error: true\r\nContent-Length: 0\r\n\r\n" % status for status in statuses))
    url = await serving(peer)
    answers = [await transport.post(url, body=b"", headers={}) for _ in statuses]
    assert [answer.status for answer in answers] == statuses
    assert answers[0].headers["x-job-error"] == "true"
    assert peer.connections == 1
    assert KEEP_ALIVE_SECONDS < 5, "servers drop idle connections after 5 seconds"


async def test_a_redirect_is_not_followed(transport: AiohttpTransport, serving: Serving) -> None:
    """The answer is the redirect: job headers are not for strangers."""
    peer = Peer(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n")
    answer = await transport.post(await serving(peer), body=b"", headers={})
    assert (answer.status, len(peer.requests)) == (307, 1)


async def test_no_cookie_is_kept(transport: AiohttpTransport, serving: Serving) -> None:
    """What one function sets is not told to the next."""
    peer = Peer(b"HTTP/1.1 200 X\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
    url = (await serving(peer)).replace(LOOPBACK, "localhost")
    for _ in range(2):
        await transport.post(url, body=b"", headers={})
    assert b"cookie" not in peer.requests[1].lower()


@pytest.mark.parametrize("size", [MAX_ANSWER_BYTES - 1, MAX_ANSWER_BYTES, MAX_ANSWER_BYTES + 1, 5 * MAX_ANSWER_BYTES])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_big_answer_is_cut(
    size: int,
    chunked: bool,  # noqa: FBT001  - a column
    transport: AiohttpTransport,
    serving: Serving,
) -> None:
    """At most a mebibyte is read; the rest is not waited for; the next request is not confused by it."""
    body = b"x" * size
    sent = b"Content-Length: %d\r\n\r\n%b" % (size, body)
    if chunked:
        sent = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    peer = Peer(b"HTTP/1.1 200 OK\r\n" + sent, OK)
    url = await serving(peer)
    answer = await transport.post(url, body=b"", headers={})
    assert len(answer.body) == min(size, MAX_ANSWER_BYTES)
    assert (await transport.post(url, body=b"", headers={})).body == b"ok"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "Server disconnected"),
        (b"garbage\r\n\r\n", "Expected HTTP/"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "Response payload is not completed"),
    ],
)
async def test_no_answer_is_an_error_that_names_the_url(
    answer: bytes | None, reason: str, transport: AiohttpTransport, serving: Serving
) -> None:
    """Cut, garbled or broken off: what happened and where, by one type."""
    answers = [answer] if answer is None or b"half" not in answer else [answer, None]

    class Once(Peer):
        async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answers[0] or b"")
            writer.close()

    url = await serving(Once(*answers))
    with pytest.raises(TransportError, match=rf"^POST {url}/a%2Fb failed: ") as caught:
        await transport.post(f"{url}/a%2Fb", body=b"", headers={})
    assert reason in str(caught.value)
    assert caught.value.__cause__ is not None


async def test_nobody_there(transport: AiohttpTransport) -> None:
    """A refused connection names the URL, without the password in it."""
    port = free_port()
    with pytest.raises(TransportError) as caught:
        await transport.post(f"http://ada:hunter2@{LOOPBACK}:{port}/x?a=b", body=b"", headers={})
    assert str(caught.value).startswith(f"POST http://{LOOPBACK}:{port}/x?… failed: Cannot connect to host")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://", "http://127.0.0.1:99999/", "ftp://127.0.0.1/", "nowhere", "http://[::1/", "http://no.invalid/"]
)
async def test_a_url_that_leads_nowhere(url: str, transport: AiohttpTransport) -> None:
    """No scheme, no host, no port: the same error."""
    with pytest.raises(TransportError, match=r"^POST .* failed: ."):
        await transport.post(url, body=b"", headers={}, timeout_seconds=10)


async def test_a_reset_connection(transport: AiohttpTransport) -> None:
    """A peer that slams the door."""

    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        linger_zero = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        writer.transport.abort()

    server = await asyncio.start_server(slam, LOOPBACK, 0)
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(TransportError, match=rf"^POST {url} failed: "):
        await transport.post(url, body=b"", headers={})
    server.close()


async def test_an_answer_that_does_not_come_in_time(transport: AiohttpTransport, serving: Serving) -> None:
    """The whole exchange has so many seconds."""
    url = await serving(Peer(b"hang"))
    with pytest.raises(TransportError, match=rf"^POST {url} got no answer within 0.05 s$"):
        await transport.post(url, body=b"", headers={}, timeout_seconds=0.05)


async def test_a_connection_that_is_not_made_in_time() -> None:
    """A peer whose queue is full lets nobody in; the request itself would have had longer."""
    transport = AiohttpTransport(connect_seconds=0.1)
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        with pytest.raises(TransportError, match=rf"^POST {url} could not connect in 0.1 s$"):
            await transport.post(url, body=b"", headers={}, timeout_seconds=30)
    await transport.aclose()


async def test_a_wait_for_a_free_connection_is_part_of_the_exchange(serving: Serving) -> None:
    """With every connection in use, a request waits its turn, and no longer than its time."""
    transport = AiohttpTransport(limit=1)
    peer = Peer(b"hang", OK)
    url = await serving(peer)
    first = asyncio.create_task(transport.post(url, body=b"", headers={}))
    while not peer.requests:  # noqa: ASYNC110  - what is awaited lies behind a socket
        await asyncio.sleep(0.005)
    with pytest.raises(TransportError, match="got no answer within"):
        await transport.post(url, body=b"", headers={}, timeout_seconds=0.05)
    second = asyncio.create_task(transport.post(url, body=b"", headers={}, timeout_seconds=10))
    peer.hold.set()
    with pytest.raises(TransportError, match="Server disconnected"):
        await first
    assert (await second).body == b"ok"
    await transport.aclose()


async def test_it_opens_again_after_it_was_closed(transport: AiohttpTransport, serving: Serving) -> None:
    """Closing twice does no harm either."""
    url = await serving(Peer(OK))
    for _ in range(2):
        assert (await transport.post(url, body=b"", headers={})).status == 200
        await transport.aclose()
        await transport.aclose()


def test_it_opens_again_in_another_loop() -> None:
    """A transport that outlives its loop, as in a test suite of a user's, opens a session of the new one."""
    transport = AiohttpTransport()

    async def use() -> int:
        server = HttpServer(JSONResponse("ok"), bind(LOOPBACK, 0), shutdown_seconds=1, lifespan=False)
        await server.start()
        answer = await transport.post(f"http://{LOOPBACK}:{server.port}", body=b"", headers={"Connection": "close"})
        await server.stop()
        return answer.status

    async def use_and_close() -> int:
        status = await use()
        await transport.aclose()
        return status

    with pytest.warns(ResourceWarning, match="Unclosed client session"):
        assert (asyncio.run(use()), asyncio.run(use_and_close())) == (200, 200)


async def test_tls_is_checked(transport: AiohttpTransport) -> None:
    """A certificate that nobody vouches for is refused; with its authority handed in, it is not."""
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    peer = Peer(OK)
    server = await asyncio.start_server(peer.talk, LOOPBACK, 0, ssl=server_context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/x"
    with pytest.raises(TransportError, match=rf"^POST {url} failed: .*certificate verify failed"):
        await transport.post(url, body=b"", headers={})
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    trusting = AiohttpTransport(ssl_context=client_context)
    assert (await trusting.post(url, body=b"{}", headers={})).body == b"ok"
    wrong_name = url.replace("localhost", LOOPBACK)
    with pytest.raises(TransportError, match="certificate verify failed"):
        await trusting.post(wrong_name, body=b"", headers={})
    await trusting.aclose()
    server.close()
