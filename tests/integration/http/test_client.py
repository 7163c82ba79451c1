"""The HTTP client against servers that misbehave in every way that servers do."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trustme
from starlette.responses import JSONResponse

from jobfn.errors import TransportError
from jobfn.http.client import KEEP_ALIVE_SECONDS, MAX_RESPONSE_BYTES, HttpTransport
from jobfn.http.server import HttpServer, bind
from support.network import LOOPBACK, free_port

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#: A response that never comes.
HANG = b"hang"


@pytest.fixture
async def transport() -> AsyncIterator[HttpTransport]:
    opened = HttpTransport()
    yield opened
    await opened.aclose()


class ScriptedServer:
    """Server that sends the next response to each request, the last one repeatedly; None closes the connection."""

    def __init__(self, *responses: bytes | None, close_after_response: bool = False) -> None:
        self.responses = list(responses)
        self.close_after_response = close_after_response
        self.requests: list[bytes] = []
        self.connections = 0
        self.received = asyncio.Event()
        self.stop_hanging = asyncio.Event()
        self.disconnected = asyncio.Event()

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                self.received.set()
                response = self.responses.pop(0) if len(self.responses) > 1 else self.responses[0]
                if response is None:
                    break
                if response == HANG:
                    await self.stop_hanging.wait()
                    break
                writer.write(response)
                await writer.drain()
                if self.close_after_response:
                    break
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()
        self.disconnected.set()


StartServer = Callable[[ScriptedServer], Awaitable[str]]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """Start a server and return its base URL."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(scripted: ScriptedServer) -> str:
            server = await asyncio.start_server(scripted.serve_connection, LOOPBACK, 0)
            stack.callback(server.close)
            stack.callback(scripted.stop_hanging.set)
            return f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"

        yield start


@pytest.mark.parametrize("body", [b"{}", b"x" * 3_000_000], ids=len)
async def test_request_has_the_given_target_headers_and_body(
    body: bytes, transport: HttpTransport, start_server: StartServer
) -> None:
    server = ScriptedServer(OK)
    url = await start_server(server)
    response = await transport.post(
        f"{url}/email:send%2Fnow%20a/%C3%BC?a=%2F&b=c:d@e", body=body, headers={"X-Job-Id": "7"}
    )
    assert (response.status, response.body) == (200, b"ok")
    head, _, sent = server.requests[0].partition(b"\r\n\r\n")
    request_line, *lines = head.split(b"\r\n")
    assert request_line == b"POST /email:send%2Fnow%20a/%C3%BC?a=%2F&b=c:d@e HTTP/1.1"
    assert sorted(line.split(b":")[0].lower() for line in lines) == [
        *(b"accept", b"accept-encoding", b"content-length", b"host", b"user-agent", b"x-job-id")
    ]
    assert b"Accept-Encoding: identity" in lines
    assert sent == body


async def test_connection_is_reused_after_every_status(transport: HttpTransport, start_server: StartServer) -> None:
    statuses = [200, 204, 404, 500, 503]
    server = ScriptedServer(
        *(b"HTTP/1.1 %d X\r\nX-Job-Error: true\r\nContent-Length: 0\r\n\r\n" % status for status in statuses)
    )
    url = await start_server(server)
    responses = [await transport.post(url, body=b"", headers={}) for _ in statuses]
    assert [response.status for response in responses] == statuses
    assert responses[0].headers["x-job-error"] == "true"
    assert server.connections == 1
    assert KEEP_ALIVE_SECONDS < 5, "servers close idle connections after 5 seconds"


async def test_redirect_is_not_followed_and_cookies_are_not_kept(
    transport: HttpTransport, start_server: StartServer
) -> None:
    location = b"HTTP/1.1 307 X\r\nLocation: /elsewhere\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
    server = ScriptedServer(location, OK)
    url = await start_server(server)
    statuses = [(await transport.post(url, body=b"", headers={})).status for _ in range(2)]
    assert statuses == [307, 200]
    assert [request.split()[1] for request in server.requests] == [b"/", b"/"]
    assert b"cookie" not in server.requests[1].lower()


async def test_body_is_not_decompressed(transport: HttpTransport, start_server: StartServer) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok"
    url = await start_server(ScriptedServer(response))
    assert (await transport.post(url, body=b"", headers={})).body == b"ok"


