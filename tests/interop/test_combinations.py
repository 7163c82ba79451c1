"""Combine jobfn's schema, worker, callback server and function with the platform's own, in all 24 combinations.

``make interop`` installs the platform's Node packages and runs these tests.
"""

from typing import Any

import asyncpg
import pytest

from interop.parts import Parts, add_jobs, install_schema
from support.jobs import Jobs
from support.network import free_port

pytestmark = pytest.mark.external


@pytest.mark.parametrize("function", ["jobfn", "node"])
@pytest.mark.parametrize("callbacks", ["jobfn", "node"])
@pytest.mark.parametrize("worker", ["jobfn", "node"])
@pytest.mark.parametrize("schema", ["jobfn", "node", "newest"])
async def test_combination_completes_one_job_and_fails_another(
    schema: str, worker: str, callbacks: str, function: str, connection: "asyncpg.Connection[Any]", parts: Parts
) -> None:
    await install_schema(schema, connection)
    variables = parts.variables(await parts.start_function(function), free_port(), HOSTNAME=f"{worker}-worker")
    # jobfn's service is both worker and callback server. The part that is not under test has no jobs or no reports.
    if callbacks == "node":
        await parts.start_node_callbacks(variables)
    else:
        no_jobs = {} if worker == "jobfn" else {"JOBS_SUPPORT_ANY": "false", "HOSTNAME": "callbacks-only"}
        await parts.start_service(variables | no_jobs)
    if worker == "node":
        await parts.start_node_worker(variables)
    elif callbacks == "node":
        await parts.start_service(variables | {"INTERNAL_JOBS_CALLBACK_PORT": str(free_port())})

    (completing,) = await add_jobs(connection, "note", [{"id": 7}])
    (failing,) = await add_jobs(connection, "fail", [{}])
    jobs = Jobs(connection)
    await jobs.until_gone(completing, seconds=30)
    row = await jobs.until_failed(failing, seconds=30)
    assert (row["last_error"], row["attempts"], row["locked_by"]) == ("boom", 1, None)
