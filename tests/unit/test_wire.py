"""The words on the wire: headers, reports and URLs, each sentence of the contract's sections 1 and 2."""

import json
from uuid import UUID

import pytest

from jobfn.errors import BadRequest
from jobfn.wire import NO_HEADERS, JobHeaders, Report, is_failure, report_url, task_url
from support.jobs import TENANT


def raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """As ASGI has them."""
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


ALL = {
    "X-Worker-Id": "worker-0",
    "X-Job-Id": "9223372036854775807",
    "X-Database-Id": TENANT,
    "X-Actor-Id": "c2d29867-3d0b-d497-9191-18a9d8ee7830",
    "X-Entity-Id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "X-Job-Attempt": "3",
}


def test_every_header_is_typed() -> None:
    """Numbers and UUIDs become such; all but the callback URL are echoed as they came, in the contract's spelling."""
    found = JobHeaders.parse(raw({**ALL, "X-Callback-Url": "http://h/callback", "Accept": "*/*"}))
    assert found == JobHeaders(
        job_id=9223372036854775807,
        worker_id="worker-0",
        database_id=UUID(TENANT),
        actor_id=UUID("c2d29867-3d0b-d497-9191-18a9d8ee7830"),
        entity_id=UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
        attempt=3,
        callback_url="http://h/callback",
        echo=tuple(ALL.items()),
    )
    assert found.reportable


@pytest.mark.parametrize("absent", ["", "  ", "null", "undefined", " null "])
@pytest.mark.parametrize("name", [*ALL, "X-Callback-Url"])
def test_empty_null_and_undefined_mean_absent(name: str, absent: str) -> None:
    """As if the header were not there: nothing typed, nothing echoed."""
    assert JobHeaders.parse(raw({name: absent})) == NO_HEADERS


@pytest.mark.parametrize("missing", ["X-Worker-Id", "X-Job-Id", "X-Callback-Url"])
def test_a_report_needs_worker_job_and_url(missing: str) -> None:
    """Without one of the three there is nothing to report to."""
    headers = {"X-Worker-Id": "w", "X-Job-Id": "1", "X-Callback-Url": "http://h"}
    assert JobHeaders.parse(raw(headers)).reportable
    del headers[missing]
    assert not JobHeaders.parse(raw(headers)).reportable
    assert not JobHeaders.parse_lenient(raw(headers)).reportable


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *[
            ("X-Job-Id", value, "X-Job-Id must be a whole number from 1 to 9223372036854775807")
            for value in ("0", "-1", "+1", "1.5", "abc", "\uff11", "9223372036854775808", "1" * 5000, "1 2")
        ],
        ("X-Job-Attempt", "2147483648", "X-Job-Attempt must be a whole number from 1 to 2147483647"),
        *[
            (name, "not-a-uuid", f"{name} must be a UUID such as")
            for name in ("X-Database-Id", "X-Actor-Id", "X-Entity-Id")
        ],
    ],
)
def test_a_malformed_header_is_named(name: str, value: str, reason: str) -> None:
    """Strictly read it is an error that says what would be right; parse_lenient_mapping read, it still lets the rest through."""
    headers = raw({"X-Worker-Id": "worker-0", "X-Job-Id": "7", "X-Callback-Url": "http://h", name: value})
    with pytest.raises(BadRequest) as caught:
        JobHeaders.parse(headers)
    assert caught.value.message.startswith(reason)
    assert value not in caught.value.message.replace(reason, "")
    lenient = JobHeaders.parse_lenient(headers)
    assert lenient.reportable == (name != "X-Job-Id")
    assert dict(lenient.echo)[name] == value


@pytest.mark.parametrize(
    ("value", "text"), [("wörker-0".encode(), "wörker-0"), ("wörker-0".encode("latin-1"), "wörker-0")]
)
def test_a_worker_s_id_may_be_any_text(value: bytes, text: str) -> None:
    """Read as UTF-8, which clients write, else as latin-1; either way it must match the row's locked_by."""
    assert JobHeaders.parse([(b"x-worker-id", value)]).worker_id == text


