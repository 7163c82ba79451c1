"""Batches of reports: what is written is read again, and what is none is refused with a reason."""

import json

import pytest

from jobfn.wire.report_batch import BatchedReport, decode_batch, decode_statuses, encode_batch


def test_what_is_written_is_read_again() -> None:
    """URL, job headers and body, to the byte."""
    reports = [
        BatchedReport("http://h/1/callback", {"X-Worker-Id": "wörker", "X-Job-Id": "1"}, b'{"status": "success"}'),
        BatchedReport("http://h/2/callback", {"X-Job-Id": "2", "X-Job-Error": "true"}, '{"error": "ü"}'.encode()),
    ]
    assert decode_batch(encode_batch(report.to_json() for report in reports)) == reports
    assert decode_batch(encode_batch([])) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no list of reports"),
        (b'{"reports": {}}', "no list of reports"),
        (b'{"reports": [1]}', "a report has"),
        (b'{"reports": [{"url": "http://h", "headers": {}}]}', "a report has"),
        (b'{"reports": [{"url": "http://h", "headers": [], "body": ""}]}', "a report has"),
        (b'{"reports": [{"url": 7, "headers": {}, "body": ""}]}', "a report has"),
    ],
)
def test_what_is_no_batch(body: bytes, reason: str) -> None:
    """Each is refused."""
    with pytest.raises(ValueError, match=reason):
        decode_batch(body)


def test_strange_headers_are_no_job_headers() -> None:
    """Names that mean nothing are left out, other types are their text, half a pair of surrogates is mended."""
    entry = {"url": "u", "headers": {"Cookie": "a", "x-job-id": 7, "X-Worker-Id": "\ud800"}, "body": "\ud800"}
    (report,) = decode_batch(json.dumps({"reports": [entry]}).encode())
    assert report == BatchedReport("u", {"X-Job-Id": "7", "X-Worker-Id": "?"}, b"?")


@pytest.mark.parametrize("body", [b"{}", b'{"replies": []}', b'{"replies": [{"status": "200"}, {"status": true}]}'])
def test_replies_that_are_not_those_to_the_batch(body: bytes) -> None:
    """Another number of them, or of another shape."""
    with pytest.raises(ValueError, match=r"no list of replies|reports were sent"):
        decode_statuses(body, count=2)


def test_replies() -> None:
    """Their statuses in order."""
    assert list(decode_statuses(b'{"replies": [{"status": 200}, {"status": 409, "content": 1}]}', count=2)) == [
        200,
        409,
    ]
