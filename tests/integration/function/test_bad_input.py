"""Bad input: a JSON error that says which field is wrong and why, reported, and never more than that."""

import json
from typing import Annotated, Any, Literal

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, Discriminator, field_validator
from starlette.types import Message
from structlog.testing import capture_logs

from jobfn import FunctionApp, Task, create_app, task
from jobfn.payloads import RowId
from jobfn.wire import INVOKE_SECRET
from support.fixtures import Serve
from support.function_app import PATIENT, SECRET, CallbackServer, HandMade, exchange, job_headers


class Small(BaseModel):
    kind: Literal["small"]
    size: int


class Large(BaseModel):
    kind: Literal["large"]
    size: int


class Order(BaseModel):
    """Every way to be wrong that a payload has."""

    choice: Annotated[Small | Large, Discriminator("kind")] | None = None
    prices: dict[str, int] = {}
    note: str = ""
    broken: str = ""

    model_config = ConfigDict(extra="forbid")

    @field_validator("note")
    @classmethod
    def _note(cls, value: str) -> str:
        if value:
            raise ValueError(f"the note {value!r} is too private")
        return value

    @field_validator("broken")
    @classmethod
    def _broken(cls, value: str) -> str:
        if value:
            raise LookupError(value)
        return value


def orders(ran: list[object] | None = None) -> FunctionApp:
    """An app with one task, which keeps what it was given."""

    @task("order")
    async def order(payload: Order) -> None:
        (ran if ran is not None else []).append(payload)

    @task("row")
    async def row(payload: RowId) -> None: ...

    return create_app(tasks=[order, row], settings=PATIENT.model_copy(update={"max_body_bytes": 1000}))


UNFIT = "The payload does not fit order: "
INTEGER = "Input should be a valid integer, unable to parse string as an integer"


STRING_OR_INTEGER = "id: Input should be a valid string; id: Input should be a valid integer"