def test_leading_zeros_are_echoed_as_they_came() -> None:
    """The number is read, the text is sent back."""
    found = JobHeaders.parse(raw({"X-Job-Id": "007"}))
    assert (found.job_id, found.echo) == (7, (("X-Job-Id", "007"),))


@pytest.mark.parametrize(
    ("report", "body", "extra"),
    [
        (Report("success"), {"status": "success"}, {}),
        (Report("error", "no 'ü' \ud800"), {"status": "error", "error": "no 'ü' \ud800"}, {"X-Job-Error": "true"}),
    ],
)
def test_a_report_in_full(report: Report, body: dict[str, str], extra: dict[str, str]) -> None:
    """Body and headers as the contract has them; X-Job-Error on failure only."""
    assert json.loads(report.body()) == body
    echo = tuple(ALL.items())
    assert report.headers(echo) == {**ALL, "Content-Type": "application/json", **extra}


@pytest.mark.parametrize(
    ("callback_url", "target"),
    [
        ("http://jobs-callback:12345", "http://jobs-callback:12345/callback"),
        ("http://jobs-callback:12345/", "http://jobs-callback:12345/callback"),
        ("http://h?x=1", "http://h/callback?x=1"),
        ("http://h/?x=1&y=%2F", "http://h/callback?x=1&y=%2F"),
        ("http://h/callback", "http://h/callback"),
        ("http://h/callback/", "http://h/callback/"),
        ("https://h/api/jobs?token=a%20b", "https://h/api/jobs?token=a%20b"),
        ("HTTP://h/a%2Fb:c@d//e", "http://h/a%2Fb:c@d//e"),
        ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://user:pw@h/x", "http://user:pw@h/x"),
        ("http://h/x#fragment", "http://h/x"),
        ("http://h/a b?ü", "http://h/a%20b?%C3%BC"),
    ],
)
def test_where_a_report_goes(callback_url: str, target: str) -> None:
    """No path or / means /callback; any other path and every query stay as they are."""
    assert report_url(callback_url) == target


@pytest.mark.parametrize(
    "callback_url",
    [
        "ftp://h/callback",
        "/callback",
        "callback",
        "http://",
        "http://:80/x",
        "http:///callback",
        "http://h:0/x",
        "http://h:99999/x",
        "http://h:abc/x",
        "http://[::1/x",
        "http://jöbs/callback",
        "javascript:alert(1)",
        "http://a b/x",
    ],
)
def test_what_is_no_callback_url(callback_url: str) -> None:
    """Nothing but an absolute http or https URL."""
    with pytest.raises(ValueError, match=r"X-Callback-Url must be an absolute http\(s\) URL"):
        report_url(callback_url)


@pytest.mark.parametrize(
    ("base", "task", "url"),
    [
        ("http://gateway:8080", "process_invoice", "http://gateway:8080/process_invoice"),
        ("http://gateway:8080/", "email:send_email", "http://gateway:8080/email:send_email"),
        ("http://g/fn", "a/b c?d#e%f", "http://g/fn/a%2Fb%20c%3Fd%23e%25f"),
        ("http://g", "größe", "http://g/gr%C3%B6%C3%9Fe"),
        ("http://{task}.svc/run", "send", "http://send.svc/run"),
        ("http://g/{task}/x", "a/b", "http://g/a%2Fb/x"),
    ],
)
def test_where_a_task_is_delivered(base: str, task: str, url: str) -> None:
    """The identifier is one encoded segment of the path, or fills the place that the URL keeps for it."""
    assert task_url(base, task) == url


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, False),
        (202, {}, False),
        (302, {}, False),
        (400, {}, True),
        (500, {}, True),
        (200, {"X-Job-Error": "true"}, True),
        (200, {"X-Job-Error": "TRUE"}, True),
        (200, {"X-Job-Error": "false"}, False),
    ],
)
def test_which_responses_mean_failure(status: int, headers: dict[str, str], outcome: bool) -> None:  # noqa: FBT001  - a column
    """A status of 400 or more, or the Node SDK's 200 with X-Job-Error."""
    assert is_failure(status, headers) is outcome
