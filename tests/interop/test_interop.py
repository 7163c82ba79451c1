"""Combine jobfn's schema, worker, callback server and function with the platform's own, in all 16 combinations.

``make interop`` installs the platform's Node packages and runs these tests.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from support.commands import Spawn
from support.jobs import TENANT, Jobs
from support.network import free_port

pytestmark = pytest.mark.external

HERE = Path(__file__).parent
NODE_MODULES = HERE / "node_modules"
PACKAGES = NODE_MODULES / "@constructive-io"

#: Objects that the platform's schema expects.
PLATFORM_PREREQUISITES = """
    do $$ begin
        if not exists (select from pg_roles where rolname = 'administrator') then create role administrator; end if;
    end $$;
    create function public.gen_random_uuid() returns uuid language sql as 'select pg_catalog.gen_random_uuid()';
"""


@pytest.fixture
async def connection(empty_database: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    opened = await asyncpg.connect(empty_database)
    yield opened
    await opened.close()


async def install_schema(schema: str, connection: "asyncpg.Connection[Any]") -> None:
    if schema == "jobfn":
        await migrate(connection, "app_jobs")
        return
    (file,) = (NODE_MODULES / "@pgpm" / "database-jobs" / "sql").glob("*.sql")
    schema_sql = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("\\"))
    await connection.execute(PLATFORM_PREREQUISITES)
    await connection.execute(schema_sql)


def database_variables(dsn: str) -> dict[str, str]:
    """Return PG* variables, which both languages read."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
    return {
        "PGHOST": host,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username or "postgres",
        "PGPASSWORD": parts.password or os.environ.get("PGPASSWORD", "-"),
        "PGDATABASE": parts.path.lstrip("/"),
    }


async def start_function(implementation: str, spawn: Spawn, port: int) -> None:
    if implementation == "node":
        running = await spawn("node", str(HERE / "function.js"), PORT=str(port), LOG_LEVEL="error")
    else:
        running = await spawn("python", "-m", "jobfn.function", str(HERE / "functions.py"), PORT=str(port))
    await running.until("serving")


@pytest.mark.parametrize("function", ["jobfn", "node"])
@pytest.mark.parametrize("callbacks", ["jobfn", "node"])
@pytest.mark.parametrize("worker", ["jobfn", "node"])
@pytest.mark.parametrize("schema", ["jobfn", "node"])
async def test_combination_completes_one_job_and_fails_another(
    schema: str,
    worker: str,
    callbacks: str,
    function: str,
    connection: "asyncpg.Connection[Any]",
    empty_database: str,
    spawn: Spawn,
) -> None:
    await install_schema(schema, connection)
    function_port, unused_port, callback_port = free_port(), free_port(), free_port()
    await start_function(function, spawn, function_port)
    variables = database_variables(empty_database) | {
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{function_port}",
        "INTERNAL_GATEWAY_URL": f"http://127.0.0.1:{function_port}",
        "JOBS_SUPPORT_ANY": "true",
        "HOSTNAME": f"{worker}-worker",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callback_port}/callback",
        "INTERNAL_JOBS_CALLBACK_PORT": str(callback_port),
    }
    node_variables = variables | {"NODE_ENV": "production", "LOG_LEVEL": "info"}
    # jobfn's service is both worker and callback server. The part that is not under test has no jobs or no reports.
    if callbacks == "node":
        server = await spawn("node", str(PACKAGES / "knative-job-server" / "run.js"), **node_variables)
        await server.until("listening ON")
    else:
        no_jobs = {} if worker == "jobfn" else {"JOBS_SUPPORT_ANY": "false", "HOSTNAME": "callbacks-only"}
        service = await spawn("python", "-m", "jobfn.service", **(variables | no_jobs))
        await service.until("looking for jobs")
    if worker == "node":
        running = await spawn("node", str(PACKAGES / "knative-job-worker" / "run.js"), **node_variables)
        await running.until("connected and looking for jobs")
    elif callbacks == "node":
        no_reports = {"INTERNAL_JOBS_CALLBACK_PORT": str(unused_port)}
        service = await spawn("python", "-m", "jobfn.service", **(variables | no_reports))
        await service.until("looking for jobs")

    add_job = "select (app_jobs.add_job(db_id := $1, identifier := $2, payload := $3::json)).id"
    completing = await connection.fetchval(add_job, TENANT, "note", '{"id": 7}')
    failing = await connection.fetchval(add_job, TENANT, "fail", "{}")
    jobs = Jobs(connection)
    await jobs.until_gone(completing)
    row = await jobs.until_failed(failing)
    assert (row["last_error"], row["attempts"], row["locked_by"]) == ("boom", 1, None)
