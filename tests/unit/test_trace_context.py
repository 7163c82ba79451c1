"""W3C Trace Context as it stands in headers and rows: what is malformed counts as absent."""

from collections.abc import Callable

import pytest

from jobfn.wire import JobHeaders
from jobfn.wire.trace_context import TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_what_is_well_formed_is_handed_on_as_it_came() -> None:
    """Both headers, or the first alone; a later version of the standard too."""
    assert TraceContext(PARENT).headers() == {"traceparent": PARENT}
    found = TraceContext.parse(PARENT, "vendor=1,other=2")
    assert found is not None
    assert found.headers() == {"traceparent": PARENT, "tracestate": "vendor=1,other=2"}
    assert TraceContext.parse(f"01-{TRACE}-{SPAN}-00") == TraceContext(f"01-{TRACE}-{SPAN}-00")


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        "null",
        PARENT.upper(),
        PARENT + "\n",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f" {PARENT}",
    ],
)
def test_what_is_malformed_is_none(parent: str | None) -> None:
    """Nothing is made of it, and nothing of it is handed on."""
    assert TraceContext.parse(parent, "vendor=1") is None


@pytest.mark.parametrize("state", ["", "x" * 513, "a=\n", "a=é"])
def test_a_malformed_state_leaves_the_parent(state: str) -> None:
    """The trace goes on without it."""
    assert TraceContext.parse(PARENT, state) == TraceContext(PARENT)


@pytest.mark.parametrize("parse", [JobHeaders.parse, JobHeaders.parse_lenient])
def test_a_delivery_carries_it(parse: Callable[[list[tuple[bytes, bytes]]], JobHeaders]) -> None:
    """With a job's headers, or by hand; malformed it is no reason to refuse the job."""
    assert parse([(b"traceparent", PARENT.encode()), (b"tracestate", b"a=1")]).trace == TraceContext(PARENT, "a=1")
    assert parse([(b"traceparent", b"nonsense"), (b"x-job-id", b"7")]) == JobHeaders(
        job_id=7, echo=(("X-Job-Id", "7"),)
    )
