"""Invalid requests: a JSON error that names the field and the reason, without payload values, and a report."""

import asyncio
import json

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, field_validator
from starlette.types import Message
from structlog.testing import capture_logs

from jobfn import FunctionApp, create_app, task
from support.fixtures import Serve
from support.function_app import SECRET, WAIT_FOR_REPORT, AsgiRequest, CallbackServer, job_headers
from support.network import LOOPBACK


class Order(BaseModel):
    """A payload with custom validators."""

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


def order_app(payloads: list[object] | None = None) -> FunctionApp:
    """Create an app with a body limit of 1000 bytes that records its payloads."""

    @task("order")
    async def order(payload: Order) -> None:
        (payloads if payloads is not None else []).append(payload)

    return create_app(tasks=[order], settings=WAIT_FOR_REPORT.model_copy(update={"max_body_bytes": 1000}))


DOES_NOT_FIT = "The payload does not fit order: "


@pytest.mark.parametrize(
    ("path", "body", "status", "message", "fields"),
    [
        ("/order", b"", 400, "The body is empty: send the payload of order as JSON", []),
        ("/order", SECRET.encode(), 400, "The body is not valid JSON in UTF-8: expected ident", []),
        ("/order", {"nte": SECRET}, 422, f"{DOES_NOT_FIT}nte: Extra inputs are not permitted", ["nte"]),
        ("/order", {"note": SECRET}, 422, f"{DOES_NOT_FIT}note: the note '…' is too private", ["note"]),
        ("/order", {"broken": SECRET}, 500, "validating order's payload raised LookupError: see the function's", []),
        ("/elsewhere", {"a": SECRET}, 404, "No task 'elsewhere' here. Known: order", []),
    ],
)
async def test_invalid_payload_is_answered_and_reported_without_its_values(
    path: str,
    body: object,
    status: int,
    message: str,
    fields: list[str],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    payloads: list[object] = []
    url = await serve(order_app(payloads))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    with capture_logs() as lines:
        response = await http.post(f"{url}{path}", content=content, headers=job_headers(callbacks.url))
    assert response.status_code == status
    error = response.json()
    assert error["message"].startswith(message)
    assert [detail["field"] for detail in error.get("details", [])] == fields
    assert all(detail["problem"] for detail in error.get("details", []))
    [report] = callbacks.received
    retry = {"permanent": True} if status in {400, 422} else {}  # a retry has the same payload
    assert report.body == {"status": "error", "error": error["message"], **retry}
    assert error.get("permanent", False) is bool(retry)
    assert payloads == []
    [line] = lines
    assert line["event"] == ("payload validator crashed" if status == 500 else "request refused")
    line.pop("exc_info", None)  # the validator's own exception may hold values
    for text in (response.text, str(response.headers), str(report), str(line)):
        assert SECRET not in text
        assert "Traceback" not in text
        assert ".py" not in text


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/cloudevents+json", 200),
        ("", 200),
        (None, 200),
        ("text/plain", 415),
        ("application/jsonx", 415),
    ],
)
async def test_content_type_other_than_json_is_refused(
    content_type: str | None, status: int, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(order_app())
    headers = job_headers(callbacks.url) | ({} if content_type is None else {"Content-Type": content_type})
    response = await http.post(f"{url}/order", content=b"{}", headers=headers)
    assert response.status_code == status
    if status == 415:
        message = f"Content-Type {content_type.partition(';')[0]} is not supported: send application/json"  # type: ignore[union-attr]
        assert response.json() == {"message": message, "code": "F415"}
        assert callbacks.received[0].body == {"status": "error", "error": message}


TOO_LARGE = "The body is over 1000 bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data"


@pytest.mark.parametrize(("size", "status", "connection"), [(1000, 422, None), (1001, 413, "close")])
async def test_body_over_the_limit_is_refused_and_closes_the_connection(
    size: int, status: int, connection: str | None, serve: Serve, http: httpx.AsyncClient
) -> None:
    response = await http.post(f"{await serve(order_app())}/order", content=b'"' + b"x" * (size - 2) + b'"')
    assert (response.status_code, response.headers.get("connection")) == (status, connection)


async def test_declared_body_over_the_limit_is_refused_before_it_is_sent(serve: Serve) -> None:
    url = await serve(order_app())
    reader, writer = await asyncio.open_connection(LOOPBACK, int(url.rpartition(":")[2]))
    writer.write(b"POST /order HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    response = await reader.readuntil(b"}")
    writer.close()
    assert response.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in response
    assert response.endswith(json.dumps({"message": TOO_LARGE, "code": "F413", "permanent": True}).encode())


@pytest.mark.parametrize(
    ("headers", "receive_count"),
    [
        ({"Content-Length": "1001"}, 0),
        ({"Content-Length": "9" * 30}, 0),
        ({}, 11),
        ({"Content-Length": "10"}, 11),
        ({"Content-Length": "abc"}, 11),
    ],
)
async def test_body_is_read_only_up_to_the_limit(headers: dict[str, str], receive_count: int) -> None:
    """In chunks of 100 bytes: a Content-Length above the limit is trusted, one below it is not."""
    chunk: Message = {"type": "http.request", "body": b"x" * 100, "more_body": True}
    request = AsgiRequest([*[chunk] * 100, {"type": "http.disconnect"}])
    counts: list[int] = []

    async def send(message: Message) -> None:
        counts.append(request.receive_count)
        await request.send(message)

    await order_app()(request.scope("/order", headers), request.receive, send)
    assert (request.status, counts[0]) == (413, receive_count)
