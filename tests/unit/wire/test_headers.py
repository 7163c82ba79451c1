"""Job headers (contract, section 1)."""

from uuid import UUID

import pytest

from jobfn.errors import BadRequest
from jobfn.wire import JobHeaders, extract_job_headers
from support.jobs import TENANT

ECHOED = {
    "X-Worker-Id": "worker-0",
    "X-Job-Id": "9223372036854775807",
    "X-Database-Id": TENANT,
    "X-Actor-Id": "c2d29867-3d0b-d497-9191-18a9d8ee7830",
    "X-Entity-Id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "X-Job-Attempt": "3",
}


def raw(headers: dict[str, str]) -> dict[str, str]:
    return extract_job_headers((name.lower().encode(), value.encode()) for name, value in headers.items())


def test_parse_types_every_header_and_echoes_all_but_the_callback_url() -> None:
    assert JobHeaders.parse(raw({**ECHOED, "X-Callback-Url": "http://h/callback", "Accept": "*/*"})) == JobHeaders(
        job_id=9223372036854775807,
        worker_id="worker-0",
        database_id=UUID(TENANT),
        actor_id=UUID("c2d29867-3d0b-d497-9191-18a9d8ee7830"),
        entity_id=UUID("0f8fad5b-d9cb-469f-a165-70867728950e"),
        attempt=3,
        callback_url="http://h/callback",
        echo=tuple(ECHOED.items()),
    )


@pytest.mark.parametrize("absent", ["", "  ", "null", "undefined", " null "])
@pytest.mark.parametrize("name", [*ECHOED, "X-Callback-Url"])
def test_empty_null_and_undefined_mean_absent(name: str, absent: str) -> None:
    assert JobHeaders.parse(raw({name: absent})) == JobHeaders()


@pytest.mark.parametrize("missing", ["X-Worker-Id", "X-Job-Id", "X-Callback-Url"])
def test_report_needs_worker_job_and_callback_url(missing: str) -> None:
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
def test_malformed_header_is_named_by_parse_and_ignored_by_parse_lenient(name: str, value: str, reason: str) -> None:
    headers = raw({"X-Worker-Id": "worker-0", "X-Job-Id": "7", "X-Callback-Url": "http://h", name: value})
    with pytest.raises(BadRequest) as caught:
        JobHeaders.parse(headers)
    assert caught.value.message.startswith(reason)
    assert value not in caught.value.message.removeprefix(reason)
    lenient = JobHeaders.parse_lenient(headers)
    assert lenient.reportable == (name != "X-Job-Id")
    assert dict(lenient.echo)[name] == value


@pytest.mark.parametrize("value", ["wörker-0".encode(), "wörker-0".encode("latin-1")])
def test_worker_id_is_decoded_as_utf8_or_latin1_to_match_locked_by(value: bytes) -> None:
    assert JobHeaders.parse(extract_job_headers([(b"x-worker-id", value)])).worker_id == "wörker-0"


def test_leading_zeros_are_echoed() -> None:
    headers = JobHeaders.parse(raw({"X-Job-Id": "007"}))
    assert (headers.job_id, headers.echo) == (7, (("X-Job-Id", "007"),))
