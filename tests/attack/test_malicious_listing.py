"""A function whose list of tasks attacks the dashboard that shows it."""

import asyncio
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn.dashboard.limits import LimitExceeded, run_limited
from jobfn.dashboard.task_discovery import TaskDiscovery
from jobfn.worker.routes import Routes
from support.attack import StartProduction
from support.dashboard import OpenSite, Site
from support.fixtures import Serve


class Listing:
    """A function app that lists one task with the schema of the test, and records other requests."""

    def __init__(self, schema: dict[str, Any], task: str = "evil") -> None:
        self.schema, self.task = schema, task
        self.paths: list[str] = []
        self.app = Starlette(routes=[Route("/{path:path}", self.respond)])

    async def respond(self, request: Request) -> Response:
        path = request.scope["path"]
        if path == "/":
            return JSONResponse({"tasks": [{"identifier": self.task, "payload": self.schema}]})
        self.paths.append(path)
        return JSONResponse({"type": "string"})


async def submit(site: Site, payload: object) -> httpx.Response:
    await site.get("/enqueue?task=evil")
    return await site.post("/enqueue", {"task": "evil", "as": "json", "payload": json.dumps(payload)})


async def test_references_are_not_retrieved(open_site: OpenSite, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"title": "the-secret", "type": "string", "const": "the-secret"}')
    listing = Listing({})
    url = await serve(listing.app)
    site = await open_site(functions=url)
    for reference in (f"{url}/internal", f"file://{tmp_path}/schema.json", "//127.0.0.1/x", "schema.json"):
        for schema in (
            {"$ref": reference},
            {"$dynamicRef": reference},
            {"type": "object", "properties": {"a": {"$ref": reference}}},
            {"$schema": reference, "$id": reference, "type": "string"},
        ):
            listing.schema = schema
            response = await submit(site, {"a": 1})
            assert "the-secret" not in response.text
            assert "root:" not in response.text
    assert listing.paths == []


#: Regular expressions and schemas that take exponential time.
SLOW_SCHEMAS = (
    ({"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}, {"a": "a" * 40 + "!"}),
    ({"type": "object", "patternProperties": {"^(a+)+$": {}}}, {"a" * 40 + "!": 1}),
    ({"type": "object", "propertyNames": {"pattern": "^(a|a)*$"}}, {"a" * 40 + "!": 1}),
)


@pytest.mark.parametrize(("schema", "payload"), SLOW_SCHEMAS)
async def test_a_slow_schema_stops_neither_the_dashboard_nor_the_form(
    open_site: OpenSite, serve: Serve, schema: dict[str, Any], payload: object
) -> None:
    site = await open_site(functions=await serve(Listing(schema).app))
    submitted = asyncio.create_task(submit(site, payload))
    pages = 0
    while not submitted.done():
        assert (await asyncio.wait_for(site.client.get("/healthz"), 2)).status_code == 200
        pages += 1
        await asyncio.sleep(0.02)
    assert pages > 20
    response = await submitted
    assert response.status_code == 422
    assert "it takes more than 5 seconds" in response.text


async def test_work_that_takes_too_much_memory_ends() -> None:
    with pytest.raises(LimitExceeded, match="1024 MiB of memory"):
        await run_limited(bytearray, 2 * 1024**3)
    assert await run_limited(len, "abc") == 3


async def test_an_app_does_not_describe_the_tasks_of_another(serve: Serve) -> None:
    honest, evil = Listing({"title": "honest"}, task="pay"), Listing({"title": "evil"}, task="pay")
    honest_url, evil_url = await serve(honest.app), await serve(evil.app)
    routes = Routes(evil_url, {"pay": f"{honest_url}/pay"})
    discovery = TaskDiscovery(routes)
    try:
        listed, _ = await discovery.find_task("pay")
        assert listed is not None
        assert listed.payload == {"title": "honest"}
        assert (await discovery.list_tasks()).tasks["pay"].payload == {"title": "honest"}
        assert (await discovery.find_task("other"))[0] is None
    finally:
        await discovery.aclose()


async def test_lists_of_many_tasks_leave_nothing_behind() -> None:
    """With a host per task, each name in the form is another app, whose list may have 4 MiB."""

    async def respond(request: Request) -> Response:
        task = request.headers["Host"].split(".")[0]
        return JSONResponse({"tasks": [{"identifier": task, "description": "x" * 100_000}]})

    app = Starlette(routes=[Route("/", respond)])
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app))
    discovery = TaskDiscovery(Routes("http://{task}.jobs", {}), client=client, now=lambda: 0.0)
    tracemalloc.start()
    try:
        for number in range(400):
            assert (await discovery.find_task(f"t{number}"))[0] is not None
        assert tracemalloc.get_traced_memory()[0] < 20_000_000
    finally:
        tracemalloc.stop()
        await discovery.aclose()


async def test_a_listing_that_drips_is_given_up(serve: Serve) -> None:
    async def drip(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.05)

    discovery = TaskDiscovery(Routes(await serve(drip), {}))
    try:
        async with asyncio.timeout(10):
            listing = await discovery.list_tasks()
    finally:
        await discovery.aclose()
    assert listing.tasks == {}
    assert "is unreachable: no response within 3 s" in listing.problems[0]


async def test_a_listing_is_neither_large_nor_compressed(serve: Serve) -> None:
    compressed = Response(gzip.compress(b" " * 4_000_000), headers={"Content-Encoding": "gzip"})
    large = Response(b" " * (4 * 1024 * 1024 + 1))
    for response, problem in (
        (compressed, "its response is compressed"),
        (large, "its response exceeds 4194304 bytes"),
    ):
        discovery = TaskDiscovery(Routes(await serve(response), {}))
        listing = await discovery.list_tasks()
        await discovery.aclose()
        assert listing.tasks == {}
        assert f"lists no tasks: {problem}" in listing.problems[0]


async def test_honest_jobs_run_while_the_form_of_a_listing_is_checked(
    start_production: StartProduction, serve: Serve
) -> None:
    schema, payload = SLOW_SCHEMAS[0]
    evil = await serve(Listing(schema | {"title": "x" * 1_000_000}).app)
    production = await start_production(evil=f"{evil}/")

    async def attack() -> None:
        async with httpx.AsyncClient(base_url=production.dashboard_url, timeout=60, trust_env=False) as client:
            response = await submit(Site(production.dashboard_url, client), payload)
            assert response.status_code == 422

    await production.withstands(attack)
