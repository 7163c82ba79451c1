"""The pause that a response asks for."""

import pytest
from starlette.datastructures import Headers

from jobfn.http.client import Response
from jobfn.worker.delivery import Busy
from jobfn.worker.dispatch import parse_response

MAX_SECONDS = 31 * 86_400.0
NOON = "Sat, 28 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": " 120 "}, 120.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "²"}, None),
        ({"Retry-After": "9" * 5000}, MAX_SECONDS),
        ({"Retry-After": "Sat, 28 Nov 2026 12:01:30 GMT", "Date": NOON}, 90.0),
        ({"Retry-After": "Sat, 28 Nov 2026 11:59:00 GMT", "Date": NOON}, 0.0),
        ({"Retry-After": "Mon, 28 Nov 2050 12:00:00 GMT", "Date": NOON}, MAX_SECONDS),
        ({"Retry-After": "Sat, 28 Nov 2026 12:01:30 GMT"}, None),
        ({"Retry-After": "Sat, 28 Nov 2026 12:01:30", "Date": NOON}, None),
        ({"Retry-After": "tomorrow", "Date": NOON}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_a_number_or_a_date(status: int, headers: dict[str, str], seconds: float | None) -> None:
    result = parse_response(Response(status, Headers(headers), b"full"), "http://function/t")
    assert result == Busy(f"http://function/t responded with {status}: full", seconds)
