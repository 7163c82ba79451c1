"""Both servers under odd framing: chunks, lengths that lie, bodies cut in pieces or cut short. None hangs or breaks."""

import itertools
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fuzz import ANSWER_SECONDS, Watched, fuzz, request_bytes
from support.fuzz_strategies import hostile_bodies
from support.network import LOOPBACK

#: Some requests are huge, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

HEALTHY = request_bytes(b"GET", b"/healthz", [(b"Host", b"x")])
SETTLED = {200, 400, 401, 404, 409, 413, 415, 422}
_jobs = itertools.count(1)


@pytest.fixture(params=["function", "callbacks"])
def target(request: pytest.FixtureRequest) -> Iterator[tuple[Watched, bytes]]:
    """Each server, with the path that takes a POST; it answers to others all the same afterwards."""
    watched: Watched = request.getfixturevalue(str(request.param))
    yield watched, {"function": b"/anything", "callbacks": b"/callback"}[request.param]
    assert watched.ask(HEALTHY)[0].status == 200


def chunked(body: bytes, cuts: list[int], *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """A body in chunks of these lengths, the last one taking the rest."""
    chunks = []
    for length in cuts:
        chunk, body = body[:length], body[length:]
        if chunk:
            chunks.append(b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk))
    if body:
        chunks.append(b"%x%s\r\n%s\r\n" % (len(body), extension, body))
    return b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def job_headers() -> list[tuple[bytes, bytes]]:
    return [(b"Host", b"x"), (b"X-Worker-Id", b"nobody"), (b"X-Job-Id", b"%d" % (10**9 + next(_jobs)))]


@fuzz(100)
@given(
    body=hostile_bodies(),
    cuts=st.lists(st.integers(0, 9), max_size=6),
    extension=st.sampled_from([b"", b";a=b", b' ;x="y"', b";" + b"z" * 2_000]),
    trailer=st.sampled_from([b"", b"X-Job-Id: 7\r\n", b"Content-Length: 1\r\n"]),
    pieces=st.lists(st.integers(1, 400), max_size=4),
)
def test_chunks_of_any_size(
    body: bytes,
    cuts: list[int],
    extension: bytes,
    trailer: bytes,
    pieces: list[int],
    target: tuple[Watched, bytes],
) -> None:
    """However a body is cut into chunks, and these into packets, the answer is one, and in time."""
    watched, path = target
    sent = chunked(body, cuts, extension=extension, trailer=trailer)
    request = request_bytes(b"POST", path, [*job_headers(), (b"Transfer-Encoding", b"chunked")], sent)
    parts, start = [], 0
    for length in pieces:
        parts.append(request[start : start + length])
        start += length
    answers = watched.ask(*parts, request[start:])
    assert len(answers) == 1
    assert answers[0].status in SETTLED


LIES = st.sampled_from(
    [
        [(b"Content-Length", b"5")],
        [(b"Content-Length", b"99999999999999999999999")],
        [(b"Content-Length", b"-1")],
        [(b"Content-Length", b"+2")],
        [(b"Content-Length", b"0x2")],
        [(b"Content-Length", b"2, 2")],
        [(b"Content-Length", b"2"), (b"Content-Length", b"3")],
        [(b"Content-Length", b"2"), (b"Transfer-Encoding", b"chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"identity")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"xchunked")],
        [(b"Transfer-Encoding", b"chunked")],
        [],
    ]
)
RESTS = st.one_of(
    st.sampled_from(
        [
            *(
                b"",
                b"{}",
                b"FFFFFFFFFFFFFFFFF\r\n",
                b"-1\r\n{}\r\n",
                b"2\r\n{}",
                b"2\r\n{}\r\n",
                b"2\n{}\n0\n\n",
                b"zz\r\n",
            ),
            *(
                b"2\r\n{}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
                b"0\r\n\r\n" + b"\xff" * 50,
                b"2\r\n{}XX0\r\n\r\n",
                b"\r\n" * 99,
            ),
        ]
    ),
    st.binary(max_size=60),
)


@fuzz(150)
@given(lies=LIES, rest=RESTS)
def test_lengths_that_lie(lies: list[tuple[bytes, bytes]], rest: bytes, target: tuple[Watched, bytes]) -> None:
    """Whatever the headers say of the body, once the client has stopped sending the connection ends by itself."""
    watched, path = target
    watched.requests += 1
    with socket.create_connection((LOOPBACK, watched.port), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(request_bytes(b"POST", path, [*job_headers(), *lies], rest))
        connection.shutdown(socket.SHUT_WR)
        said = b""
        try:
            while data := connection.recv(65_536):
                said += data
        except ConnectionResetError:
            pass
    assert b"HTTP/1.1 500" not in said
    assert b"Traceback" not in said


@fuzz(60)
@given(
    sent=st.one_of(
        st.binary(min_size=1, max_size=200),
        st.sampled_from([b"\x16\x03\x01" + b"\x00" * 50, b"PRI * HTTP/2.0\r\n\r\n"]),
    )
)
def test_bytes_that_are_no_request(sent: bytes, target: tuple[Watched, bytes]) -> None:
    """TLS, HTTP/2 and noise end the connection, with a 400 or without a word."""
    watched, _ = target
    with socket.create_connection((LOOPBACK, watched.port), timeout=ANSWER_SECONDS) as connection:
        connection.sendall(sent + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        try:
            said = connection.recv(65_536)
        except ConnectionResetError:
            said = b""
    watched.requests += 1
    assert said.startswith(b"HTTP/1.1 400") or said == b""
