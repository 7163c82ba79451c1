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
from jobfn.http.client import KEEP_ALIVE_SECONDS, HttpTransport
from jobfn.http.client_connection import MAX_RESPONSE_BYTES
from jobfn.http.server import HttpServer, bind
from support.network import LOOPBACK, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    """One that is closed at the end."""
    opened = HttpTransport()
    yield opened
    await opened.aclose()


class Peer:
    """A server by hand: reads requests, and answers each with the next bytes; None cuts the connection."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.hold = asyncio.Event()
        self.left = asyncio.Event()

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
        self.left.set()


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


async def test_a_request_to_the_byte(transport: HttpTransport, serving: Serving) -> None:
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
        *(b"accept", b"accept-encoding", b"content-length", b"host", b"user-agent", b"x-job-id")
    ]
    assert b"Accept-Encoding: identity" in lines
    assert body == b"{}"


async def test_a_connection_is_used_again(transport: HttpTransport, serving: Serving) -> None:
    """Ten requests, one connection; answers of every status are answers; header names have no case."""
    statuses = [200, 204, 404, 500, 503]
    peer = Peer(*(b"HTTP/1.1 %d X\r\nX-Job-Error: true\r\nContent-Length: 0\r\n\r\n" % status for status in statuses))
    url = await serving(peer)
    answers = [await transport.post(url, body=b"", headers={}) for _ in statuses]
    assert [answer.status for answer in answers] == statuses
    assert answers[0].headers["x-job-error"] == "true"
    assert peer.connections == 1
    assert KEEP_ALIVE_SECONDS < 5, "servers drop idle connections after 5 seconds"


async def test_a_redirect_is_not_followed(transport: HttpTransport, serving: Serving) -> None:
    """The answer is the redirect: job headers are not for strangers."""
    peer = Peer(b"HTTP/1.1 307 X\r\nLocation: http://127.0.0.1:1/elsewhere\r\nContent-Length: 0\r\n\r\n")
    answer = await transport.post(await serving(peer), body=b"", headers={})
    assert (answer.status, len(peer.requests)) == (307, 1)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\n\r\nall of it",
        b"HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nall of it",
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\nall of it"
        ),
    ],
)
async def test_where_an_answer_ends(answer: bytes, transport: HttpTransport) -> None:
    """With the connection where it has no length; after the announcements that come before it."""

    async def answer_and_close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(answer_and_close, LOOPBACK, 0)
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    for _ in range(2):
        got = await transport.post(url, body=b"", headers={})
        assert (got.status, got.body, got.headers.get("link")) == (200, b"all of it", None)
    server.close()


async def test_what_nobody_asked_for_ends_the_connection(transport: HttpTransport, serving: Serving) -> None:
    """A second answer to one request is not taken for that to the next."""
    peer = Peer(OK + b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", OK)
    url = await serving(peer)
    statuses = [(await transport.post(url, body=b"", headers={})).status for _ in range(3)]
    assert (statuses, peer.connections) == ([200, 200, 200], 2)


async def test_a_server_that_wants_another_protocol(transport: HttpTransport, serving: Serving) -> None:
    """It is not understood, and that is said."""
    switch = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    with pytest.raises(TransportError, match="switch protocols"):
        await transport.post(await serving(Peer(switch)), body=b"", headers={})


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("{}", {"X-Job-Id": "1\r\nX-Worker-Id: stranger"}),
        ("{}", {"X-Job-Id": "1\n"}),
        ("{}", {"X-Job-Id\r": "1"}),
        ("{}/a b", {}),
        ("{}/a\r\nX-Worker-Id:", {}),
        ("{}/é", {}),
    ],
)
async def test_a_request_that_would_say_something_else(
    url: str, headers: dict[str, str], transport: HttpTransport, serving: Serving
) -> None:
    """Nothing of it is sent."""
    peer = Peer(OK)
    with pytest.raises(TransportError, match=r"failed: (a header|the URL) contains"):
        await transport.post(url.format(await serving(peer)), body=b"", headers=headers)
    assert peer.connections == 0


async def test_a_user_in_the_url_is_sent_as_basic_authorization(transport: HttpTransport, serving: Serving) -> None:
    """Percent-decoded, and not in the Host header."""
    peer = Peer(OK)
    url = (await serving(peer)).replace("//", "//ada:hunter%202@")
    await transport.post(f"{url}#fragment", body=b"", headers={})
    lines = peer.requests[0].split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert b"Authorization: Basic YWRhOmh1bnRlciAy" in lines
    assert not any(b"@" in line for line in lines)


async def test_idle_connections_are_dropped(serving: Serving) -> None:
    """To make room for another host's, and when the transport is closed; a limit of one holds all the while."""
    transport = HttpTransport(max_connections=1)
    peers = [Peer(OK), Peer(OK)]
    urls = [await serving(peer) for peer in peers]
    for url in [*urls, *urls]:
        assert (await transport.post(url, body=b"", headers={})).body == b"ok"
    assert [peer.connections for peer in peers] == [2, 2]
    await transport.aclose()
    await asyncio.gather(*(peer.left.wait() for peer in peers))


async def test_a_given_up_exchange_leaves_its_place(serving: Serving) -> None:
    """Whoever waited for it has it; a wait that was given up takes nobody's turn."""
    transport = HttpTransport(max_connections=1)
    peer = Peer(b"hang", OK)
    url = await serving(peer)
    first, second, third = (asyncio.create_task(transport.post(url, body=b"", headers={})) for _ in range(3))
    while not peer.requests:  # noqa: ASYNC110  - what is awaited lies behind a socket
        await asyncio.sleep(0.005)
    second.cancel()
    first.cancel()
    assert (await third).body == b"ok"
    await transport.aclose()


