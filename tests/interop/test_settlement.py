"""Settling by the response and batches of jobs are used between jobfn's parts only."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from interop.parts import Exchange, Parts, RecordingGateway, add_jobs, install_schema
from support.jobs import Jobs
from support.network import free_port

pytestmark = pytest.mark.external

JOBS = 300
PAYLOADS = [{"id": number} for number in range(JOBS)]
#: So few slots that jobs wait for one, and may share requests.
FEW_SLOTS = {"JOBS_CONCURRENCY": "2"}


async def history(connection: "asyncpg.Connection[Any]") -> Counter[tuple[str, int]]:
    """Count the attempts by outcome and number."""
    return Counter(
        (row["outcome"], row["attempt"]) for row in await connection.fetch("select * from app_jobs.job_runs")
    )


def payload_ids(exchanges: Sequence[Exchange]) -> list[int]:
    """Return the ids in the payloads of requests with one job, in order."""
    return sorted(json.loads(exchange.request.body)["id"] for exchange in exchanges)


async def test_node_function_of_a_jobfn_worker_reports_and_gets_no_batch(
    connection: "asyncpg.Connection[Any]", parts: Parts
) -> None:
    await install_schema("jobfn", connection)
    callback_port = free_port()
    function_port = await parts.start_function("node")
    async with (
        RecordingGateway(function_port).serving() as functions,
        RecordingGateway(callback_port).serving() as reports,
    ):
        variables = parts.variables(functions.port, reports.port, INTERNAL_JOBS_CALLBACK_PORT=str(callback_port))
        await parts.start_service(variables | FEW_SLOTS)
        await add_jobs(connection, "note", PAYLOADS)
        await Jobs(connection).until_gone(seconds=30)

    assert {each.request.path for each in functions.exchanges} == {"/note"}
    assert {each.request.header("x-settle-on") for each in functions.exchanges} == {"response"}
    assert payload_ids(functions.exchanges) == list(range(JOBS))
    targets = [
        re.sub(r"token=[0-9a-f]+\.\d+-1_r[0-9a-f]+\.[\w-]{43}", "token=T", each.request.path)
        for each in reports.exchanges
    ]
    statuses = [each.response.status for each in reports.exchanges]
    assert Counter(zip(targets, statuses, strict=True)) == {("/callback?token=T&/callback", 200): JOBS}
    assert await history(connection) == {("completed", 1): JOBS}


async def test_jobfn_function_of_a_node_worker_reports(connection: "asyncpg.Connection[Any]", parts: Parts) -> None:
    await install_schema("jobfn", connection)
    callback_port = free_port()
    function_port = await parts.start_function("jobfn")
    async with (
        RecordingGateway(function_port).serving() as functions,
        RecordingGateway(callback_port).serving() as reports,
    ):
        variables = parts.variables(functions.port, reports.port, INTERNAL_JOBS_CALLBACK_PORT=str(callback_port))
        await parts.start_service(variables | {"JOBS_SUPPORT_ANY": "false", "HOSTNAME": "callbacks-only"})
        await parts.start_node_worker(variables | {"HOSTNAME": "node-worker"})
        (completing,) = await add_jobs(connection, "note", [{"id": 7}])
        (failing,) = await add_jobs(connection, "fail", [{}])
        await Jobs(connection).until_gone(completing, seconds=30)
        await Jobs(connection).until_failed(failing, seconds=30)

    for name in ("x-settle-on", "x-accept-batch", "x-handler-seconds"):
        assert {each.response.header(name) for each in functions.exchanges} == {""}
    assert Counter((each.request.header("x-job-error"), each.response.status) for each in reports.exchanges) == {
        ("", 200): 1,
        ("true", 200): 1,
    }
    assert await history(connection) == {("completed", 1): 1, ("failed", 1): 1}


async def test_batch_to_a_node_function_that_replaced_a_jobfn_function_runs_nothing(
    connection: "asyncpg.Connection[Any]", parts: Parts
) -> None:
    await install_schema("jobfn", connection)
    callback_port = free_port()
    function_port = await parts.start_function("jobfn")
    async with RecordingGateway(function_port).serving() as functions:
        functions.replacement = await parts.start_function("node")
        await parts.start_service(parts.variables(functions.port, callback_port) | FEW_SLOTS)
        await add_jobs(connection, "note", PAYLOADS)
        await Jobs(connection).until_gone(seconds=30)

    batches = [each for each in functions.exchanges if each.request.path == "/note/batch"]
    singles = [each for each in functions.exchanges if each.request.path == "/note"]
    assert batches
    assert {each.response.status for each in batches} == {404}
    assert payload_ids(singles) == list(range(JOBS))
    assert {each.response.status for each in singles} == {200}
    assert await history(connection) == {("completed", 1): JOBS}
