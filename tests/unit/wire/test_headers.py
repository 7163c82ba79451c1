"""Job headers (contract, section 1)."""

from uuid import UUID

import pytest

from jobfn.errors import BadRequest
from jobfn.wire import JobHeaders, extract_job_headers, log_ids
from support.jobs import TENANT

ECHOED = {
    "X-Worker-Id": "worker-0",
    "X-Job-Id": "9223372036854775807",
    "X-Database-Id": TENANT,
    "X-Actor-Id": "c2d29867-3d0b-d497-9191-18a9d8ee7830",
    "X-Entity-Id": "0f8fad5b-d9cb-469f-a165-70867728950e",
    "X-Job-Attempt": "3",
    "X-Organization-Id": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
    "X-Invocation-Id": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
    "X-Execution-Id": "9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e",
    "X-Node-Name": "add_node",
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
        organization_id=UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2"),
        invocation_id=UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479"),
        execution_id=UUID("9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e"),
        node_name="add_node",
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
            for name in ("X-Database-Id", "X-Actor-Id", "X-Entity-Id", "X-Organization-Id", "X-Invocation-Id")
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


def test_log_ids_of_a_graph_node_are_added_to_those_of_the_job() -> None:
    assert log_ids(ECHOED, "add") == {
        "task": "add",
        "job": 9223372036854775807,
        "attempt": 3,
        "worker": "worker-0",
        "tenant": TENANT,
        "organization": "7d444840-9dc0-11d1-b245-5ffdce74fad2",
        "invocation": "f47ac10b-58cc-4372-a567-0e02b2c3d479",
        "execution": "9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e",
        "node": "add_node",
    }


@pytest.mark.parametrize(
    ("headers", "by_response"),
    [
        ({}, False),
        ({"X-Worker-Id": "w"}, True),
        ({"X-Worker-Id": "w", "X-Heartbeat-Url": "http://h/heartbeat"}, True),
        ({"X-Worker-Id": "w", "X-Callback-Url": "http://h"}, False),
        ({"X-Worker-Id": "w", "X-Callback-Url": "http://h", "X-Invocation-Id": ECHOED["X-Invocation-Id"]}, True),
        (
            {
                "X-Worker-Id": "w",
                "X-Callback-Url": "http://h",
                "X-Invocation-Id": ECHOED["X-Invocation-Id"],
                "X-Heartbeat-Url": "http://h/heartbeat",
            },
            False,
        ),
    ],
    ids=["by hand", "no callback", "jobfn's without callback", "Node worker", "compute worker", "jobfn's"],
)
def test_worker_settles_by_the_response_without_callback_or_with_an_invocation_and_no_heartbeat(
    headers: dict[str, str], *, by_response: bool
) -> None:
    assert JobHeaders.parse(raw(headers)).settled_by_response is by_response