@pytest.mark.parametrize(
    ("path", "body", "status", "message", "fields"),
    [
        ("/order", b"", 400, "The body is empty: send the payload of order as JSON", []),
        ("/order", b"{", 400, "The body is not valid JSON in UTF-8: EOF while parsing an object", []),
        ("/order", SECRET.encode(), 400, "The body is not valid JSON in UTF-8: expected ident", []),
        ("/order", b'{"note": "\xff"}', 400, "The body is not valid JSON in UTF-8: invalid unicode", []),
        ("/order", b"[" * 900, 400, "The body is not valid JSON in UTF-8: recursion limit", []),
        ("/order", [SECRET], 422, "The payload does not fit order: (payload): ", ["(payload)"]),
        ("/order", {"prices": {SECRET: SECRET}}, 422, f"{UNFIT}prices.*: {INTEGER}", ["prices.*"]),
        ("/order", {"choice": {"kind": SECRET}}, 422, f"{UNFIT}choice: 'kind' should be one of 'small'", ["choice"]),
        ("/order", {"nte": SECRET}, 422, f"{UNFIT}nte: Extra inputs are not permitted", ["nte"]),
        ("/order", {"note": SECRET}, 422, f"{UNFIT}note: the note '…' is too private", ["note"]),
        ("/order", {"broken": SECRET}, 500, "validating order's payload raised LookupError: see the function's", []),
        ("/row", {"id": {"a": SECRET}}, 422, f"The payload does not fit row: {STRING_OR_INTEGER}", ["id", "id"]),
        ("/row", {}, 422, "The payload does not fit row: id: Field required", ["id"]),
        ("/elsewhere", {"a": SECRET}, 404, "No task 'elsewhere' here. Known: order, row", []),
    ],
)
async def test_a_bad_payload_is_told_and_reported(
    path: str,
    body: object,
    status: int,
    message: str,
    fields: list[str],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """Status, message and fields; the report says the same; the payload is nowhere, not in our log either."""
    ran: list[object] = []
    url = await serve(orders(ran))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with capture_logs() as lines:
        response = await http.post(f"{url}{path}", content=content, headers=job_headers(callbacks.url))
    assert response.status_code == status
    told = response.json()
    assert told["message"].startswith(message)
    assert [detail["field"] for detail in told.get("details", [])] == fields
    assert all(detail["problem"] for detail in told.get("details", []))
    [report] = callbacks.received
    for_good = {"permanent": True} if status in {400, 422} else {}  # the same payload will never fit
    assert report.body == {"status": "error", "error": told["message"], **for_good}
    assert told.get("permanent", False) is bool(for_good)
    assert ran == []
    [line] = lines
    assert line["event"] == ("payload validator crashed" if status == 500 else "request refused")
    line.pop("exc_info", None)  # what a validator of the user's raises is the user's
    for text in (response.text, str(response.headers), str(report), str(line)):
        assert SECRET not in text
        assert "Traceback" not in text
        assert ".py" not in text


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        ("application/cloudevents+json", 200),
        ("", 200),
        (None, 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
        ("application/jsonx", 415),
        ("json", 415),
    ],
)
async def test_the_content_type_is_json_or_nothing(
    content_type: str | None, status: int, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Whoever declares something else means something else."""
    url = await serve(orders())
    headers = job_headers(callbacks.url) | ({} if content_type is None else {"Content-Type": content_type})
    response = await http.post(f"{url}/order", content=b"{}", headers=headers)
    assert response.status_code == status
    if status == 415:
        message = f"Content-Type {content_type.partition(';')[0]} is not supported: send application/json"  # type: ignore[union-attr]
        assert response.json() == {"message": message}
        assert callbacks.received[0].body == {"status": "error", "error": message}


TOO_LARGE = "The body is over 1000 bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data"


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize(("size", "status"), [(1000, 422), (1001, 413), (5_000_000, 413)])
async def test_a_body_over_the_limit_is_refused(
    declared: bool,  # noqa: FBT001  - a column
    size: int,
    status: int,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """To the byte, by its Content-Length or as it comes in chunks; the connection is not used again."""
    url = await serve(orders())
    body = b'"' + b"x" * (size - 2) + b'"'

    async def chunks() -> Any:
        for start in range(0, size, 50_000):
            yield body[start : start + 50_000]

    response = await http.post(
        f"{url}/order", content=body if declared else chunks(), headers=job_headers(callbacks.url)
    )
    assert response.status_code == status
    assert len(callbacks.received) == 1
    if status == 413:
        assert response.json() == {"message": TOO_LARGE, "permanent": True}
        assert response.headers["connection"] == "close"
        assert callbacks.received[0].body["error"] == TOO_LARGE


async def test_a_declared_body_is_refused_before_it_comes(serve: Serve) -> None:
    """The answer is there though not one byte of the body was sent, and without asking for it."""
    url = await serve(orders())
    head = b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
    answer = await exchange(url, head)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in answer
    assert answer.endswith(json.dumps({"message": TOO_LARGE, "permanent": True}).encode())


async def test_an_endless_body_is_refused_at_the_limit(serve: Serve) -> None:
    """Chunks without an end are cut off."""
    url = await serve(orders())
    chunk = b"400\r\n" + b"x" * 0x400 + b"\r\n"
    answer = await exchange(url, b"POST /order HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    ("headers", "chunks", "read"),
    [
        ({"Content-Length": "1001"}, 100, 0),
        ({"Content-Length": "9" * 30}, 100, 0),
        ({}, 100, 11),
        ({"Content-Length": "10"}, 100, 11),
        ({"Content-Length": "abc"}, 100, 11),
    ],
)
async def test_no_more_is_read_than_needs_be(headers: dict[str, str], chunks: int, read: int) -> None:
    """Chunks of 100 bytes: a declared size is believed where it is too large, and never where it is small."""
    messages: list[Message] = [{"type": "http.request", "body": b"x" * 100, "more_body": True}] * chunks
    by_hand = HandMade(messages)
    await orders()(by_hand.scope("/order", headers), by_hand.receive, by_hand.send)
    assert by_hand.status == 413
    assert by_hand.read == read


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_a_wrong_method_is_refused_and_reported(
    method: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Only POST delivers; the job fails with the reason."""
    ran: list[object] = []
    url = await serve(orders(ran))
    response = await http.request(method, f"{url}/order", headers=job_headers(callbacks.url))
    assert response.status_code == 405
    assert [report.body for report in callbacks.received] == [
        {"status": "error", "error": f"/order allows POST, not {method}"}
    ]
    assert ran == []


async def test_by_hand_bad_input_is_told_and_not_reported(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Without job headers there is nobody to tell but the caller."""
    url = await serve(orders())
    response = await http.post(f"{url}/row", json={})
    assert response.json() == {
        "message": "The payload does not fit row: id: Field required",
        "permanent": True,
        "details": [{"field": "id", "problem": "Field required"}],
    }
    assert response.headers["x-job-error"] == "true"
    assert callbacks.received == []


async def test_garbage_is_no_request(serve: Serve, http: httpx.AsyncClient) -> None:
    """What is no HTTP is a 400, and the server goes on."""
    url = await serve(orders())
    assert (await exchange(url, b"\x16\x03\x01\x02\x00 not http\r\n\r\n")).startswith(b"HTTP/1.1 400 ")
    assert (await http.get(f"{url}/healthz")).status_code == 200


def without_payload() -> Task[..., Any]:
    """A task that takes none."""

    @task("tick")
    def tick(payload: None) -> str:
        return "ticked"

    return tick


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 200), (b"{}", 200), (b"null", 200), (b'{"a": 1}', 422), (b"[]", 422), (b"{", 400)]
)
async def test_a_task_without_payload(
    body: bytes, status: int, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Nothing, null and {} are no payload; anything else is meant for another task."""
    url = await serve(create_app(tasks=[without_payload()], settings=PATIENT))
    response = await http.post(f"{url}/tick", content=body, headers=job_headers(callbacks.url))
    assert response.status_code == status
    assert callbacks.received[0].body["status"] == ("success" if status == 200 else "error")


@pytest.mark.parametrize(
    ("method", "path", "extra"),
    [
        ("POST", "/order", {}),
        ("POST", "/order", {INVOKE_SECRET: "open sesam"}),
        ("POST", "/missing", {}),
        ("POST", "/order", {"X-Database-Id": "malformed"}),
        ("POST", "/order", {"Content-Length": "5000"}),
        ("PUT", "/order", {}),
        ("GET", "/missing", {}),
    ],
)
async def test_a_stranger_causes_no_report(
    method: str, path: str, extra: dict[str, str], serve: Serve, callbacks: CallbackServer, http: httpx.AsyncClient
) -> None:
    """Where there is a secret, who does not know it makes nothing run and nobody told, whatever else is wrong."""

    @task("order")
    async def order(payload: dict[str, Any]) -> None:
        raise AssertionError("it ran")

    settings = PATIENT.model_copy(update={"invoke_secrets": ["open sesame", "old one"], "max_body_bytes": 1000})
    url = await serve(create_app(tasks=[order], settings=settings))
    body = b"x" * 5000 if "Content-Length" in extra else b"{}"
    response = await http.request(method, f"{url}{path}", content=body, headers=job_headers(callbacks.url) | extra)
    assert response.status_code == {"POST": 401, "PUT": 405, "GET": 404}[method]
    assert response.headers["x-job-id"] == "42"
    assert callbacks.received == []


@pytest.mark.parametrize("secret", ["open sesame", "old one"])
async def test_who_knows_the_secret_is_served(
    secret: str, serve: Serve, callbacks: CallbackServer, http: httpx.AsyncClient
) -> None:
    """Either of two, so that a secret can be changed without a pause."""
    settings = PATIENT.model_copy(update={"invoke_secrets": ["open sesame", "old one"]})
    url = await serve(create_app(tasks=[without_payload()], settings=settings))
    headers = job_headers(callbacks.url) | {INVOKE_SECRET: secret}
    assert (await http.post(f"{url}/tick", headers=headers)).status_code == 200
    assert (await http.put(f"{url}/tick", headers=headers)).status_code == 405
    assert [report.body["status"] for report in callbacks.received] == ["success", "error"]
