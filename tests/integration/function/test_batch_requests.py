"""Which requests with several jobs a function accepts, and when it offers to."""

import json
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount

from jobfn import JobContext, Task, create_app, task
from support.batch_request import (
    Recorder,
    batch,
    done,
    run_jobs,
    shared_headers,
)
from support.fixtures import Serve
from support.function_app import SECRET, CallbackServer
from support.secrets import OTHER_INVOKE_SECRET


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "message"),
    [
        ("/record/batch", batch(1), {"X-Invoke-Secret": "wrong"}, 401, "X-Invoke-Secret is missing or wrong"),
        (
            "/record/batch",
            batch(1, X_Invoke_Secret=SECRET),
            {"X-Invoke-Secret": ""},
            401,
            "X-Invoke-Secret is missing or wrong",
        ),
        ("/other/batch", batch(1), {}, 404, "No task at /other: send its jobs one by one"),
        ("/record/batch/", batch(1), {}, 404, "No task 'record/batch/' here. Known: record"),
        ("/record/batch", batch(1), {"Content-Type": "application/json"}, 404, "No task 'record/batch' here."),
        ("/record/batch", b"", {}, 400, "The body is not a batch of jobs: the body must have two lines per job"),
        ("/record/batch", batch(1) + b"{}\n", {}, 400, "The body is not a batch of jobs: the body must have two lines"),
        ("/record/batch", batch(1) + b"x\n1\n", {}, 400, "The body is not a batch of jobs: line 3 is not valid JSON"),
        ("/record/batch", batch(*[1] * 51), {}, 400, "The body is not a batch of jobs: the body must have at most 50"),
        ("/record/batch", batch("x" * 2**20), {}, 413, "The batch is over 1048576 bytes: send fewer jobs"),
    ],
)
async def test_refused_request_runs_nothing_and_causes_no_report(
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    message: str,
    recorder: Recorder,
    serve: Serve,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    url = await serve(recorder.app(invoke_secrets=[SECRET]))
    sent = shared_headers(callbacks.url, X_Invoke_Secret=SECRET) | headers
    response = await http.post(f"{url}{path}", content=body, headers=sent)
    assert response.status_code == status
    assert response.json()["message"].startswith(message)
    assert SECRET not in response.text
    assert (recorder.payloads, callbacks.received) == ([], [])


async def test_jobs_of_a_request_have_their_own_organizations_and_graph_nodes(
    serve: Serve, http: httpx.AsyncClient
) -> None:
    contexts: list[JobContext] = []

    @task("record")
    async def record(payload: int, ctx: JobContext) -> None:
        contexts.append(ctx)

    url = await serve(create_app(tasks=[record]))
    organization, execution = "7d444840-9dc0-11d1-b245-5ffdce74fad2", "9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e"
    own = [
        {"X-Job-Id": "1", "X-Organization-Id": organization},
        {"X-Job-Id": "2", "X-Execution-Id": execution, "X-Node-Name": "add_node"},
    ]
    body = b"".join(json.dumps(headers).encode() + b"\n1\n" for headers in own)
    assert await run_jobs(http, f"{url}/record/batch", body, shared_headers()) == done(1, 2)
    assert [(context.organization_id, context.execution_id, context.node_name) for context in contexts] == [
        (UUID(organization), None, None),
        (None, UUID(execution), "add_node"),
    ]


async def test_secret_of_the_request_is_that_of_all_its_jobs(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(recorder.app(invoke_secrets=[OTHER_INVOKE_SECRET, SECRET]))
    headers = shared_headers(X_Invoke_Secret=SECRET)
    lines = await run_jobs(http, f"{url}/record/batch", batch(1, 2), headers)
    assert (lines, recorder.payloads) == (done(1, 2), [1, 2])


@pytest.mark.parametrize(
    ("identifiers", "path", "ran"),
    [
        (["only"], "/batch", "only"),
        (["only"], "/only/batch", "only"),
        (["a/b", "a"], "/a%2Fb/batch", "a/b"),
        (["a/b", "a"], "/a/batch", "a"),
        (["a", "a/batch"], "/a/batch", "a"),
        (["a", "a/batch"], "/a%2Fbatch/batch", "a/batch"),
        (["batch", "a"], "/batch/batch", "batch"),
        (["日本 %", "a"], "/%E6%97%A5%E6%9C%AC%20%25/batch", "日本 %"),
    ],
)
async def test_path_is_that_of_the_task_and_batch(
    identifiers: list[str], path: str, ran: str, serve: Serve, http: httpx.AsyncClient
) -> None:
    calls: list[str] = []

    def create_task(identifier: str) -> Task[..., Any]:
        @task(identifier)
        async def handler(payload: int, ctx: JobContext) -> None:
            calls.append(ctx.task)

        return handler

    url = await serve(create_app(tasks=[create_task(identifier) for identifier in identifiers]))
    response = await http.post(f"{url}{path}", content=batch(1), headers=shared_headers())
    assert (response.status_code, calls) == (200, [ran])


async def test_task_named_batch_is_delivered_alone_as_usual(serve: Serve, http: httpx.AsyncClient) -> None:
    @task("batch")
    async def named_batch(payload: int) -> int:
        return payload

    @task("a/batch")
    async def a_batch(payload: int) -> int:
        return -payload

    url = await serve(create_app(tasks=[named_batch, a_batch]))
    assert (await http.post(f"{url}/batch", json=5)).json() == 5
    assert (await http.post(f"{url}/a%2Fbatch", json=5)).json() == -5


async def test_response_to_a_single_job_offers_batches_and_tells_the_duration(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(recorder.app())
    offered = await http.post(f"{url}/record", json=1, headers={"X-Settle-On": "response"})
    assert offered.headers["x-accept-batch"] == "50"
    assert 0 <= float(offered.headers["x-handler-seconds"]) < 10
    not_offered = await http.post(f"{url}/record", json=1)
    assert not {"x-accept-batch", "x-handler-seconds"} & set(not_offered.headers)


class PassThrough(BaseHTTPMiddleware):
    """Middleware that must see every job."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def test_app_with_http_middleware_accepts_no_batches(
    recorder: Recorder, serve: Serve, http: httpx.AsyncClient
) -> None:
    url = await serve(create_app(tasks=[recorder.task], middleware=[Middleware(PassThrough)]))
    alone = await http.post(f"{url}/record", json=1, headers={"X-Settle-On": "response"})
    assert alone.headers["x-settle-on"] == "response"
    assert not {"x-accept-batch", "x-handler-seconds"} & set(alone.headers)
    together = await http.post(f"{url}/record/batch", content=batch(2), headers=shared_headers())
    assert (together.status_code, recorder.payloads) == (404, [1])


async def test_mounted_app_offers_no_batches(recorder: Recorder, serve: Serve, http: httpx.AsyncClient) -> None:
    """The app that it is mounted in may have middleware."""
    url = await serve(Starlette(routes=[Mount("/jobs", recorder.app())]))
    response = await http.post(f"{url}/jobs/record", json=1, headers={"X-Settle-On": "response"})
    assert response.headers["x-settle-on"] == "response"
    assert not {"x-accept-batch", "x-handler-seconds"} & set(response.headers)
