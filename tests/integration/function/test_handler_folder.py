"""Folders as in the platform's Python template, ``ctx.agent``, and variables that tasks require."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn import ConfigurationError, FunctionApp, JobContext, Requirement, create_app, task
from support.commands import Command, Spawn
from support.fixtures import Serve
from support.function_app import ACTOR, ENTITY, CallbackServer, job_headers
from support.jobs import TENANT
from support.network import LOOPBACK, free_port

DESCRIPTION = {
    "name": "summarize-text",
    "version": "1.0.0",
    "type": "python",
    "taskIdentifier": "ai:summarize",
    "requiredSecrets": [{"name": "STRIPE_KEY", "required": True}],
}
HANDLER = """
async def handler(payload: dict, agent=None) -> dict:
    answer = await agent.inference(messages=[{"role": "user", "content": payload["text"]}], model="small")
    return {"summary": answer["content"], "tokens": answer["usage"]["total_tokens"]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "summarize").mkdir()
    (tmp_path / "summarize" / "handler.json").write_text(json.dumps(DESCRIPTION))
    (tmp_path / "summarize" / "handler.py").write_text(HANDLER)
    return tmp_path / "summarize"


class AgenticServer:
    """A server that records requests, and answers as the platform's agentic server does."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200

    async def respond(self, request: Request) -> Response:
        self.received.append((request.url.path, dict(request.headers), json.loads(await request.body())))
        if request.url.path == "/v1/embeddings":
            return JSONResponse({"data": [{"embedding": [0.5, 1.5], "index": 0}], "usage": {"total_tokens": 3}})
        message = {"role": "assistant", "content": "short"}
        usage = {"prompt_tokens": 4, "completion_tokens": 1, "total_tokens": 5}
        answer = {"choices": [{"message": message, "finish_reason": "length"}], "usage": usage}
        return JSONResponse(answer, self.status)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self.respond, methods=["POST"])])


@pytest.fixture
def agentic() -> AgenticServer:
    return AgenticServer()


async def test_folder_with_a_plain_handler_is_served_at_the_root_with_its_agent(
    folder: Path,
    agentic: AgenticServer,
    serve: Serve,
    spawn: Spawn,
    http: httpx.AsyncClient,
    callbacks: CallbackServer,
) -> None:
    port = free_port()
    agentic_url = await serve(agentic.app)
    process = await spawn(
        "jobfn", "serve", str(folder), "--port", str(port), STRIPE_KEY="k", AGENTIC_SERVER_URL=agentic_url
    )
    await process.until("serving")
    url = f"http://{LOOPBACK}:{port}"
    assert (await http.get(f"{url}/health")).json() == {"status": "ok"}
    headers = job_headers(callbacks.url, X_Database_Id=TENANT, X_Actor_Id=ACTOR, X_Entity_Id=ENTITY)
    response = await http.post(f"{url}/", json={"text": "long"}, headers=headers)
    assert (response.status_code, response.json()) == (200, {"summary": "short", "tokens": 5})
    await callbacks.wait_for(1)
    assert callbacks.bodies("/callback") == [{"status": "success"}]
    [(path, sent, body)] = agentic.received
    assert (path, body) == (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "long"}], "model": "small"},
    )
    assert (sent["x-internal-service"], sent["x-database-id"]) == ("fn-runtime-python", TENANT)
    assert (sent["x-actor-id"], sent["x-entity-id"]) == (ACTOR, ENTITY)


async def test_missing_secret_stops_the_start_with_one_line_that_names_it(folder: Path, command: Command) -> None:
    result = await command("jobfn", "serve", str(folder), "--port", "0")
    assert result.code == 2
    assert result.output == (
        "jobfn: 1 required environment variable is not set: STRIPE_KEY (secret of ai:summarize). "
        "Set it, or declare it with Requirement(..., required=False) [J101]"
    )


@task("pay", secrets=["STRIPE_KEY", Requirement("SENTRY_DSN", required=False)], configs=["REGION"])
def pay(payload: None) -> None: ...


async def test_lifespan_names_all_missing_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STRIPE_KEY", raising=False)
    monkeypatch.setenv("REGION", "")
    app: FunctionApp = create_app(tasks=[pay])
    with pytest.raises(ConfigurationError) as caught:
        async with app.lifespan_context():
            pytest.fail("it started")
    assert str(caught.value).startswith(
        "2 required environment variables are not set: STRIPE_KEY (secret of pay), REGION (config of pay). Set"
    )
    monkeypatch.setenv("STRIPE_KEY", "k")
    monkeypatch.setenv("REGION", "eu")
    async with app.lifespan_context():
        pass


async def test_agent_embeds_with_the_ids_that_the_job_has(agentic: AgenticServer, serve: Serve) -> None:
    context = JobContext("x", database_id=UUID(TENANT), env={"AGENTIC_SERVER_URL": await serve(agentic.app)})
    assert await context.agent.embed(["text"]) == {
        "embeddings": [[0.5, 1.5]],
        "usage": {"prompt_tokens": 0, "total_tokens": 3},
    }
    await context.aclose()
    [(path, sent, body)] = agentic.received
    assert (path, body, sent["x-database-id"]) == ("/v1/embeddings", {"input": ["text"]}, TENANT)
    assert not {"x-actor-id", "x-entity-id"} & sent.keys()


async def test_agent_raises_the_server_s_error_and_names_the_variable_without_a_server(
    agentic: AgenticServer, serve: Serve
) -> None:
    agentic.status = 429
    context = JobContext("x", env={"AGENTIC_SERVER_URL": await serve(agentic.app)})
    with pytest.raises(httpx.HTTPStatusError, match="429 Too Many Requests"):
        await context.agent.inference([{"role": "user", "content": "x"}], temperature=0.5, max_tokens=9)
    assert agentic.received[0][2] == {
        "messages": [{"role": "user", "content": "x"}],
        "temperature": 0.5,
        "max_tokens": 9,
    }
    await context.aclose()
    with pytest.raises(ConfigurationError, match="set AGENTIC_SERVER_URL"):
        await JobContext("x", env={}).agent.embed("text")
