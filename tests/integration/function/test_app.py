"""The app as a part of others: mounted, wrapped in middleware, with a lifespan, with routes of its own."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypedDict

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
from support.fixtures import Serve
from support.function_app import PATIENT, CallbackServer, HandMade, job_headers
from support.network import LOOPBACK


@task("email:send/now")
async def send(payload: dict[str, Any], ctx: JobContext) -> dict[str, Any]:
    return {"task": ctx.task, "payload": payload}


@task("other")
async def other(payload: dict[str, Any]) -> str:
    return "other"


class Marking:
    """Middleware that marks every response and knows the order it ran in."""

    def __init__(self, app: ASGIApp, mark: str) -> None:
        self.app, self.mark = app, mark

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-mark", self.mark.encode())]
            await send(message)

        await self.app(scope, receive, marked)


@pytest.mark.parametrize("prefix", ["/jobs", "/api/v1/jobs"])
async def test_mounted_it_serves_below_its_prefix(
    prefix: str, serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Tasks, list and probes, percent-encoded or not; errors name paths without the prefix."""
    functions = create_app(tasks=[send, other], settings=PATIENT)

    async def home(_request: Request) -> Response:
        return JSONResponse("the larger app's")

    @contextlib.asynccontextmanager
    async def lifespan(_outer: Starlette) -> AsyncIterator[None]:
        async with functions.lifespan_context():
            yield

    outer = Starlette(routes=[Route("/", home), Mount(prefix, functions)], lifespan=lifespan)
    url = await serve(outer)
    for path in ("email:send/now", "email%3Asend%2Fnow"):
        response = await http.post(f"{url}{prefix}/{path}", json={"a": 1}, headers=job_headers(callbacks.url))
        assert response.json() == {"task": "email:send/now", "payload": {"a": 1}}
    assert len(callbacks.received) == 2
    assert (await http.get(f"{url}{prefix}/healthz")).json() == {"status": "ok"}
    assert len((await http.get(f"{url}{prefix}/")).json()["tasks"]) == 2
    assert (await http.put(f"{url}{prefix}/other")).json() == {"message": "/other allows POST, not PUT"}
    assert (await http.post(f"{url}{prefix}/x")).json() == {"message": "No task 'x' here. Known: email:send/now, other"}
    assert (await http.get(f"{url}/")).json() == "the larger app's"
    assert (await http.post(f"{url}/other")).status_code == 404


async def test_mounted_alone_its_task_is_at_the_prefix(serve: Serve, http: httpx.AsyncClient) -> None:
    """With one task, the mount's own path runs it."""
    url = await serve(Starlette(routes=[Mount("/send", create_app(tasks=[send], settings=PATIENT))]))
    response = await http.post(f"{url}/send/", json={})
    assert response.json()["task"] == "email:send/now"


@pytest.mark.parametrize(
    ("path", "root_path"),
    [
        ("/email:send/now", ""),
        ("/p/email:send/now", "/p"),
        ("/p/email:send/now", "/p/"),
        ("/email:send/now", "/elsewhere"),
        ("/p", "/p"),
        ("/p/", "/p"),
        ("", ""),
    ],
)
async def test_a_server_s_root_path_is_no_part_of_the_task(path: str, root_path: str) -> None:
    """As ASGI has it: the path holds the root_path, or it is none of it."""
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    app = create_app(tasks=[send], settings=PATIENT)
    await app(by_hand.scope(path, root_path=root_path), by_hand.receive, by_hand.send)
    assert by_hand.status == 200


async def test_a_name_that_only_begins_like_the_root_path_is_a_task(serve: Serve, http: httpx.AsyncClient) -> None:
    """``/pay`` is not below ``/p``."""

    @task("pay")
    async def pay(payload: dict[str, Any]) -> str:
        return "paid"

    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    await create_app(tasks=[pay, other], settings=PATIENT)(
        by_hand.scope("/pay", root_path="/p"), by_hand.receive, by_hand.send
    )
    assert by_hand.status == 200


