"""Message framing: chunks, wrong lengths, packets that split or truncate a body. No server may hang or fail."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.fuzz import FuzzTarget, fuzz, request_bytes
from support.fuzz_strategies import hostile_bodies

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

HEALTH_CHECK = request_bytes(b"GET", b"/healthz", [(b"Host", b"x")])
EXPECTED_STATUSES = {200, 400, 401, 404, 409, 413, 415, 422}
_jobs = itertools.count(1)


@pytest.fixture(params=["function", "callbacks"])
def target(request: pytest.FixtureRequest) -> Iterator[tuple[FuzzTarget, bytes]]:
    """Return each server with the path that accepts a POST, and check afterwards that it still responds."""
    server: FuzzTarget = request.getfixturevalue(str(request.param))
    yield server, {"function": b"/anything", "callbacks": b"/callback"}[request.param]
    assert server.send(HEALTH_CHECK)[0].status == 200


def chunked(body: bytes, lengths: list[int], *, extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """Return a body in chunks of these lengths; the last one has the rest."""
    chunks = []
    for length in lengths:
        chunk, body = body[:length], body[length:]
        if chunk:
            chunks.append(b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk))
    if body:
        chunks.append(b"%x%s\r\n%s\r\n" % (len(body), extension, body))
    return b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"


def job_headers() -> list[tuple[bytes, bytes]]:
    return [(b"Host", b"x"), (b"X-Worker-Id", b"nobody"), (b"X-Job-Id", b"%d" % (10**9 + next(_jobs)))]


@fuzz(40)
@given(
    body=hostile_bodies(),
    lengths=st.lists(st.integers(0, 9), max_size=6),
    extension=st.sampled_from([b"", b";a=b", b' ;x="y"', b";" + b"z" * 2_000]),
    trailer=st.sampled_from([b"", b"X-Job-Id: 7\r\n", b"Content-Length: 1\r\n"]),
    packet_sizes=st.lists(st.integers(1, 400), max_size=4),
)
def test_chunked_body_gets_one_response_for_any_chunks_and_packets(
    body: bytes,
    lengths: list[int],
    extension: bytes,
    trailer: bytes,
    packet_sizes: list[int],
    target: tuple[FuzzTarget, bytes],
) -> None:
    server, path = target
    chunks = chunked(body, lengths, extension=extension, trailer=trailer)
    request = request_bytes(b"POST", path, [*job_headers(), (b"Transfer-Encoding", b"chunked")], chunks)
    packets, start = [], 0
    for size in packet_sizes:
        packets.append(request[start : start + size])
        start += size
    (response,) = server.send(*packets, request[start:])
    assert response.status in EXPECTED_STATUSES


FRAMING_HEADERS = st.sampled_from(
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
BODIES = st.one_of(
    st.sampled_from(
        [
            *(b"", b"{}", b"FFFFFFFFFFFFFFFFF\r\n", b"-1\r\n{}\r\n", b"2\r\n{}", b"2\r\n{}\r\n", b"2\n{}\n0\n\n"),
            b"zz\r\n",
            *(b"2\r\n{}\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n" + b"\xff" * 50, b"2\r\n{}XX0\r\n\r\n"),
            b"\r\n" * 99,
        ]
    ),
    st.binary(max_size=60),
)


@fuzz(60)
@given(framing=FRAMING_HEADERS, body=BODIES)
def test_connection_ends_after_eof_for_any_framing_headers(
    framing: list[tuple[bytes, bytes]], body: bytes, target: tuple[FuzzTarget, bytes]
) -> None:
    server, path = target
    received = server.send_then_eof(request_bytes(b"POST", path, [*job_headers(), *framing], body))
    assert b"HTTP/1.1 500" not in received
    assert b"Traceback" not in received
