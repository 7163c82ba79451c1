"""Batches of deliveries: the lines of requests and responses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobfn.wire.delivery_batch import BatchedDelivery, BatchedResponse, batch_url, decode_request, encode_request

LINE_OF_A_FAILURE = (
    b'{"job": "8", "status": 500, "seconds": 1.500000, "headers": {"x-job-error": "true"},'
    b' "body": "{\\"message\\": \\"n\\u00f6\\n\\"}"}\n'
)


def test_request_has_two_lines_per_job() -> None:
    jobs = [({"X-Job-Id": "7", "X-Job-Attempt": "1"}, '{"id": 1}'), ({"X-Job-Id": "8"}, "null")]
    assert encode_request(jobs) == (
        b'{"X-Job-Id":"7","X-Job-Attempt":"1"}\n{"id": 1}\n{"X-Job-Id":"8"}\nnull\n'  # one line each
    )


@pytest.mark.parametrize(
    "payload",
    [
        "{}",
        '{"ü": "日本 🎉", "escaped": "\\u00fc\\n\\ud83d"}',
        '{"a": 1, "a": 2}',
        '{"big": 123456789012345678901234567890.10, "exponent": 1e400, "zero": -0.0}',
        "[ 1,\t2,\r3 ]  ",
        '"' + "x" * 1_000_000 + '"',
        '"\u2028\u0085\x0b\x0c"',  # str.splitlines would split here
        "not JSON at all",
        "",
    ],
)
def test_payload_is_not_parsed_on_the_way(payload: str) -> None:
    body = encode_request([({"X-Job-Id": "7"}, payload), ({"X-Job-Id": "8"}, payload)])
    assert list(decode_request(body)) == [
        BatchedDelivery({"X-Job-Id": "7"}, payload.encode()),
        BatchedDelivery({"X-Job-Id": "8"}, payload.encode()),
    ]


def test_line_feeds_between_tokens_become_spaces() -> None:
    [delivery] = decode_request(encode_request([({}, '{\r\n  "a":\n\n1\n}\n')]))
    assert delivery.payload == b'{\r   "a":  1 } '


def test_header_values_cannot_break_the_lines() -> None:
    headers = {"X-Worker-Id": 'worker\n"7"\r\n{}', "X-Job-Id": "7"}
    assert list(decode_request(encode_request([(headers, "{}")]))) == [BatchedDelivery(headers, b"{}")]


def test_request_may_have_50_jobs() -> None:
    assert len(list(decode_request(b"{}\n{}\n" * 50))) == 50


def test_last_line_feed_may_be_missing() -> None:
    assert list(decode_request(b'{"x-job-id": "7"}\n{}')) == [BatchedDelivery({"X-Job-Id": "7"}, b"{}")]


@pytest.mark.parametrize(
    ("line", "headers"),
    [
        (b'{"x-job-id": "7", "X-JOB-ATTEMPT": " 2 "}', {"X-Job-Id": "7", "X-Job-Attempt": "2"}),
        (b'{"X-Job-Id": 7, "X-Job-Attempt": 2}', {"X-Job-Id": "7", "X-Job-Attempt": "2"}),
        (b'{"X-Job-Id": "null", "X-Actor-Id": "", "X-Worker-Id": "undefined"}', {}),
        (b'{"X-Job-Id": null, "X-Worker-Id": ["w"], "X-Job-Attempt": 1.5, "X-Actor-Id": {}}', {}),
        (b'{"Cookie": "a", "Host": "b", "Content-Type": "c"}', {}),
        (b'{"X-Worker-Id": "w\xc3\xb6rker\\u00fc"}', {"X-Worker-Id": "wörkerü"}),
    ],
)
def test_headers_of_a_job_are_the_known_ones_with_a_value(line: bytes, headers: dict[str, str]) -> None:
    [delivery] = decode_request(line + b"\n{}\n")
    assert delivery.headers == headers


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the body must have two lines per job: its headers and its payload"),
        (b"\n", "the body must have two lines per job: its headers and its payload"),
        (b"{}\n", "the body must have two lines per job: its headers and its payload"),
        (b"{}\n{}\n{}\n", "the body must have two lines per job: its headers and its payload"),
        (b"{}\n{}\n" * 51, "the body must have at most 50 jobs"),
        (b"{}\n{}\nnope\n{}\n", "line 3 is not valid JSON"),
        (b"\xff\n{}\n", "line 1 is not valid JSON"),
        (b'{"X-Worker-Id": "\\ud800"}\n{}\n', "line 1 is not valid JSON"),
        (b"[" * 100_000 + b"\n{}\n", "line 1 is not valid JSON"),
        (b'{"X-Job-Id": ' + b"9" * 5000 + b"}\n{}\n", "line 1 is not valid JSON"),
        (b'["X-Job-Id"]\n{}\n', "headers must be a JSON object"),
        (b"null\n{}\n", "headers must be a JSON object"),
    ],
)
def test_malformed_request_is_rejected_with_a_reason(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        list(decode_request(body))


@pytest.mark.parametrize(
    ("response", "line"),
    [
        (BatchedResponse("9", None), b'{"job": "9", "started": false}\n'),
        (BatchedResponse("7", 200, 0.0000414), b'{"job": "7", "status": 200, "seconds": 0.000041}\n'),
        (BatchedResponse("7", 202), b'{"job": "7", "status": 202}\n'),
        (
            BatchedResponse("8", 500, 1.5, {"x-job-error": "true"}, '{"message": "nö\n"}'.encode()),
            LINE_OF_A_FAILURE,
        ),
    ],
)
def test_response_is_one_line(response: BatchedResponse, line: bytes) -> None:
    assert response.to_line() == line
    assert BatchedResponse.from_line(line) == response._replace(
        seconds=None if response.seconds is None else round(response.seconds, 6)
    )


def test_body_that_is_not_utf8_and_odd_job_ids_survive_as_text() -> None:
    line = BatchedResponse('"\n\0', 500, body=b"\xff").to_line()
    assert line.count(b"\n") == 1
    assert BatchedResponse.from_line(line) == BatchedResponse('"\n\0', 500, body="\ufffd".encode())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b" ",
        b"null",
        b"7",
        b'"job"',
        b"[]",
        b"{}",
        b'{"job": "7"}',
        b'{"job": 7, "status": 200}',
        b'{"status": 200}',
        b'{"job": "7", "started": true}',
        b'{"job": "7", "status": "200"}',
        b'{"job": "7", "status": 200.0}',
        b'{"job": "7", "status": 1e400}',
        b'{"job": "7", "status": NaN}',
        b'{"job": "7", "status": true}',
        b'{"job": "7", "status": 0}',
        b'{"job": "7", "status": 199}',
        b'{"job": "7", "status": 600}',
        b'{"job": "7", "status": -200}',
        b'{"job": "7", "status": ' + b"9" * 400 + b"}",
        b'{"job": "7", "status": ' + b"9" * 5000 + b"}",
        b'{"job": "7", "status": 200',
        b'{"job": "7", "status": 200} {}',
        b"\xff\xfe",
        b'{"job": "\xff", "status": 200}',
        b'{"job": "\\ud800", "status": 200}',
        b'{"job": "7", "status": 200, "seconds": NaN}',
        b'{"job": "7", "status": 200, "seconds": -Infinity}',
        b"[" * 100_000,
    ],
)
def test_malformed_line_is_rejected(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  - or one of its subclasses, with the parser's message
        BatchedResponse.from_line(line)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (b"0", 0.0),
        (b"2", 2.0),
        (b"0.25", 0.25),
        (b"-1", None),
        (b"1e400", None),
        (b"-1e400", None),
        (b"9" * 400, None),
        (b'"1"', None),
        (b"null", None),
    ],
)
def test_duration_is_a_finite_number_or_unknown(seconds: bytes, expected: float | None) -> None:
    response = BatchedResponse.from_line(b'{"job": "7", "status": 200, "seconds": %b}' % seconds)
    assert response == BatchedResponse("7", 200, expected)


def test_members_of_the_wrong_type_are_ignored() -> None:
    line = b'{"job": "7", "status": 500, "headers": ["a"], "body": {"message": "no"}, "started": false, "more": 1}'
    assert BatchedResponse.from_line(line) == BatchedResponse("7", None), "started decides"
    line = line.replace(b'"started": false', b'"started": 0')
    assert BatchedResponse.from_line(line) == BatchedResponse("7", 500)


def test_header_names_are_in_lower_case_and_values_are_latin1() -> None:
    headers = '{"Retry-After": "1", "X-Result-Problem": "日ö", "X": 1, "ü日": ""}'
    line = f'{{"job": "7", "status": 200, "headers": {headers}}}'
    assert BatchedResponse.from_line(line.encode()).headers == {
        "retry-after": "1",
        "x-result-problem": "?ö",
        "ü?": "",
    }


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_a_line_or_a_value_error(line: bytes) -> None:
    try:
        response = BatchedResponse.from_line(line)
    except ValueError:
        return
    assert response.status is None or 200 <= response.status < 600


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://gateway:8080/send_email", "http://gateway:8080/send_email/batch"),
        ("http://send-email.ns.svc", "http://send-email.ns.svc/batch"),
        ("http://send-email.ns.svc/", "http://send-email.ns.svc/batch"),
        ("https://user:pw@h/fn/a%2Fb/run?v=1&x=/y", "https://user:pw@h/fn/a%2Fb/run/batch?v=1&x=/y"),
        ("http://h/batch", "http://h/batch/batch"),
    ],
)
def test_batch_url_is_below_the_url_of_the_task(url: str, expected: str) -> None:
    assert batch_url(url) == expected