async def test_proxy_of_the_environment_is_not_used(
    transport: HttpTransport, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://{LOOPBACK}:{free_port()}")
    url = await start_server(ScriptedServer(OK))
    assert (await transport.post(url, body=b"", headers={})).body == b"ok"


async def test_surplus_response_closes_the_connection(transport: HttpTransport, start_server: StartServer) -> None:
    server = ScriptedServer(OK + b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", OK)
    url = await start_server(server)
    statuses = [(await transport.post(url, body=b"", headers={})).status for _ in range(3)]
    assert (statuses, server.connections) == ([200, 200, 200], 2)


async def test_protocol_switch_is_an_error(transport: HttpTransport, start_server: StartServer) -> None:
    url = await start_server(ScriptedServer(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"))
    with pytest.raises(TransportError, match="switch protocols"):
        await transport.post(url, body=b"", headers={})


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        ("{}", {"X-Job-Id": "1\r\nX-Worker-Id: stranger"}),
        ("{}", {"X-Job-Id\r": "1"}),
        ("{}/a b", {}),
        ("{}/a\r\nX-Worker-Id:", {}),
        ("{}/é", {}),
    ],
)
async def test_header_injection_is_rejected_before_sending(
    url: str, headers: dict[str, str], transport: HttpTransport, start_server: StartServer
) -> None:
    server = ScriptedServer(OK)
    with pytest.raises(TransportError, match=r"failed: (the URL contains|.* header injection)"):
        await transport.post(url.format(await start_server(server)), body=b"", headers=headers)
    assert server.requests == []


async def test_credentials_in_the_url_become_basic_authorization(
    transport: HttpTransport, start_server: StartServer
) -> None:
    server = ScriptedServer(OK)
    url = (await start_server(server)).replace("//", "//ada:hunter%202@")
    await transport.post(f"{url}#fragment", body=b"", headers={})
    lines = server.requests[0].split(b"\r\n")
    assert lines[0] == b"POST / HTTP/1.1"
    assert b"Authorization: Basic YWRhOmh1bnRlciAy" in lines
    assert not any(b"@" in line for line in lines)


async def test_closed_transport_closes_idle_connections(transport: HttpTransport, start_server: StartServer) -> None:
    server = ScriptedServer(OK)
    await transport.post(await start_server(server), body=b"", headers={})
    await transport.aclose()
    await server.disconnected.wait()


async def test_cancelled_requests_free_their_place_in_the_pool(start_server: StartServer) -> None:
    transport = HttpTransport(max_connections=1)
    server = ScriptedServer(HANG, OK)
    url = await start_server(server)
    in_flight, waiting, last = (asyncio.create_task(transport.post(url, body=b"", headers={})) for _ in range(3))
    await server.received.wait()
    waiting.cancel()
    in_flight.cancel()
    assert (await last).body == b"ok"
    await transport.aclose()


@pytest.mark.parametrize("size", [MAX_RESPONSE_BYTES, MAX_RESPONSE_BYTES + 1])
@pytest.mark.parametrize("chunked", [False, True])
async def test_body_is_truncated_and_does_not_disturb_the_next_request(
    size: int, transport: HttpTransport, start_server: StartServer, *, chunked: bool
) -> None:
    body = b"x" * size
    message = b"Content-Length: %d\r\n\r\n%b" % (size, body)
    if chunked:
        message = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (size, body)
    url = await start_server(ScriptedServer(b"HTTP/1.1 200 OK\r\n" + message, OK))
    response = await transport.post(url, body=b"", headers={})
    assert len(response.body) == MAX_RESPONSE_BYTES
    assert (await transport.post(url, body=b"", headers={})).body == b"ok"


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (None, "Server disconnected"),
        (b"garbage\r\n\r\n", "invalid HTTP response: .+"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
            "the connection was closed in the middle of the response",
        ),
    ],
)
async def test_broken_response_is_an_error_with_the_url_and_the_reason(
    response: bytes | None, reason: str, transport: HttpTransport, start_server: StartServer
) -> None:
    url = await start_server(ScriptedServer(response, close_after_response=True))
    with pytest.raises(TransportError, match=rf"^POST {url}/a%2Fb\?… failed: {reason}$"):
        await transport.post(f"{url}/a%2Fb?token=hunter2", body=b"", headers={})


async def test_refused_connection_is_an_error_with_the_redacted_url(transport: HttpTransport) -> None:
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
async def test_invalid_url_is_an_error(url: str, transport: HttpTransport) -> None:
    with pytest.raises(TransportError, match=r"^POST .* failed: ."):
        await transport.post(url, body=b"", headers={}, timeout_seconds=10)


