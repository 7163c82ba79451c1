"""Deliveries by HTTP: which task a path names, what the handler is given, what comes back."""

import json
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from jobfn import FunctionApp, JobContext, create_app, task
from support.fixtures import Serve
from support.function_app import ACTOR, ENTITY, PATIENT, CallbackServer, exchange, job_headers
from support.jobs import TENANT

ALL = {
    "X-Database-Id": TENANT,
    "X-Actor-Id": ACTOR,
    "X-Entity-Id": ENTITY,
    "X-Job-Attempt": "3",
}


def app_of(*identifiers: str) -> FunctionApp:
    """An app whose tasks answer with their own name and the payload."""

    def make(identifier: str) -> Any:
        @task(identifier)
        async def handler(payload: Any, ctx: JobContext) -> dict[str, Any]:
            """Say what came."""
            return {"task": ctx.task, "payload": payload}

        return handler

    return create_app(tasks=[make(identifier) for identifier in identifiers], settings=PATIENT)


@pytest.mark.parametrize(
    "identifier",
    [
        "process_invoice",
        "email:send_email",
        "a/b",
        "/leading",
        "größe",
        "a b%20c?d#e",
        "healthz",
        "日本" * 30,
        "a+b&c=d",
    ],
)
@pytest.mark.parametrize("safe", ["", ":/", ":@!$&'()*+,;=-._~"])
async def test_the_path_is_the_task_percent_decoded(
    identifier: str, safe: str, serve: Serve, http: httpx.AsyncClient
) -> None:
    """However much of it a client encodes."""
    url = await serve(app_of(identifier, "other"))
    response = await http.post(f"{url}/{quote(identifier, safe=safe)}?query=ignored", json={"id": 1})
    assert response.status_code == 200
    assert response.json() == {"task": identifier, "payload": {"id": 1}}
    assert response.headers["content-type"] == "application/json"


async def test_the_root_is_the_only_task(serve: Serve, http: httpx.AsyncClient) -> None:
    """With one task, POST / runs it, as does its own path."""
    url = await serve(app_of("only"))
    for path in ("", "/", "/only"):
        assert (await http.post(f"{url}{path}", json=1)).json() == {"task": "only", "payload": 1}


async def test_the_root_of_several_tasks_is_none_of_them(serve: Serve, http: httpx.AsyncClient) -> None:
    """404 that names them."""
    url = await serve(app_of("b", "a"))
    response = await http.post(f"{url}/", json=1)
    assert response.status_code == 404
    assert response.json() == {"message": "The app has several tasks: name one in the path. Known: a, b"}


