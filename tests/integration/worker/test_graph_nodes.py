"""Nodes of the platform's flow graphs: the worker completes or fails them together with their jobs."""

import contextlib
import functools
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from jobfn import JobContext, PermanentError, RetryLater, create_app, task
from jobfn.database.graph_functions import open_graph_store
from jobfn.database.native_store import NativeJobStore
from jobfn.database.store import ignore_settlement
from jobfn.in_process import local_tasks
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import Serve, StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import PLATFORM_SCHEMA, Jobs
from support.network import eventually
from support.roles import temporary_role
from support.service import start_in_loop

ENGINE = (Path(__file__).parent / "engine.sql").read_text()
EXECUTION = "0198c5a0-0000-7000-8000-000000000001"

Node = tuple[str, object, str | None, str | None]


@pytest.fixture
async def engine(connection: "asyncpg.Connection[Any]") -> None:
    """Install the engine, with one running execution."""
    await connection.execute(ENGINE)
    await connection.execute("insert into graphs_private.executions (id) values ($1)", EXECUTION)


async def add_node(jobs: Jobs, name: str, task_: str, inputs: object, **options: object) -> int:
    payload = {"execution_id": EXECUTION, "node_name": name, "node_type": task_, "inputs": inputs, "props": []}
    return await jobs.add(task_, payload, **options)


async def nodes(connection: "asyncpg.Connection[Any]") -> list[Node]:
    rows = await connection.fetch("select * from graphs_private.nodes")
    return [
        (row["name"], None if row["output"] is None else json.loads(row["output"]), row["error_code"], row["error"])
        for row in rows
    ]