async def test_no_cookie_is_kept(transport: HttpTransport, serving: Serving) -> None:
    """What one function sets is not told to the next."""
    peer = Peer(b"HTTP/1.1 200 X\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
    url = (await serving(peer)).replace(LOOPBACK, "localhost")
    for _ in range(2):
        await transport.post(url, body=b"", headers={})
    assert b"cookie" not in peer.requests[1].lower()


@pytest.mark.parametrize("size", [MAX_RESPONSE_BYTES - 1, MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1, 5 * MAX_RESPONSE_BYTES])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_big_answer_is_cut(
    size: int,
    chunked: bool,  # noqa: FBT001  - a column
    transport: HttpTransport,
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
    assert len(answer.body) == min(size, MAX_RESPONSE_BYTES)
    assert (await transport.post(url, body=b"", headers={})).body == b"ok"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "Server disconnected"),
        (b"garbage\r\n\r\n", "invalid HTTP response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "the connection was closed in the middle of the response"),
    ],
)
async def test_no_answer_is_an_error_that_names_the_url(
    answer: bytes | None, reason: str, transport: HttpTransport, serving: Serving
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


async def test_nobody_there(transport: HttpTransport) -> None:
    """A refused connection names the URL, without the password in it."""
    port = free_port()
    with pytest.raises(TransportError) as caught:
        await transport.post(f"http://ada:hunter2@{LOOPBACK}:{port}/x?a=b", body=b"", headers={})
    assert str(caught.value).startswith(
        f"POST http://{LOOPBACK}:{port}/x?… failed: Cannot connect to {LOOPBACK}:{port}: "
    )
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://", "http://127.0.0.1:99999/", "ftp://127.0.0.1/", "nowhere", "http://[::1/", "http://no.invalid/"]
)
async def test_a_url_that_leads_nowhere(url: str, transport: HttpTransport) -> None:
    """No scheme, no host, no port: the same error."""
    with pytest.raises(TransportError, match=r"^POST .* failed: ."):
        await transport.post(url, body=b"", headers={}, timeout_seconds=10)


async def test_a_reset_connection(transport: HttpTransport) -> None:
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


async def test_an_answer_that_does_not_come_in_time(transport: HttpTransport, serving: Serving) -> None:
    """The whole exchange has so many seconds."""
    url = await serving(Peer(b"hang"))
    with pytest.raises(TransportError, match=rf"^POST {url} got no response within 0.05 s$"):
        await transport.post(url, body=b"", headers={}, timeout_seconds=0.05)


async def test_a_connection_that_is_not_made_in_time() -> None:
    """A peer whose queue is full lets nobody in; the request itself would have had longer."""
    transport = HttpTransport(connect_timeout_seconds=0.1)
    with socket.socket() as listener, contextlib.ExitStack() as queue:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        with pytest.raises(TransportError, match=rf"^POST {url} could not connect within 0.1 s$"):
            await transport.post(url, body=b"", headers={}, timeout_seconds=30)
    await transport.aclose()


async def test_a_wait_for_a_free_connection_is_part_of_the_exchange(serving: Serving) -> None:
    """With every connection in use, a request waits its turn, and no longer than its time."""
    transport = HttpTransport(max_connections=1)
    peer = Peer(b"hang", OK)
    url = await serving(peer)
    first = asyncio.create_task(transport.post(url, body=b"", headers={}))
    while not peer.requests:  # noqa: ASYNC110  - what is awaited lies behind a socket
        await asyncio.sleep(0.005)
    with pytest.raises(TransportError, match="got no response within"):
        await transport.post(url, body=b"", headers={}, timeout_seconds=0.05)
    second = asyncio.create_task(transport.post(url, body=b"", headers={}, timeout_seconds=10))
    peer.hold.set()
    with pytest.raises(TransportError, match="Server disconnected"):
        await first
    assert (await second).body == b"ok"
    await transport.aclose()


async def test_it_opens_again_after_it_was_closed(transport: HttpTransport, serving: Serving) -> None:
    """Closing twice does no harm either."""
    url = await serving(Peer(OK))
    for _ in range(2):
        assert (await transport.post(url, body=b"", headers={})).status == 200
        await transport.aclose()
        await transport.aclose()


def test_it_opens_again_in_another_loop() -> None:
    """A transport that outlives its loop, as in a test suite of a user's, opens connections of the new one."""
    transport = HttpTransport()

    async def use() -> int:
        server = HttpServer(JSONResponse("ok"), bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
        await server.start()
        answer = await transport.post(f"http://{LOOPBACK}:{server.port}", body=b"", headers={"Connection": "close"})
        await server.stop()
        return answer.status

    async def use_and_close() -> int:
        status = await use()
        await transport.aclose()
        return status

    assert (asyncio.run(use()), asyncio.run(use_and_close())) == (200, 200)


async def test_tls_is_checked(transport: HttpTransport) -> None:
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
    trusting = HttpTransport(ssl_context=client_context)
    assert (await trusting.post(url, body=b"{}", headers={})).body == b"ok"
    wrong_name = url.replace("localhost", LOOPBACK)
    with pytest.raises(TransportError, match="certificate verify failed"):
        await trusting.post(wrong_name, body=b"", headers={})
    await trusting.aclose()
    server.close()
