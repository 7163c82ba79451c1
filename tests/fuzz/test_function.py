"""Hostile requests to the function app: every response is well-formed and quotes nothing; no report is sent twice."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from support.fuzz import CANARY, FuzzResponse, FuzzTarget, Headers, ReportSink, ends_head_early, fuzz, request_bytes
from support.fuzz_strategies import METHODS, from_schema, hostile_bodies, hostile_headers, json_bytes, mutated, paths
from support.network import LOOPBACK

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

TASKS = ("order", "shop:row/id", "change", "points", "options", "anything", "nothing", "long", "fails")
#: Statuses of responses that do not come from a handler.
STATUSES = {200, 202, 400, 404, 405, 413, 415, 422, 429}
#: Statuses of responses that no report precedes.
NO_REPORT_STATUSES = {202, 429}
_numbers = itertools.count(1)


class Schemas:
    """The tasks' JSON Schemas, as the function publishes them."""

    def __init__(self, function: FuzzTarget) -> None:
        (response,) = function.send(request_bytes(b"GET", b"/", [(b"Host", b"x")]))
        self._tasks = {task["identifier"]: task["payload"] for task in response.content["tasks"]}

    def payloads(self, task: str) -> st.SearchStrategy[Any]:
        return from_schema(self._tasks[task])


@pytest.fixture(scope="session")
def schemas(function: FuzzTarget) -> Schemas:
    return Schemas(function)


def check(response: FuzzResponse, *, is_head: bool = False) -> None:
    """Assert what holds for every response."""
    assert CANARY.encode() not in response.body
    assert b"Traceback" not in response.body
    assert b"/jobfn/" not in response.body
    if response.is_from_parser:
        event("invalid HTTP")
        return
    event(f"status {response.status}")
    content_length = response.header(b"content-length")
    assert content_length is not None
    assert response.header(b"content-type") == b"application/json"
    if is_head:
        return
    assert int(content_length) == len(response.body)
    content = response.content
    if response.status >= 400:
        assert response.header(b"x-job-error") == (None if response.status == 429 else b"true")
        assert isinstance(content["message"], str)
    if response.status == 500:
        assert content["message"] == "deliberate"
    else:
        assert response.status in STATUSES


def delivery_headers(sink: ReportSink, status: int) -> tuple[str, Headers]:
    """Return the path of a report that the sink answers with ``status``, and the headers of its delivery."""
    number = next(_numbers)
    path = f"/{status}/{number}/callback"
    return path, [
        (b"X-Worker-Id", b"worker-0"),
        (b"X-Job-Id", b"%d" % number),
        (b"X-Job-Attempt", b"1"),
        (b"X-Callback-Url", f"http://{LOOPBACK}:{sink.port}{path}".encode()),
    ]


@fuzz(280)
@given(method=METHODS, target=paths(*TASKS), headers=hostile_headers(), body=hostile_bodies())
def test_any_request_gets_one_valid_response(
    method: bytes, target: bytes, headers: Headers, body: bytes, function: FuzzTarget
) -> None:
    sent = [*headers, (b"Content-Length", b"%d" % len(body))]
    responses = function.send(request_bytes(method, target, sent, body), method=method)
    assert len(responses) == 1 or ends_head_early(sent)
    check(responses[0], is_head=method == b"HEAD")


@fuzz(200)
@given(data=st.data(), task=st.sampled_from(TASKS), status=st.sampled_from([200, 400, 409]))
def test_valid_payload_is_accepted_and_reported_once_for_any_callback_status(
    data: st.DataObject, task: str, status: int, function: FuzzTarget, sink: ReportSink, schemas: Schemas
) -> None:
    payload = data.draw(schemas.payloads(task))
    path, headers = delivery_headers(sink, status)
    (response,) = deliver(function, task, headers, json_bytes(payload, ascii_only=data.draw(st.booleans())))
    if task != "anything":  # its result is the payload
        check(response)
    assert response.status == {"long": 202, "fails": 500}.get(task, 200), response
    if response.status not in NO_REPORT_STATUSES:
        assert sink.reports[path] == 1


