"""The app inside other apps: mounted, with middleware, a lifespan and further routes."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn import ConfigurationError, FunctionApp, JobContext, create_app, task
from jobfn.http.server import HttpServer, bind
from jobfn.telemetry import logs
from support.fixtures import Serve
from support.function_app import WAIT_FOR_REPORT, AsgiRequest, CallbackServer, job_headers
from support.network import LOOPBACK


@task("email:send/now")
async def send(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    return {"task": ctx.task, "payload": payload}


@task("other")
async def other(payload: dict[str, Any]) -> str:
    return "other"


class AddMark:
    """Middleware that adds a header to every response."""

    def __init__(self, app: ASGIApp, mark: str) -> None:
        self.app, self.mark = app, mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mark", self.mark.encode())]
            await send(message)

        await self.app(scope, receive, send_marked)


async def test_mounted_app_serves_tasks_and_probes_below_its_prefix(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    functions = create_app(tasks=[send, other], settings=WAIT_FOR_REPORT)

    async def home(_request: Request) -> Response:
        return JSONResponse("the larger app's")

    @contextlib.asynccontextmanager
    async def lifespan(_outer: Starlette) -> AsyncIterator[None]:
        async with functions.lifespan_context():
            yield

    url = await serve(Starlette(routes=[Route("/", home), Mount("/api/jobs", functions)], lifespan=lifespan))
    for path in ("email:send/now", "email%3Asend%2Fnow"):
        response = await http.post(f"{url}/api/jobs/{path}", json={"a": 1}, headers=job_headers(callbacks.url))
        assert response.json() == {"task": "email:send/now", "payload": {"a": 1}}
    assert len(callbacks.received) == 2
    assert (await http.get(f"{url}/api/jobs/healthz")).json() == {"status": "ok"}
    assert len((await http.get(f"{url}/api/jobs/")).json()["tasks"]) == 2
    refused = await http.put(f"{url}/api/jobs/other")
    assert refused.json() == {"message": "/other allows POST, not PUT", "code": "F405"}
    assert (await http.post(f"{url}/api/jobs/x")).json() == {
        "message": "No task 'x' here. Known: email:send/now, other",
        "code": "F404",
    }
    assert (await http.get(f"{url}/")).json() == "the larger app's"
    assert (await http.post(f"{url}/other")).status_code == 404


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/email:send/now", ""),
        ("/p/email:send/now", "/p"),
        ("/p/email:send/now", "/p/"),
        ("/email:send/now", "/elsewhere"),
        ("/email:send/now", "/email"),
        ("/p", "/p"),
        ("/p/", "/p"),
        ("", ""),
    ],
)
async def test_root_path_is_not_part_of_the_task(path: str, root_path: str) -> None:
    """ASGI servers differ: the path includes the root path or does not."""
    request = AsgiRequest()
    app = create_app(tasks=[send], settings=WAIT_FOR_REPORT)
    await app(request.scope(path, root_path=root_path), request.receive, request.send)
    assert request.status == 200


async def test_middleware_wraps_deliveries_errors_and_probes(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    app = create_app(
        tasks=[send, other],
        settings=WAIT_FOR_REPORT,
        middleware=[Middleware(AddMark, mark="outer"), Middleware(AddMark, mark="inner"), Middleware(GZipMiddleware)],
    )
    app.add_middleware(AddMark, mark="added")
    url = await serve(app)
    for method, path in (("POST", "/other"), ("POST", "/missing"), ("GET", "/healthz"), ("PUT", "/other")):
        response = await http.request(method, f"{url}{path}", content=b"{}", headers=job_headers(callbacks.url))
        assert response.headers["x-mark"] == "inner, outer, added"
    assert len(callbacks.received) == 3


async def test_lifespan_runs_around_requests_and_passes_its_state(http: httpx.AsyncClient) -> None:
    events: list[object] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FunctionApp) -> AsyncIterator[Mapping[str, Any]]:
        events.append(list(app.tasks))
        yield {"pool": "open"}
        events.append("closed")

    async def state(request: Request) -> Response:
        return JSONResponse(request.state.pool)

    app = create_app(tasks=[other], settings=WAIT_FOR_REPORT, lifespan=lifespan)
    app.add_route("/state", state)
    server = HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1)
    await server.start()
    assert (await http.get(f"http://{LOOPBACK}:{server.port}/state")).json() == "open"
    assert events == [["other"]]
    await server.stop()
    assert events == [["other"], "closed"]


async def test_lifespan_that_raises_stops_the_start_and_frees_the_port() -> None:
    @contextlib.asynccontextmanager
    async def lifespan(app: FunctionApp) -> AsyncIterator[None]:
        if app.tasks:
            raise ValueError("no database")
        yield

    listener = bind(LOOPBACK, 0)
    port = listener.getsockname()[1]
    app = create_app(tasks=[other], settings=WAIT_FOR_REPORT, lifespan=lifespan)
    server = HttpServer(app, listener, shutdown_timeout_seconds=1)
    with pytest.raises(ConfigurationError, match="the app did not start: its lifespan failed, see the log above"):
        await server.start()
    bind(LOOPBACK, port).close()


async def test_added_route_answers_with_its_own_errors(serve: Serve, http: httpx.AsyncClient) -> None:
    async def invoice(_request: Request) -> Response:
        raise HTTPException(404, "no such invoice")

    app = create_app(tasks=[other], settings=WAIT_FOR_REPORT)
    app.add_route("/invoices", invoice)
    url = await serve(app)
    response = await http.get(f"{url}/invoices")
    assert (response.status_code, response.text) == (404, "no such invoice")
    unknown = await http.post(f"{url}/invoices")
    assert unknown.json() == {"message": "No task 'invoices' here. Known: other", "code": "F404"}


async def test_websocket_is_closed() -> None:
    app = create_app(tasks=[other], settings=WAIT_FOR_REPORT)
    request = AsgiRequest([{"type": "websocket.connect"}])
    scope = {"type": "websocket", "path": "/other", "root_path": "", "headers": [], "query_string": b""}
    await app(scope, request.receive, request.send)
    assert [message["type"] for message in request.sent] == ["websocket.close"]


async def test_delivery_without_a_lifespan_runs_and_is_reported(callbacks: CallbackServer) -> None:
    app = create_app(tasks=[other], settings=WAIT_FOR_REPORT)
    request = AsgiRequest()
    await app(request.scope("/other", job_headers(callbacks.url)), request.receive, request.send)
    assert request.status == 200
    assert logs.job_ids.get() is None, "a server may run several deliveries in one asyncio task"
    assert len(callbacks.received) == 1
    async with app.lifespan_context():
        pass  # closes what the delivery opened
