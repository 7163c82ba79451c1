"""Deliveries over HTTP: routing, job headers, responses."""

import asyncio
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest

from jobfn import FunctionApp, FunctionSettings, JobContext, Task, create_app, task
from support.fixtures import Serve
from support.function_app import (
    ACTOR,
    ENTITY,
    GRAPH_NODE_HEADERS,
    OPTIONAL_HEADERS,
    WAIT_FOR_REPORT,
    CallbackServer,
    job_headers,
)
from support.jobs import TENANT


def echo_app(*identifiers: str) -> FunctionApp:
    """Create an app whose tasks return their identifier and payload."""

    def create_task(identifier: str) -> Task[..., Any]:
        @task(identifier)
        async def echo(payload: Any, ctx: JobContext) -> dict[str, Any]:
            return {"task": ctx.task, "payload": payload}

        return echo

    return create_app(tasks=[create_task(identifier) for identifier in identifiers], settings=WAIT_FOR_REPORT)


@pytest.mark.parametrize(
    "identifier", ["email:send_email", "/leading", "größe", "a b%20c?d#e", "healthz", "日本" * 30, "a+b&c=d"]
)
@pytest.mark.parametrize("safe", ["", ":/", ":@!$&'()*+,;=-._~"])
async def test_path_is_the_percent_encoded_identifier(
    identifier: str, safe: str, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(echo_app(identifier, "other"))
    response = await http.post(f"{url}/{quote(identifier, safe=safe)}?query=ignored", json={"id": 1})
    assert response.status_code == 200
    assert response.json() == {"task": identifier, "payload": {"id": 1}}
    assert response.headers["content-type"] == "application/json"


async def test_root_path_runs_the_only_task(serve: Serve, http: httpx.AsyncClient) -> None:
    url = await serve(echo_app("only"))
    for path in ("", "/", "/only"):
        assert (await http.post(f"{url}{path}", json=1)).json() == {"task": "only", "payload": 1}


@pytest.fixture
def contexts() -> list[JobContext]:
    """The contexts of ``recording_app``'s jobs."""
    return []


@pytest.fixture
def recording_app(contexts: list[JobContext]) -> FunctionApp:
    @task("record")
    async def record(payload: dict[str, Any], ctx: JobContext) -> None:
        contexts.append(ctx)

    return create_app(tasks=[record], settings=WAIT_FOR_REPORT)


async def test_job_headers_become_the_context_and_are_echoed(
    recording_app: FunctionApp,
    contexts: list[JobContext],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(recording_app)
    headers = job_headers(callbacks.url) | OPTIONAL_HEADERS
    response = await http.post(f"{url}/record", json={}, headers=headers)
    [context] = contexts
    assert (str(context.database_id), str(context.actor_id), str(context.entity_id)) == (TENANT, ACTOR, ENTITY)
    assert (context.task, context.job_id, context.worker_id, context.attempt) == ("record", 42, "worker-7", 3)
    del headers["X-Callback-Url"]
    assert {name: response.headers[name] for name in headers} == headers
    assert "x-callback-url" not in response.headers
    assert "x-job-error" not in response.headers


async def test_organization_invocation_and_graph_node_are_typed_echoed_and_reported(
    recording_app: FunctionApp,
    contexts: list[JobContext],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(recording_app)
    response = await http.post(f"{url}/record", json={}, headers=job_headers(callbacks.url) | GRAPH_NODE_HEADERS)
    [context] = contexts
    assert context.organization_id == UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
    assert context.invocation_id == UUID("f47ac10b-58cc-4372-a567-0e02b2c3d479")
    assert context.execution_id == UUID("9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e")
    assert context.node_name == "add_node"
    [report] = callbacks.received
    for name, value in GRAPH_NODE_HEADERS.items():
        assert response.headers[name] == report.headers[name.lower()] == value


@pytest.mark.parametrize(("headers", "tenant"), [({}, ENTITY), ({"X-Database-Id": TENANT}, TENANT)])
async def test_default_tenant_is_used_where_the_header_is_absent(
    headers: dict[str, str],
    tenant: str,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
    contexts: list[JobContext],
) -> None:
    @task("record")
    async def record(payload: dict[str, Any], ctx: JobContext) -> None:
        contexts.append(ctx)

    settings = FunctionSettings.from_environ({"DEFAULT_DATABASE_ID": ENTITY})
    url = await serve(create_app(tasks=[record], settings=settings))
    response = await http.post(f"{url}/record", json={}, headers=job_headers(callbacks.url) | headers)
    assert [context.database_id for context in contexts] == [UUID(tenant)]
    assert response.headers.get("X-Database-Id") == headers.get("X-Database-Id")


@pytest.mark.parametrize("absent", ["", "null", "undefined"])
async def test_header_that_the_node_worker_sends_for_an_absent_id_is_ignored(
    absent: str,
    recording_app: FunctionApp,
    contexts: list[JobContext],
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(recording_app)
    headers = job_headers(callbacks.url) | dict.fromkeys(OPTIONAL_HEADERS, absent)
    response = await http.post(f"{url}/record", json={}, headers=headers)
    assert response.status_code == 200
    [context] = contexts
    assert (context.database_id, context.actor_id, context.entity_id, context.attempt) == (None, None, None, None)
    [report] = callbacks.received
    for name in OPTIONAL_HEADERS:
        assert name not in response.headers
        assert name.lower() not in report.headers


@pytest.mark.parametrize("missing", ["X-Worker-Id", "X-Job-Id", "X-Callback-Url"])
async def test_delivery_without_a_job_header_runs_without_a_report(
    missing: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(echo_app("only"))
    headers = job_headers(callbacks.url)
    del headers[missing]
    response = await http.post(f"{url}/only", json={"a": 1}, headers=headers)
    assert (response.status_code, response.json()) == (200, {"task": "only", "payload": {"a": 1}})
    assert callbacks.received == []


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("X-Job-Id", "abc", "X-Job-Id must be a whole number"),
        ("X-Job-Id", "9" * 5000, "X-Job-Id must be a whole number"),
        ("X-Database-Id", "tenant-1", "X-Database-Id must be a UUID"),
        ("X-Job-Attempt", "first", "X-Job-Attempt must be a whole number"),
    ],
)
async def test_malformed_job_header_is_refused_and_reported_if_the_job_is_known(
    name: str, value: str, reason: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    url = await serve(echo_app("only"))
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
async def test_error_response_and_report_have_the_same_message_and_job_headers(
    method: str,
    path: str,
    body: bytes,
    content_type: str,
    status: int,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    @task("only", timeout=0.05)
    async def only(payload: dict[str, Any]) -> None:
        if "fail" in payload:
            raise ValueError("it failed")
        await asyncio.Event().wait()

    url = await serve(create_app(tasks=[only], settings=WAIT_FOR_REPORT.model_copy(update={"max_body_bytes": 100})))
    headers = job_headers(callbacks.url) | OPTIONAL_HEADERS
    response = await http.request(
        method, f"{url}{path}", content=body, headers={**headers, "Content-Type": content_type}
    )
    assert response.status_code == status
    assert response.headers["x-job-error"] == "true"
    [report] = callbacks.received
    retry = {"permanent": True} if status in {413, 422} else {}
    assert report.body == {"status": "error", "error": response.json()["message"], **retry}
    assert report.headers["x-job-error"] == "true"
    del headers["X-Callback-Url"]
    for name, value in headers.items():
        assert response.headers[name] == report.headers[name.lower()] == value


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/health"])
async def test_probes_answer_get_and_head(path: str, serve: Serve, http: httpx.AsyncClient) -> None:
    url = await serve(echo_app("only"))
    response = await http.get(f"{url}{path}")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    head = await http.head(f"{url}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == response.headers["content-length"]
    assert "date" in head.headers
    assert "server" not in head.headers


async def test_index_lists_the_tasks(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("number")
    def number(payload: int) -> None:
        """Take a number.

        And more.
        """

    @task("nothing")
    def nothing(payload: None) -> None: ...

    url = await serve(create_app(tasks=[number, nothing], settings=WAIT_FOR_REPORT))
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
        ("PUT", "/", 405, "GET, HEAD", "/ allows GET or HEAD, not PUT"),
        ("POST", "/", 404, None, "The app has several tasks: name one in the path. Known: a, b"),
        ("GET", "/missing", 404, None, "No task 'missing' here. Known: a, b"),
        ("POST", "/missing", 404, None, "No task 'missing' here. Known: a, b"),
        ("POST", "/a/", 404, None, "No task 'a/' here. Known: a, b"),
        ("POST", "/healthz", 404, None, "No task 'healthz' here. Known: a, b"),
        ("POST", "/" + "x" * 5000, 404, None, f"No task '{'x' * 126}' here. Known: a, b"),
        ("POST", "/%FF", 404, None, "No task '\N{REPLACEMENT CHARACTER}' here. Known: a, b"),
    ],
)
async def test_wrong_method_or_unknown_path_is_an_error_with_the_alternatives(
    method: str, path: str, status: int, allow: str | None, message: str, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(echo_app("b", "a"))
    response = await http.request(method, f"{url}{path}", content=b"{}")
    assert response.status_code == status
    assert response.json() == {"message": message, "code": f"F{status}"}
    assert response.headers.get("allow") == allow
    assert response.headers["x-job-error"] == "true"


async def test_root_path_of_one_task_allows_get_and_post(serve: Serve, http: httpx.AsyncClient) -> None:
    url = await serve(echo_app("only"))
    response = await http.put(f"{url}/", content=b"{}")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")
    head = await http.head(f"{url}/only")
    assert (head.status_code, head.headers["allow"], head.content) == (405, "POST", b"")
    assert int(head.headers["content-length"]) > 0