async def test_the_handler_is_given_the_headers_typed(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Each id is there under its name; what is echoed is what came."""
    seen: list[JobContext] = []

    @task("look")
    async def look(payload: dict[str, Any], ctx: JobContext) -> None:
        seen.append(ctx)

    url = await serve(create_app(tasks=[look], settings=PATIENT))
    headers = job_headers(callbacks.url) | ALL
    response = await http.post(f"{url}/look", json={}, headers=headers)
    [context] = seen
    assert str(context.database_id) == TENANT
    assert str(context.actor_id) == ACTOR
    assert str(context.entity_id) == ENTITY
    assert (context.task, context.job_id, context.worker_id, context.attempt) == ("look", 42, "worker-7", 3)
    del headers["X-Callback-Url"]
    assert {name: response.headers[name] for name in headers} == headers
    assert "x-callback-url" not in response.headers
    assert "x-job-error" not in response.headers


@pytest.mark.parametrize("absent", ["", "null", "undefined"])
async def test_what_the_node_worker_sends_for_nothing_is_nothing(
    absent: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """An absent tenant arrives empty, as null or as undefined: None, not echoed, not reported."""
    seen: list[JobContext] = []

    @task("look")
    async def look(payload: dict[str, Any], ctx: JobContext) -> None:
        seen.append(ctx)

    url = await serve(create_app(tasks=[look], settings=PATIENT))
    headers = job_headers(callbacks.url) | dict.fromkeys(ALL, absent)
    response = await http.post(f"{url}/look", json={}, headers=headers)
    assert response.status_code == 200
    assert (seen[0].database_id, seen[0].actor_id, seen[0].entity_id, seen[0].attempt) == (None, None, None, None)
    [report] = callbacks.received
    for name in ALL:
        assert name not in response.headers
        assert name.lower() not in report.headers


async def test_by_hand_it_runs_and_reports_nothing(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """A request without job headers is answered; nobody is told."""
    url = await serve(app_of("only"))
    response = await http.post(f"{url}/only", json={"a": 1})
    assert (response.status_code, response.json()) == (200, {"task": "only", "payload": {"a": 1}})
    for missing in ("X-Worker-Id", "X-Job-Id", "X-Callback-Url"):
        headers = job_headers(callbacks.url)
        del headers[missing]
        assert (await http.post(f"{url}/only", json={}, headers=headers)).status_code == 200
    assert callbacks.received == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("X-Job-Id", "abc", "X-Job-Id must be a whole number"),
        ("X-Job-Id", "9" * 5000, "X-Job-Id must be a whole number"),
        ("X-Database-Id", "tenant-1", "X-Database-Id must be a UUID"),
        ("X-Actor-Id", "1", "X-Actor-Id must be a UUID"),
        ("X-Entity-Id", "1", "X-Entity-Id must be a UUID"),
        ("X-Job-Attempt", "first", "X-Job-Attempt must be a whole number"),
    ],
)
async def test_a_malformed_header_is_a_400(
    name: str, value: str, reason: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Nothing runs; the failure is reported where the job is known, and every header is echoed."""
    url = await serve(app_of("only"))
    headers = job_headers(callbacks.url) | {name: value}
    response = await http.post(f"{url}/only", json={}, headers=headers)
    assert response.status_code == 400
    message = response.json()["message"]
    assert message.startswith(reason)
    assert response.headers["x-job-error"] == "true"
    assert response.headers[name] == value
    if name == "X-Job-Id":
        assert callbacks.received == []
    else:
        [report] = callbacks.received
        assert report.body == {"status": "error", "error": message}
        assert report.headers["x-job-id"] == "42"
        assert report.headers[name.lower()] == value


@pytest.mark.parametrize(
    ("method", "path", "body", "content_type", "status"),
    [
        ("POST", "/missing", b"{}", "application/json", 404),
        ("PUT", "/only", b"{}", "application/json", 405),
        ("POST", "/only", b"x" * 200, "application/json", 413),
        ("POST", "/only", b"{}", "text/plain", 415),
        ("POST", "/only", b"[]", "application/json", 422),
        ("POST", "/only", b'{"fail": 1}', "application/json", 500),
        ("POST", "/only", b'{"hang": 1}', "application/json", 504),
    ],
)
async def test_headers_are_echoed_on_every_error(
    method: str,
    path: str,
    body: bytes,
    content_type: str,
    status: int,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    """The same message in response and report, X-Job-Error on both, the job's headers on both."""
    import asyncio  # noqa: PLC0415  - the handler's alone

    @task("only", timeout=0.05)
    async def only(payload: dict[str, Any]) -> None:
        if "fail" in payload:
            raise ValueError("it failed")
        await asyncio.Event().wait()

    url = await serve(create_app(tasks=[only], settings=PATIENT.model_copy(update={"max_body_bytes": 100})))
    headers = job_headers(callbacks.url) | ALL
    response = await http.request(
        method, f"{url}{path}", content=body, headers={**headers, "Content-Type": content_type}
    )
    assert response.status_code == status
    assert response.headers["x-job-error"] == "true"
    [report] = callbacks.received
    for_good = {"permanent": True} if status in {413, 422} else {}
    assert report.body == {"status": "error", "error": response.json()["message"], **for_good}
    assert report.headers["x-job-error"] == "true"
    del headers["X-Callback-Url"]
    for name, value in headers.items():
        assert response.headers[name] == report.headers[name.lower()] == value


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_are_answered(path: str, serve: Serve, http: httpx.AsyncClient) -> None:
    """GET and HEAD: 200, a body that HEAD only counts."""
    url = await serve(app_of("only"))
    response = await http.get(f"{url}{path}")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    head = await http.head(f"{url}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == response.headers["content-length"]
    assert "date" in head.headers


async def test_the_list_of_tasks(serve: Serve, http: httpx.AsyncClient) -> None:
    """GET /: identifier, first line of the docstring, JSON Schema of the payload."""

    @task("number")
    def number(payload: int) -> None:
        """Take a number.

        And more.
        """

    @task("nothing")
    def nothing(payload: None) -> None: ...

    url = await serve(create_app(tasks=[number, nothing], settings=PATIENT))
    response = await http.get(f"{url}/")
    assert response.status_code == 200
    assert response.json() == {
        "tasks": [
            {"identifier": "number", "description": "Take a number.", "payload": {"type": "integer"}},
            {"identifier": "nothing", "description": "", "payload": {"type": "null"}},
        ]
    }
    assert (await http.head(f"{url}/")).headers["content-length"] == response.headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path", "status", "allow", "message"),
    [
        ("GET", "/a", 405, "POST", "/a allows POST, not GET"),
        ("PUT", "/a", 405, "POST", "/a allows POST, not PUT"),
        ("DELETE", "/a", 405, "POST", "/a allows POST, not DELETE"),
        ("OPTIONS", "/a", 405, "POST", "/a allows POST, not OPTIONS"),
        ("PUT", "/", 405, "GET, HEAD", "/ allows GET or HEAD, not PUT"),
        ("PATCH", "/healthz", 405, "GET, HEAD", "/healthz allows GET or HEAD, not PATCH"),
        ("GET", "/missing", 404, None, "No task 'missing' here. Known: a, b"),
        ("POST", "/missing", 404, None, "No task 'missing' here. Known: a, b"),
        ("POST", "/a/", 404, None, "No task 'a/' here. Known: a, b"),
        ("POST", "/healthz", 404, None, "No task 'healthz' here. Known: a, b"),
        ("GET", "/healthz/", 404, None, "No task 'healthz/' here. Known: a, b"),
        ("POST", "/" + "x" * 5000, 404, None, f"No task '{'x' * 126}' here. Known: a, b"),
        ("POST", "/%FF", 404, None, "No task '\N{REPLACEMENT CHARACTER}' here. Known: a, b"),
    ],
)
async def test_what_is_not_served(
    method: str, path: str, status: int, allow: str | None, message: str, serve: Serve, http: httpx.AsyncClient
) -> None:
    """Wrong methods say what is right, unknown tasks which ones are known."""
    url = await serve(app_of("b", "a"))
    response = await http.request(method, f"{url}{path}", content=b"{}")
    assert response.status_code == status
    assert response.json() == {"message": message}
    assert response.headers.get("allow") == allow
    assert response.headers["x-job-error"] == "true"


async def test_the_root_of_one_task_takes_both(serve: Serve, http: httpx.AsyncClient) -> None:
    """The list by GET, the task by POST: a 405 says so; HEAD of a task is answered without a body."""
    url = await serve(app_of("only"))
    response = await http.put(f"{url}/", content=b"{}")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")
    head = await http.head(f"{url}/only")
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    assert int(head.headers["content-length"]) > 0


async def test_a_wrong_method_with_job_headers_is_reported(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """The job fails with the reason."""
    url = await serve(app_of("only"))
    await http.put(f"{url}/only", content=b"{}", headers=job_headers(callbacks.url))
    [report] = callbacks.received
    assert report.body == {"status": "error", "error": "/only allows POST, not PUT"}


async def test_a_connection_carries_many_deliveries(serve: Serve) -> None:
    """Keep-alive, requests sent ahead of responses, HTTP/1.0, and Connection: close."""
    url = await serve(app_of("only"))
    request = b"POST /only HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n7"
    last = b"POST /only HTTP/1.0\r\nContent-Length: 1\r\n\r\n8"
    answers = await exchange(url, request * 3 + last)
    assert answers.count(b"HTTP/1.1 200 OK") == 4
    assert answers.count(b'"payload":7') == 3
    assert answers.endswith(b'{"task":"only","payload":8}')
    assert answers.count(b"connection: close") == 1


async def test_the_result_is_the_body(serve: Serve, http: httpx.AsyncClient) -> None:
    """JSON of the handler's result; null for none; what JSON cannot hold does not fail the job."""
    results: dict[str, Any] = {"model": {"a": [1, "ü"]}, "none": None, "odd": object()}

    @task("give")
    async def give(payload: str) -> Any:
        return results[payload]

    url = await serve(create_app(tasks=[give], settings=PATIENT))
    for name, expected in (("model", {"a": [1, "ü"]}), ("none", None), ("odd", None)):
        response = await http.post(f"{url}/give", content=json.dumps(name))
        assert (response.status_code, response.json()) == (200, expected)
