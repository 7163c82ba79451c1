"""jobfn functions under a worker that settles by the response, on jobfn's schema and on the platform's newest one."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from interop.compute_worker import GRAPH_SCHEMA, WORKER_ID, ComputeWorker
from interop.parts import Parts, install_schema
from support.commands import Spawn
from support.jobs import NEWEST_PLATFORM_SCHEMA, TENANT, Jobs
from support.network import LOOPBACK, free_port

ORGANIZATION = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
EXECUTION = "9a7b330a-a736-41e5-9d53-6b2f5b1d3c4e"


def message_of(error: str) -> tuple[int, str]:
    """Return the status and the function's message in an error of the worker."""
    status, _, body = error.removeprefix("HTTP ").partition(": ")
    return int(status), json.loads(body)["message"]


class Platform:
    """A database with the worker's tables, the worker, and a function process."""

    def __init__(self, connection: "asyncpg.Connection[Any]", worker: ComputeWorker) -> None:
        self._connection = connection
        self.worker = worker

    async def add_job(self, task: str, payload: object) -> int:
        job_id: int = await self._connection.fetchval(
            "select (app_jobs.add_job(identifier := $1, payload := $2::json, organization_id := $3)).id",
            task,
            json.dumps(payload),
            ORGANIZATION,
        )
        return job_id

    async def run(self, task: str, payload: object) -> int:
        """Add a job and let the worker run it."""
        job_id = await self.add_job(task, payload)
        assert await self.worker.run_next() == job_id
        return job_id

    async def invocation(self) -> tuple[str, Any]:
        """Return the status and the result, or the error, of the only invocation."""
        (row,) = await self._connection.fetch("select status, result, error from compute.invocations")
        return row["status"], row["error"] or json.loads(row["result"])


@pytest.fixture(params=["jobfn", "newest"])
async def schema(request: pytest.FixtureRequest, connection: "asyncpg.Connection[Any]") -> str:
    name: str = request.param
    if name == "jobfn":
        await install_schema("jobfn", connection)
    else:
        await connection.execute(NEWEST_PLATFORM_SCHEMA)
    await connection.execute(GRAPH_SCHEMA)
    await connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    return name


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30) as client:
        yield client


@pytest.fixture
async def function_url(spawn: Spawn) -> str:
    port = free_port()
    file = str(Path(__file__).with_name("compute_functions.py"))
    function = await spawn("python", "-m", "jobfn.function", file, PORT=str(port))
    await function.until("serving")
    return f"http://{LOOPBACK}:{port}"


@pytest.fixture
def platform(
    schema: str, connection: "asyncpg.Connection[Any]", http: httpx.AsyncClient, function_url: str
) -> Platform:
    urls = {task: f"{function_url}/{task}" for task in ("note", "fail", "render", "add")}
    return Platform(connection, ComputeWorker(connection, http, urls))


async def test_result_of_a_sync_task_completes_the_job(platform: Platform, connection: Any) -> None:
    job_id = await platform.run("note", {"id": 7})
    assert not await Jobs(connection).exists(job_id)
    assert await platform.invocation() == ("completed", {"noted": 7, "organization": ORGANIZATION})


async def test_failing_task_fails_the_job_which_is_retried(platform: Platform, connection: Any) -> None:
    job_id = await platform.run("fail", {})
    row = await Jobs(connection).row(job_id)
    assert (row["attempts"], row["locked_by"]) == (1, None)
    assert message_of(row["last_error"]) == (500, "boom")
    assert (await platform.invocation())[0] == "failed"


async def test_result_of_a_background_task_is_awaited(platform: Platform, connection: Any) -> None:
    job_id = await platform.run("render", {"id": 7})
    assert not await Jobs(connection).exists(job_id)
    assert await platform.invocation() == ("completed", {"rendered": 7})


async def test_failure_of_a_background_task_fails_the_job(platform: Platform, connection: Any) -> None:
    job_id = await platform.run("render", {"fail": True})
    row = await Jobs(connection).row(job_id)
    assert (row["attempts"], message_of(row["last_error"])) == (1, (500, "no frames"))


@pytest.mark.parametrize(
    ("inputs", "node"),
    [
        ({"a": 5, "b": 3}, ({"result": 8, "execution": EXECUTION, "node": "add_node"}, None)),
        ({"a": -1, "b": 3}, (None, (500, "a is negative"))),
    ],
    ids=["completed", "failed"],
)
async def test_function_runs_the_node_of_a_flow_graph(
    inputs: dict[str, int], node: tuple[Any, Any], platform: Platform, connection: Any
) -> None:
    payload = {"execution_id": EXECUTION, "node_name": "add_node", "node_type": "add", "inputs": inputs, "props": []}
    job_id = await platform.run("add", payload)
    assert not await Jobs(connection).exists(job_id)
    (row,) = await connection.fetch("select execution_id, node_name, output, error from compute.nodes")
    assert (str(row["execution_id"]), row["node_name"]) == (EXECUTION, "add_node")
    assert (row["output"] and json.loads(row["output"]), row["error"] and message_of(row["error"])) == node


@pytest.mark.parametrize("schema", ["jobfn"], indirect=True)
@pytest.mark.parametrize(("payload", "outcomes"), [({"id": 7}, [("completed", 1)]), ({"fail": True}, [("failed", 1)])])
async def test_background_task_reports_once_and_responds_where_the_worker_also_sends_a_callback_url(
    payload: dict[str, Any],
    outcomes: list[tuple[str, int]],
    schema: str,
    connection: Any,
    http: httpx.AsyncClient,
    function_url: str,
    parts: Parts,
) -> None:
    """As in the platform's own deployment, which sets COMPUTE_CALLBACK_URL."""
    callback_port = free_port()
    variables = parts.variables(0, callback_port, JOBS_SUPPORT_ANY="false", HOSTNAME="callbacks-only")
    await parts.start_service(variables)
    callback_url = f"http://{LOOPBACK}:{callback_port}/callback"
    worker = ComputeWorker(connection, http, {"render": f"{function_url}/render"}, callback_url=callback_url)
    platform = Platform(connection, worker)
    job_id = await platform.run("render", payload)
    rows = await connection.fetch("select outcome, attempt, worker from app_jobs.job_runs where job_id = $1", job_id)
    assert [(row["outcome"], row["attempt"]) for row in rows] == outcomes
    assert {row["worker"] for row in rows} == {WORKER_ID}
    assert (await platform.invocation())[0] == outcomes[0][0]
