"""Reports, failures and failed responses (contract, section 2). Stored results: integration/client/test_results.py."""

import json

import pytest

from jobfn.wire import Failure, Report, StoredResult, is_failure


@pytest.mark.parametrize(
    ("report", "body", "extra_headers"),
    [
        (Report("success"), {"status": "success"}, {}),
        (Report("error", "no 'ü' \ud800"), {"status": "error", "error": "no 'ü' \ud800"}, {"X-Job-Error": "true"}),
    ],
)
def test_report_has_the_contract_s_body_and_headers(
    report: Report, body: dict[str, str], extra_headers: dict[str, str]
) -> None:
    echo = {"X-Worker-Id": "worker-0", "X-Job-Id": "7"}
    assert json.loads(report.body()) == body
    assert report.headers(echo.items()) == {**echo, "Content-Type": "application/json", **extra_headers}


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("-3", 0.0),
        ("1e308", 1e308),
        ("1e999", None),
        ("NaN", None),
        ("1" + "0" * 400, None),
        ("true", None),
        ('"7"', None),
    ],
)
def test_retry_delay_is_a_finite_number_or_ignored(value: str, seconds: float | None) -> None:
    assert Failure.from_json(b'{"retryAfterSeconds": %s}' % value.encode()).retry_after_seconds == seconds
    assert Failure.from_json(b'{"snoozeMaxAgeSeconds": %s}' % value.encode()).snooze_max_age_seconds == seconds


@pytest.mark.parametrize("depth", [1, 100, 900, 990, 995, 999, 100_000])
def test_nested_error_becomes_text_or_is_ignored_beyond_the_recursion_limit(depth: int) -> None:
    text = "[" * depth + "]" * depth
    assert Failure.from_json(b'{"error": %s}' % text.encode()).error in {text, None}


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (200, {}, False),
        (302, {}, False),
        (400, {}, True),
        (200, {"X-Job-Error": "true"}, True),  # the Node SDK
        (200, {"X-Job-Error": "TRUE"}, True),
        (200, {"X-Job-Error": "false"}, False),
    ],
)
def test_response_is_a_failure_by_status_or_header(status: int, headers: dict[str, str], *, expected: bool) -> None:
    assert is_failure(status, headers) is expected


@pytest.mark.parametrize(
    ("headers", "body", "stored"),
    [
        ({}, b"1", None),
        ({"X-Keep-Result-Seconds": "no"}, b"1", None),
        ({"X-Keep-Result-Seconds": "0"}, b"1", None),
        ({"X-Keep-Result-Seconds": "nan"}, b"1", None),
        ({"X-Keep-Result-Seconds": "5"}, b"[1]", StoredResult(5.0, result="[1]")),
        (
            {"X-Keep-Result-Seconds": "5"},
            b"<p>",
            StoredResult(5.0, problem="the function's response is not valid JSON"),
        ),
        ({"X-Keep-Result-Seconds": "5", "X-Result-Problem": "why"}, b"nul", StoredResult(5.0, problem="why")),
    ],
)
def test_response_stores_a_result_if_its_headers_ask_for_it(
    headers: dict[str, str], body: bytes, stored: StoredResult | None
) -> None:
    assert StoredResult.from_response(headers, body) == stored