async def test_connection_reset_is_an_error(transport: HttpTransport) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        linger_zero = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        writer.transport.abort()

    server = await asyncio.start_server(reset, LOOPBACK, 0)
    url = f"http://{LOOPBACK}:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(TransportError, match=rf"^POST {url}/\?… failed: Connection reset by peer$"):
        await transport.post(f"{url}/?token=hunter2", body=b"", headers={})
    server.close()


async def test_timeout_covers_the_whole_exchange(transport: HttpTransport, start_server: StartServer) -> None:
    url = await start_server(ScriptedServer(HANG))
    with pytest.raises(TransportError, match=rf"^POST {url} got no response within 0.05 s$"):
        await transport.post(url, body=b"", headers={}, timeout_seconds=0.05)


async def test_connect_timeout_is_separate() -> None:
    transport = HttpTransport(connect_timeout_seconds=0.1)
    with socket.socket() as listener, contextlib.ExitStack() as backlog:
        listener.bind((LOOPBACK, 0))
        listener.listen(0)
        for _ in range(4):  # fill the backlog, so that further connections are not accepted
            waiting = backlog.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        with pytest.raises(TransportError, match=rf"^POST {url} could not connect within 0.1 s$"):
            await transport.post(url, body=b"", headers={}, timeout_seconds=30)
    await transport.aclose()


async def test_timeout_includes_the_wait_for_a_free_connection(start_server: StartServer) -> None:
    transport = HttpTransport(max_connections=1)
    server = ScriptedServer(HANG, OK)
    url = await start_server(server)
    in_flight = asyncio.create_task(transport.post(url, body=b"", headers={}))
    await server.received.wait()
    with pytest.raises(TransportError, match="got no response within"):
        await transport.post(url, body=b"", headers={}, timeout_seconds=0.05)
    waiting = asyncio.create_task(transport.post(url, body=b"", headers={}, timeout_seconds=10))
    server.stop_hanging.set()
    with pytest.raises(TransportError, match="Server disconnected"):
        await in_flight
    assert (await waiting).body == b"ok"
    await transport.aclose()


async def test_closed_transport_opens_new_connections(transport: HttpTransport, start_server: StartServer) -> None:
    url = await start_server(ScriptedServer(OK))
    for _ in range(2):
        assert (await transport.post(url, body=b"", headers={})).status == 200
        await transport.aclose()
        await transport.aclose()


def test_transport_opens_new_connections_in_another_event_loop() -> None:
    transport = HttpTransport()

    async def use() -> int:
        server = HttpServer(JSONResponse("ok"), bind(LOOPBACK, 0), shutdown_timeout_seconds=1, lifespan=False)
        await server.start()
        response = await transport.post(f"http://{LOOPBACK}:{server.port}", body=b"", headers={"Connection": "close"})
        await server.stop()
        return response.status

    async def use_and_close() -> int:
        status = await use()
        await transport.aclose()
        return status

    assert (asyncio.run(use()), asyncio.run(use_and_close())) == (200, 200)


async def test_tls_certificate_is_verified(transport: HttpTransport) -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(server_context)
    server = await asyncio.start_server(ScriptedServer(OK).serve_connection, LOOPBACK, 0, ssl=server_context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/x"
    with pytest.raises(TransportError, match=rf"^POST {url} failed: .*certificate verify failed"):
        await transport.post(url, body=b"", headers={})
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    trusting = HttpTransport(ssl_context=client_context)
    assert (await trusting.post(url, body=b"{}", headers={})).body == b"ok"
    with pytest.raises(TransportError, match="certificate verify failed"):
        await trusting.post(url.replace("localhost", LOOPBACK), body=b"", headers={})
    await trusting.aclose()
    server.close()


def tcp_options(connected: socket.socket) -> list[int]:
    names = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_USER_TIMEOUT")
    return [
        connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(connected.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names),
    ]


async def test_connections_find_out_that_the_other_machine_has_vanished(transport: HttpTransport) -> None:
    with contextlib.closing(bind(LOOPBACK, 0)) as listener:
        url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
        posting = asyncio.create_task(transport.post(url, body=b"", headers={}))
        accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
        with accepted:
            assert tcp_options(accepted) == [1, 10, 5, 15_000]
            await asyncio.get_running_loop().sock_recv(accepted, 1000)
            (connected,) = transport._session.connector._acquired  # type: ignore[union-attr]  # noqa: SLF001
            assert tcp_options(connected.transport.get_extra_info("socket")) == [1, 10, 5, 15_000]  # type: ignore[union-attr]
            await asyncio.get_running_loop().sock_sendall(accepted, OK)
            assert (await posting).status == 200