async def test_middleware_is_around_everything(
    serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer
) -> None:
    """Deliveries, refusals, probes; the first one is the outermost; add_middleware goes around those."""
    app = create_app(
        tasks=[send, other],
        settings=PATIENT,
        middleware=[Middleware(Marking, mark="outer"), Middleware(Marking, mark="inner"), Middleware(GZipMiddleware)],
    )
    app.add_middleware(Marking, mark="added")
    url = await serve(app)
    for method, path in (("POST", "/other"), ("POST", "/missing"), ("GET", "/healthz"), ("PUT", "/other")):
        response = await http.request(method, f"{url}{path}", content=b"{}", headers=job_headers(callbacks.url))
        assert response.headers["x-mark"] == "inner, outer, added"
    assert len(callbacks.received) == 3


async def test_middleware_may_refuse(serve: Serve, http: httpx.AsyncClient, callbacks: CallbackServer) -> None:
    """What it answers is the answer; nothing ran, so nothing is reported."""

    class Closed:
        def __init__(self, app: ASGIApp) -> None: ...

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await JSONResponse({"message": "closed"}, 401)(scope, receive, send)

    url = await serve(create_app(tasks=[other], settings=PATIENT, middleware=[Middleware(Closed)]))
    response = await http.post(f"{url}/other", json={}, headers=job_headers(callbacks.url))
    assert response.status_code == 401
    assert callbacks.received == []


class Pool(TypedDict):
    pool: str


async def test_the_lifespan_is_around_the_app_s_life(serve: Serve, http: httpx.AsyncClient) -> None:
    """Entered before the first request with the app, left after the last; its state reaches requests."""
    events: list[object] = []

    @contextlib.asynccontextmanager
    async def lifespan(app: FunctionApp) -> AsyncIterator[Mapping[str, Any]]:
        events.append(list(app.tasks))
        yield Pool(pool="open")
        events.append("closed")

    async def state(request: Request) -> Response:
        return JSONResponse(request.state.pool)

    app = create_app(tasks=[other], settings=PATIENT, lifespan=lifespan)
    app.add_route("/state", state)
    server = HttpServer(app, bind(LOOPBACK, 0), shutdown_timeout_seconds=1)
    await server.start()
    assert (await http.get(f"http://{LOOPBACK}:{server.port}/state")).json() == "open"
    assert events == [["other"]]
    await server.stop()
    assert events == [["other"], "closed"]


async def test_a_lifespan_that_fails_is_a_start_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """No server, the port is free again, and the error says where to look."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FunctionApp) -> AsyncIterator[None]:
        if app.tasks:
            raise ValueError("no database")
        yield

    listener = bind(LOOPBACK, 0)
    port = listener.getsockname()[1]
    server = HttpServer(
        create_app(tasks=[other], settings=PATIENT, lifespan=lifespan), listener, shutdown_timeout_seconds=1
    )
    with pytest.raises(ConfigurationError, match="the app did not start: its lifespan failed, see the log above"):
        await server.start()
    bind(LOOPBACK, port).close()


async def test_routes_of_one_s_own_answer_as_they_like(serve: Serve, http: httpx.AsyncClient) -> None:
    """Other methods than POST can be routed; an error of such a route is its own, not a missing task."""

    async def invoice(_request: Request) -> Response:
        raise HTTPException(404, "no such invoice")

    app = create_app(tasks=[other], settings=PATIENT)
    app.add_route("/invoices", invoice)
    url = await serve(app)
    response = await http.get(f"{url}/invoices")
    assert (response.status_code, response.text) == (404, "no such invoice")
    assert (await http.post(f"{url}/invoices")).json() == {"message": "No task 'invoices' here. Known: other"}


async def test_a_websocket_is_closed() -> None:
    """Nothing here speaks it, alone or mounted."""
    app = create_app(tasks=[other], settings=PATIENT)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def keep(message: Message) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/other", "root_path": "", "headers": [], "query_string": b""}
    await app(scope, receive, keep)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def test_without_a_lifespan_it_still_works(callbacks: CallbackServer) -> None:
    """A server that runs none, or a mount in an app that forgets it: deliveries run and are reported."""
    app = create_app(tasks=[other], settings=PATIENT)
    by_hand = HandMade([{"type": "http.request", "body": b"{}"}])
    await app(by_hand.scope("/other", job_headers(callbacks.url)), by_hand.receive, by_hand.send)
    assert by_hand.status == 200
    assert len(callbacks.received) == 1
    async with app.lifespan_context():
        pass  # closes what the delivery opened
