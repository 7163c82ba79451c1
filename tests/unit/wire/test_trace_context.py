"""W3C Trace Context in headers: malformed values count as absent."""

from collections.abc import Callable

import pytest

from jobfn.wire import JobHeaders
from jobfn.wire.trace_context import TraceContext

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_valid_context_is_propagated_unchanged() -> None:
    assert TraceContext(PARENT).headers() == {"traceparent": PARENT}
    context = TraceContext.parse(PARENT, "vendor=1,other=2")
    assert context is not None
    assert context.headers() == {"traceparent": PARENT, "tracestate": "vendor=1,other=2"}


def test_later_version_of_the_standard_is_accepted() -> None:
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
def test_malformed_parent_is_ignored_with_its_state(parent: str | None) -> None:
    assert TraceContext.parse(parent, "vendor=1") is None


@pytest.mark.parametrize("state", ["", "x" * 513, "a=\n", "a=é"])
def test_malformed_state_is_dropped_without_the_parent(state: str) -> None:
    assert TraceContext.parse(PARENT, state) == TraceContext(PARENT)


@pytest.mark.parametrize("parse", [JobHeaders.parse, JobHeaders.parse_lenient])
def test_job_headers_carry_the_context(parse: Callable[[dict[str, str]], JobHeaders]) -> None:
    assert parse({"traceparent": PARENT, "tracestate": "a=1"}).trace == TraceContext(PARENT, "a=1")
    assert parse({"traceparent": "nonsense", "X-Job-Id": "7"}) == JobHeaders(job_id=7, echo=(("X-Job-Id", "7"),))
