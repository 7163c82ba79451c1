"""``jobfn mcp --http``: on a loopback address, with a token."""

import signal
from collections.abc import AsyncIterator

import httpx
import pytest

pytest.importorskip("mcp", reason="the MCP SDK is not installed: run make setup")

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from jobfn.mcp.serve import serve_http
from jobfn.mcp.settings import McpSettings
from jobfn.worker.settings import ServiceSettings
from support.assistant import MODES, Assistant, Person
from support.commands import Command, Spawn
from support.jobs import Jobs

TOKEN = "t" * 32
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


@pytest.fixture
async def url(database: str) -> AsyncIterator[str]:
    settings = McpSettings(token=TOKEN, port=0)
    async with serve_http(settings, ServiceSettings.from_environ({}, database_url=database)) as opened:
        yield opened


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as client:
        yield client


@pytest.mark.parametrize("mode", MODES)
async def test_assistant_changes_something_over_http(url: str, jobs: Jobs, mode: str) -> None:
    job = await jobs.add("mail")
    person = Person()
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        transport = streamable_http_client(url, http_client=http)
        async with Client(transport, mode=mode, elicitation_callback=person.answer) as client:
            assert (await Assistant(client).call("remove_jobs", job_ids=[job]))["done"] == 1
    assert len(person.questions) == 1


@pytest.mark.parametrize("value", [None, "", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x", f"Bearer  {TOKEN}"])
async def test_request_without_the_token_is_refused(url: str, http: httpx.AsyncClient, value: str | None) -> None:
    headers = {} if value is None else {"Authorization": value}
    response = await http.post(url, json=PING, headers=headers)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("headers", "status"), [({"Host": "evil.example"}, 421), ({"Origin": "https://evil.example"}, 403)]
)
async def test_web_page_of_another_site_is_refused(
    url: str, http: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    response = await http.post(url, json=PING, headers={"Authorization": f"Bearer {TOKEN}", **headers})
    assert response.status_code == status


async def test_large_request_is_refused(url: str, http: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    response = await http.post(url, json={**PING, "x": "x" * 4 * 1024 * 1024}, headers=headers)
    assert response.status_code == 413


async def test_number_of_sessions_is_limited(url: str, http: httpx.AsyncClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    initialize = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    answers = [(await http.post(url, json=initialize, headers=headers)).status_code for _ in range(101)]
    assert (answers[:100], answers[100]) == ([200] * 100, 503)


async def test_command_serves_until_it_is_stopped(database: str, spawn: Spawn, http: httpx.AsyncClient) -> None:
    process = await spawn("jobfn", "mcp", "--http", "--port", "0", DATABASE_URL=database, JOBFN_MCP_TOKEN=TOKEN)
    line = await process.until("mcp  http://127.0.0.1:")
    assert (await http.post(line.removeprefix("mcp  "), json=PING)).status_code == 401
    process.send(signal.SIGTERM)
    assert await process.wait() == 0


async def test_token_is_necessary_and_long(invoke: Command, database: str) -> None:
    result = await invoke("jobfn", "mcp", "--http", DATABASE_URL=database)
    assert (result.code, result.output.count("\n")) == (2, 0)
    assert "set JOBFN_MCP_TOKEN to a long random text" in result.output
    result = await invoke("jobfn", "mcp", "--http", DATABASE_URL=database, JOBFN_MCP_TOKEN="short")
    assert (result.code, result.output.startswith("jobfn: JOBFN_MCP_TOKEN: a secret must have at least 32")) == (
        2,
        True,
    )
