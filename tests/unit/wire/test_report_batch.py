import json

import pytest

from jobfn.wire.report_batch import BatchedReport, decode_batch, decode_replies, encode_batch


def test_batch_round_trip_keeps_every_byte() -> None:
    reports = [
        BatchedReport("http://h/1/callback", {"X-Worker-Id": "wörker", "X-Job-Id": "1"}, b'{"status": "success"}'),
        BatchedReport("http://h/2/callback", {"X-Job-Id": "2", "X-Job-Error": "true"}, '{"error": "ü"}'.encode()),
    ]
    assert decode_batch(encode_batch(report.to_json() for report in reports)) == reports
    assert decode_batch(encode_batch([])) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "no list of reports"),
        (b'{"reports": {}}', "no list of reports"),
        (b'{"reports": [1]}', "a report must have"),
        (b'{"reports": [{"url": "http://h", "headers": {}}]}', "a report must have"),
        (b'{"reports": [{"url": "http://h", "headers": [], "body": ""}]}', "a report must have"),
        (b'{"reports": [{"url": 7, "headers": {}, "body": ""}]}', "a report must have"),
    ],
)
def test_decode_batch_rejects_invalid_bodies(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_batch(body)


def test_decode_batch_drops_other_headers_and_replaces_lone_surrogates() -> None:
    member = {"url": "u", "headers": {"Cookie": "a", "x-job-id": 7, "X-Worker-Id": "\ud800"}, "body": "\ud800"}
    (report,) = decode_batch(json.dumps({"reports": [member]}).encode())
    assert report == BatchedReport("u", {"X-Job-Id": "7", "X-Worker-Id": "?"}, b"?")


def test_decode_replies_keeps_the_order() -> None:
    body = b'{"replies": [{"status": 200}, {"status": 409, "content": 1}]}'
    assert [reply.status for reply in decode_replies(body, count=2)] == [200, 409]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{}", "no list of replies"),
        (b'{"replies": []}', "a batch of 2 reports got 0 replies"),
        (b'{"replies": [{"status": "200"}, {"status": true}]}', "a batch of 2 reports got 0 replies"),
    ],
)
def test_decode_replies_rejects_replies_to_another_batch(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode_replies(body, count=2)
