"""Results that a report carries in addition to its status."""

import json

import pytest

from jobfn.wire import MAX_RESULT_BYTES, Report, StoredResult


def test_report_with_a_result_has_two_more_fields() -> None:
    stored_result = StoredResult(60, '{"a":["é",null]}')
    body = Report("success", stored_result=stored_result).body()
    assert json.loads(body) == {"status": "success", "keepResultSeconds": 60, "result": {"a": ["é", None]}}
    parsed = StoredResult.from_report(body)
    assert parsed is not None
    assert (parsed.keep_seconds, json.loads(parsed.result or "")) == (60, {"a": ["é", None]})


def test_report_without_a_result_has_only_a_status() -> None:
    assert Report("success").body() == b'{"status": "success"}'


@pytest.mark.parametrize(
    "body",
    [
        b'{"status": "success"}',
        b'{"keepResultSeconds": 5',
        b'["keepResultSeconds"]',
        b'{"keepResultSeconds": "x", "result": 1}',
        b'{"keepResultSeconds": 0, "result": 1}',
        b'{"keepResultSeconds": 1, "result": NaN}',
        b'{"keepResultSeconds": 1, "result": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'"keepResultSeconds"',
    ],
)
def test_report_without_a_valid_result_stores_nothing(body: bytes) -> None:
    assert StoredResult.from_report(body) is None


def test_retention_and_size_are_limited() -> None:
    large = StoredResult.from_report(b'{"keepResultSeconds": 1e300, "result": "' + b"x" * MAX_RESULT_BYTES + b'"}')
    assert large is not None
    assert large.keep_seconds < 1e9
    assert large.problem is not None


def test_nul_is_removed_from_a_problem() -> None:
    body = b'{"keepResultSeconds": 1, "resultProblem": "a\\u0000b"}'
    assert StoredResult.from_report(body) == StoredResult(1, problem="ab")


@pytest.mark.parametrize("number", [b"1e400", b"-1e400"])
def test_number_that_not_everyone_can_read_is_not_stored(number: bytes) -> None:
    expected = StoredResult(5.0, problem="the result holds a number that is out of range, or is nested too deeply")
    assert StoredResult.from_report(b'{"keepResultSeconds": 5, "result": [%s]}' % number) == expected
    assert StoredResult.from_response({"X-Keep-Result-Seconds": "5"}, b"[%s]" % number) == expected