@fuzz(360)
@given(data=st.data(), task=st.sampled_from(TASKS), status=st.sampled_from([200, 409]), headers=hostile_headers())
def test_mutated_payload_is_accepted_or_rejected_and_reported_once(
    data: st.DataObject,
    task: str,
    status: int,
    headers: Headers,
    function: FuzzTarget,
    sink: ReportSink,
    schemas: Schemas,
) -> None:
    payload = data.draw(mutated(schemas.payloads(task)))
    path, job = delivery_headers(sink, status)
    is_hostile = data.draw(st.booleans())
    sent = data.draw(st.permutations([*job, *headers])) if is_hostile else job
    responses = deliver(function, task, sent, json_bytes(payload, ascii_only=data.draw(st.booleans())))
    assert len(responses) == 1 or ends_head_early(sent)
    check(responses[0])
    if not is_hostile:
        assert responses[0].status in {200, 202, 400, 422, 500}
        assert responses[0].status in NO_REPORT_STATUSES or sink.reports[path] == 1


def deliver(function: FuzzTarget, task: str, headers: Headers, body: bytes) -> list[FuzzResponse]:
    target = b"/" + task.replace(":", "%3A").replace("/", "%2F").encode()
    sent = [(b"Host", b"x"), *headers, (b"Content-Length", b"%d" % len(body))]
    return function.send(request_bytes(b"POST", target, sent, body))


@fuzz(25)
@given(payloads=st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), min_size=2, max_size=5))
def test_pipelined_deliveries_are_answered_in_order_and_reported_once_each(
    payloads: list[dict[str, int]], function: FuzzTarget, sink: ReportSink
) -> None:
    requests, report_paths = [], []
    for payload in payloads:
        path, headers = delivery_headers(sink, 200)
        body = json.dumps(payload).encode()
        requests.append(request_bytes(b"POST", b"/change", [*headers, (b"Content-Length", b"%d" % len(body))], body))
        report_paths.append(path)
    responses = function.send(b"".join(requests), count=len(requests))
    assert [response.status for response in responses] == [422] * len(requests)
    assert [sink.reports[path] for path in report_paths] == [1] * len(requests)


#: Values of the headers of a job in a batch, most of them malformed.
JOB_HEADERS = st.dictionaries(
    st.sampled_from(["X-Job-Attempt", "x-database-id", "X-Actor-Id", "X-Lease-Seconds", "traceparent", "Cookie", ""]),
    st.one_of(st.text(st.characters(codec="utf-8"), max_size=8), st.integers(), st.none(), st.lists(st.integers())),
)


def send_batch(function: FuzzTarget, task: str, headers: Headers, body: bytes) -> FuzzResponse:
    return deliver(function, f"{task}/batch", [*headers, (b"Content-Type", b"application/x-ndjson")], body)[0]


@fuzz(150)
@given(data=st.data(), task=st.sampled_from(TASKS), offers=st.booleans())
def test_batch_has_one_line_for_each_job(
    data: st.DataObject, task: str, function: FuzzTarget, schemas: Schemas, *, offers: bool
) -> None:
    payloads = st.one_of(schemas.payloads(task).map(json_bytes), mutated(schemas.payloads(task)).map(json_bytes))
    jobs = data.draw(st.lists(st.tuples(JOB_HEADERS, st.one_of(payloads, hostile_bodies())), min_size=1, max_size=5))
    lines: list[bytes] = []
    for number, (own, payload) in enumerate(jobs):
        lines += [json.dumps(own | {"X-Job-Id": str(number + 1)}).encode(), payload.replace(b"\n", b" ")]
    headers: Headers = [(b"X-Worker-Id", b"worker-0")] + [(b"X-Settle-On", b"response")] * offers
    response = send_batch(function, task.replace("/", "%2F"), headers, b"\n".join(lines) + b"\n")
    assert response.status == 200, response
    assert CANARY.encode() not in response.body
    assert b"Traceback" not in response.body
    outcomes = [json.loads(line) for line in response.body.splitlines()]
    assert sorted(outcome["job"] for outcome in outcomes) == [str(number + 1) for number in range(len(jobs))]
    for outcome in outcomes:
        if outcome.get("started") is not False:
            assert outcome["status"] in STATUSES | {500}
            event(f"status {outcome['status']}")


@fuzz(150)
@given(task=st.sampled_from(TASKS), body=st.one_of(hostile_bodies(), st.lists(hostile_bodies()).map(b"\n".join)))
def test_arbitrary_body_of_a_batch_is_run_or_rejected(task: str, body: bytes, function: FuzzTarget) -> None:
    response = send_batch(function, task, [], body)
    assert CANARY.encode() not in response.body
    event(f"status {response.status}")
    assert response.status in {200, 400}
