"""The function app under hostile requests: every answer is ours, says how and quotes nothing; no report comes twice."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from support.fuzz import CANARY, Answer, Headers, ReportSink, Watched, ends_early, fuzz, request_bytes
from support.fuzz_strategies import METHODS, from_schema, hostile_bodies, hostile_headers, mutated, paths, written
from support.network import LOOPBACK

#: Some requests are huge, on purpose.
pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")

TASKS = ("order", "shop:row/id", "change", "points", "options", "anything", "nothing", "long", "fails")
#: What a function may answer by itself; 500 is only for a handler that failed.
STATUSES = {200, 202, 400, 404, 405, 413, 415, 422, 429}
#: Not reported, or not yet.
UNREPORTED = {202, 429}
_numbers = itertools.count(1)


class Schemas:
    """The payloads' JSON Schemas, as the function itself tells them."""

    def __init__(self, function: Watched) -> None:
        (answer,) = function.ask(request_bytes(b"GET", b"/", [(b"Host", b"x")]))
        self._tasks = {task["identifier"]: task["payload"] for task in answer.content["tasks"]}

    def payloads(self, task: str) -> st.SearchStrategy[Any]:
        """Payloads that fit this task."""
        return from_schema(self._tasks[task])


@pytest.fixture(scope="session")
def schemas(function: Watched) -> Schemas:
    return Schemas(function)


def check(answer: Answer, *, bodiless: bool = False) -> None:
    """What holds for every answer, whatever was asked."""
    assert CANARY.encode() not in answer.body
    assert b"Traceback" not in answer.body
    assert b"/jobfn/" not in answer.body
    if answer.is_refusal_of_http:
        event("no HTTP")
        return
    event(f"status {answer.status}")
    content_length = answer.header(b"content-length")
    assert content_length is not None
    assert answer.header(b"content-type") == b"application/json"
    if bodiless:
        return
    assert int(content_length) == len(answer.body)
    content = answer.content
    if answer.status >= 400:
        assert answer.header(b"x-job-error") == (None if answer.status == 429 else b"true")
        assert isinstance(content["message"], str)
    if answer.status == 500:
        assert content["message"] == "deliberate"
    else:
        assert answer.status in STATUSES


def delivery_headers(sink: ReportSink, status: int) -> tuple[str, Headers]:
    """The headers of a worker's delivery, and the path where its report goes."""
    number = next(_numbers)
    path = f"/{status}/{number}/callback"
    return path, [
        (b"X-Worker-Id", b"worker-0"),
        (b"X-Job-Id", b"%d" % number),
        (b"X-Job-Attempt", b"1"),
        (b"X-Callback-Url", f"http://{LOOPBACK}:{sink.port}{path}".encode()),
    ]


@fuzz(700)
@given(method=METHODS, target=paths(*TASKS), headers=hostile_headers(), body=hostile_bodies())
def test_any_request(method: bytes, target: bytes, headers: Headers, body: bytes, function: Watched) -> None:
    """Whatever comes is answered, in time, in JSON, and without a word of the payload."""
    sent = [*headers, (b"Content-Length", b"%d" % len(body))]
    answers = function.ask(request_bytes(method, target, sent, body), method=method)
    assert len(answers) == 1 or ends_early(sent)
    check(answers[0], bodiless=method == b"HEAD")


@fuzz(500)
@given(data=st.data(), task=st.sampled_from(TASKS), status=st.sampled_from([200, 400, 409]))
def test_payloads_that_fit(
    data: st.DataObject,
    task: str,
    status: int,
    function: Watched,
    sink: ReportSink,
    schemas: Schemas,
) -> None:
    """What the schema allows, the task takes; the delivery is reported once, whatever the report is answered with."""
    payload = data.draw(schemas.payloads(task))
    path, headers = delivery_headers(sink, status)
    (answer,) = deliver(function, task, headers, written(payload, ascii_only=data.draw(st.booleans())))
    if task != "anything":  # its result is the payload's own
        check(answer)
    assert answer.status == {"long": 202, "fails": 500}.get(task, 200), answer
    if answer.status not in UNREPORTED:
        assert sink.reports[path] == 1


@fuzz(900)
@given(data=st.data(), task=st.sampled_from(TASKS), status=st.sampled_from([200, 409]), headers=hostile_headers())
def test_payloads_that_nearly_fit(
    data: st.DataObject,
    task: str,
    status: int,
    headers: Headers,
    function: Watched,
    sink: ReportSink,
    schemas: Schemas,
) -> None:
    """A payload with parts changed is taken or refused, not more; the report, where it can be sent, comes once."""
    payload = data.draw(mutated(schemas.payloads(task)))
    path, job = delivery_headers(sink, status)
    is_hostile = data.draw(st.booleans())
    sent = data.draw(st.permutations([*job, *headers])) if is_hostile else job
    answers = deliver(function, task, sent, written(payload, ascii_only=data.draw(st.booleans())))
    assert len(answers) == 1 or ends_early(sent)
    check(answers[0])
    if not is_hostile:
        assert answers[0].status in {200, 202, 400, 422, 500}
        assert answers[0].status in UNREPORTED or sink.reports[path] == 1


def deliver(function: Watched, task: str, headers: Headers, body: bytes) -> list[Answer]:
    target = b"/" + task.replace(":", "%3A").replace("/", "%2F").encode()
    sent = [(b"Host", b"x"), *headers, (b"Content-Length", b"%d" % len(body))]
    return function.ask(request_bytes(b"POST", target, sent, body))


@fuzz(60)
@given(payloads=st.lists(st.dictionaries(st.text(max_size=3), st.integers(), max_size=3), min_size=2, max_size=5))
def test_pipelined_deliveries(payloads: list[dict[str, int]], function: Watched, sink: ReportSink) -> None:
    """Several deliveries in one write are answered one after the other, in order, and reported once each."""
    parts, sinks = [], []
    for payload in payloads:
        path, headers = delivery_headers(sink, 200)
        body = json.dumps(payload).encode()
        parts.append(request_bytes(b"POST", b"/change", [*headers, (b"Content-Length", b"%d" % len(body))], body))
        sinks.append(path)
    answers = function.ask(b"".join(parts), answers=len(parts))
    assert [answer.status for answer in answers] == [422] * len(parts)
    assert [sink.reports[path] for path in sinks] == [1] * len(parts)