@pytest.mark.usefixtures("engine")
async def test_function_gets_the_inputs_and_its_result_completes_the_node(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(202, {"sum": 3})  # any 2xx is a success: nobody would report later
    await start_worker()
    await add_node(jobs, "first", "add", {"a": 1, "b": 2})
    await jobs.until_gone()
    assert [(request.path, request.body) for request in function.received] == [
        ("/add", {"a": 1, "b": 2}),
        ("/second", {"sum": 3}),
    ]
    headers = function.received[0].headers
    assert (headers["x-execution-id"], headers["x-node-name"]) == (EXECUTION, "first")
    assert not {"x-callback-url", "x-callback-batch"} & headers.keys()
    assert await nodes(jobs.connection) == [("first", {"sum": 3}, None, None), ("then", {"sum": 3}, None, None)]


@pytest.mark.usefixtures("engine")
async def test_failure_fails_the_node_and_is_not_retried(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(500, {"message": "no such order"})
    await start_worker()
    job = await add_node(jobs, "first", "add", {})
    row = await jobs.until_failed(job, attempts=25)
    assert row["last_error"] == "no such order"
    assert await nodes(jobs.connection) == [("first", None, "NODE_EXECUTION_FAILED", "no such order")]
    assert await jobs.connection.fetchval("select status from graphs_private.executions") == "failed"


@task("later")
async def later(payload: dict[str, int], ctx: JobContext) -> int:
    if ctx.snoozes == 0:
        raise RetryLater(seconds=0)
    return payload["a"] + 1


@task("in_background", background=True)
async def in_background(payload: dict[str, int], ctx: JobContext) -> dict[str, str | None]:
    return {"node": ctx.node_name, "execution": str(ctx.execution_id)}


@task("never")
async def never(payload: dict[str, int]) -> None:
    raise PermanentError("out of stock")


@pytest.mark.usefixtures("engine")
async def test_nodes_run_in_functions_of_jobfn(jobs: Jobs, serve: Serve, start_service: StartService) -> None:
    await start_service(await serve(create_app(tasks=[later, in_background, never])))
    for name in ("later", "in_background"):
        await jobs.until_gone(await add_node(jobs, name, name, {"a": 1}))
    failed = await add_node(jobs, "never", "never", {})
    await jobs.until_failed(failed, attempts=25)
    assert await nodes(jobs.connection) == [
        ("later", 2, None, None),  # after a retry that the function asked for
        ("in_background", {"node": "in_background", "execution": EXECUTION}, None, None),
        ("never", None, "NODE_EXECUTION_FAILED", "out of stock"),
    ]


@pytest.mark.usefixtures("engine")
async def test_refused_output_fails_the_job_and_changes_no_node(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.connection.execute("update graphs_private.executions set status = 'failed'")
    await start_worker()
    job = await add_node(jobs, "first", "add", {})
    row = await jobs.until_failed(job, attempts=25)
    assert row["last_error"] == "the flow graph refused the output of node first: execution is not running"
    assert (await nodes(jobs.connection), len(function.received)) == ([], 1)


@pytest.mark.usefixtures("engine")
async def test_refused_failure_keeps_the_reason_of_the_function(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.connection.execute("update graphs_private.executions set status = 'failed'")
    function.respond(500, {"message": "no such order"})
    await start_worker()
    row = await jobs.until_failed(await add_node(jobs, "first", "add", {}), attempts=25)
    assert (row["last_error"], await nodes(jobs.connection)) == ("no such order", [])


@pytest.mark.usefixtures("engine")
async def test_last_attempt_fails_the_node(jobs: Jobs, function: RecordingFunction, start_worker: StartWorker) -> None:
    function.respond(500, {"message": "later", "retryAfterSeconds": 0})
    await start_worker()
    await jobs.until_failed(await add_node(jobs, "first", "add", {}, max_attempts=2), attempts=2)
    assert len(function.received) == 2
    assert await nodes(jobs.connection) == [("first", None, "NODE_EXECUTION_FAILED", "later")]


@pytest.mark.usefixtures("engine")
async def test_snooze_beyond_its_maximum_age_fails_the_node(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.respond(500, {"message": "later", "retryAfterSeconds": 0, "snoozeMaxAgeSeconds": 0})
    await start_worker()
    await jobs.until_failed(await add_node(jobs, "first", "add", {}), attempts=25)
    assert len(function.received) == 1
    assert await nodes(jobs.connection) == [("first", None, "NODE_EXECUTION_FAILED", "later")]


@pytest.mark.usefixtures("engine")
async def test_node_runs_in_the_worker_s_own_process(jobs: Jobs, database: str) -> None:
    await add_node(jobs, "only", "in_background", {})
    async with contextlib.AsyncExitStack() as stack:
        factory = functools.partial(local_tasks, create_app(tasks=[in_background]))
        settings = ServiceSettings(database_url=database)
        await start_in_loop(stack, settings, roles=[ServiceRole.WORKER], deliverer_factory=factory)
        await jobs.until_gone()
    assert await nodes(jobs.connection) == [("only", {"node": "only", "execution": EXECUTION}, None, None)]


@pytest.mark.usefixtures("engine")
async def test_role_without_the_functions_leaves_nodes_alone(
    connection: "asyncpg.Connection[Any]", database: str
) -> None:
    async with (
        temporary_role(connection) as role,
        asyncpg.create_pool(database, min_size=1, max_size=1, server_settings={"role": role}) as pool,
    ):
        store = NativeJobStore(pool, "app_jobs")
        with capture_logs() as lines:
            assert await open_graph_store(store, pool, "app_jobs", on_settled=ignore_settlement) is store
    assert [line["functions"] for line in lines] == [["platform_complete_node", "platform_fail_node"]]


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    "payload",
    [
        {"execution_id": "not a uuid", "node_name": "n", "node_type": "t", "inputs": {}},
        {"execution_id": EXECUTION, "note": "an order's own field"},
        {"text": '"execution_id"'},
    ],
)
async def test_other_jobs_are_not_nodes(
    payload: dict[str, Any], jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker()
    await jobs.until_gone(await jobs.add("add", payload))
    assert function.received[0].body == payload
    assert await nodes(jobs.connection) == []


async def test_database_without_graphs_has_no_nodes(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await start_worker()
    await jobs.until_gone(await add_node(jobs, "first", "add", {"a": 1}))
    assert function.received[0].body["inputs"] == {"a": 1}
    assert "x-node-name" not in function.received[0].headers


async def test_node_of_the_platform_schema_is_completed(
    empty_database: str, function: RecordingFunction, serve: Serve
) -> None:
    async with (
        contextlib.AsyncExitStack() as stack,
        asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool,
    ):
        await pool.execute(PLATFORM_SCHEMA)
        await pool.execute(ENGINE)
        await pool.execute("insert into graphs_private.executions (id) values ($1)", EXECUTION)
        function.respond(200, "as text")
        settings = ServiceSettings(database_url=empty_database, gateway_url=await serve(function.app))
        await start_in_loop(stack, settings, roles=[ServiceRole.WORKER])
        payload: dict[str, Any] = {
            "execution_id": EXECUTION,
            "node_name": "only",
            "node_type": "add",
            "inputs": {},
            "props": None,
        }
        await pool.execute(
            "insert into app_jobs.jobs (database_id, task_identifier, payload) values ($1, 'add', $2)",
            EXECUTION,
            json.dumps(payload),
        )

        async def is_gone() -> bool:
            return not await pool.fetchval("select count(*) from app_jobs.jobs")

        await eventually(is_gone, seconds=20)
        async with pool.acquire() as connection:
            assert await nodes(connection) == [("only", "as text", None, None)]
