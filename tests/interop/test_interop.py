"""Any of the four parts can be the platform's own: schema, worker, callback server, function, in all sixteen ways.

External: it runs the platform's published packages on Node. ``make interop`` installs them and runs this.
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
MODULES = HERE / "node_modules"

#: What the platform's schema takes for granted around it.
SURROUNDINGS = """
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


async def install(schema: str, connection: "asyncpg.Connection[Any]") -> None:
    if schema == "jobfn":
        await migrate(connection, "app_jobs")
        return
    (file,) = (MODULES / "@pgpm" / "database-jobs" / "sql").glob("*.sql")
    text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("\\"))
    await connection.execute(SURROUNDINGS)
    await connection.execute(text)


def database_variables(dsn: str) -> dict[str, str]:
    """PG* for both languages: Node's driver reads a socket's folder from PGHOST too."""
    parts = urlsplit(dsn)
    host = parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0]
    return {
        "PGHOST": host,
        "PGPORT": str(parts.port or 5432),
        "PGUSER": parts.username or "postgres",
        "PGPASSWORD": parts.password or os.environ.get("PGPASSWORD", "-"),
        "PGDATABASE": parts.path.lstrip("/"),
    }


async def start_function(kind: str, spawn: Spawn, port: int) -> None:
    if kind == "node":
        running = await spawn("node", str(HERE / "function.js"), PORT=str(port), LOG_LEVEL="error")
    else:
        running = await spawn("python", "-m", "jobfn.function", str(HERE / "functions.py"), PORT=str(port))
    await running.until("serving")


@pytest.mark.parametrize("function", ["jobfn", "node"])
@pytest.mark.parametrize("callbacks", ["jobfn", "node"])
@pytest.mark.parametrize("worker", ["jobfn", "node"])
@pytest.mark.parametrize("schema", ["jobfn", "node"])
async def test_a_job_is_done_and_another_fails(
    schema: str,
    worker: str,
    callbacks: str,
    function: str,
    connection: "asyncpg.Connection[Any]",
    empty_database: str,
    spawn: Spawn,
) -> None:
    """A job that succeeds is deleted; one that fails keeps its message, its attempt, and no lock."""
    await install(schema, connection)
    function_port, worker_port, callback_port = free_port(), free_port(), free_port()
    await start_function(function, spawn, function_port)
    shared = database_variables(empty_database) | {
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{function_port}",
        "INTERNAL_GATEWAY_URL": f"http://127.0.0.1:{function_port}",
        "JOBS_SUPPORT_ANY": "true",
        "HOSTNAME": f"{worker}-worker",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callback_port}/callback",
    }
    node = {"NODE_ENV": "production", "LOG_LEVEL": "info"}
    packages = MODULES / "@constructive-io"
    # jobfn's service is worker and callback server at once: where only one is wanted, nobody uses the other.
    if callbacks == "node":
        port = {"INTERNAL_JOBS_CALLBACK_PORT": str(callback_port)}
        server = await spawn("node", str(packages / "knative-job-server" / "run.js"), **(shared | node | port))
        await server.until("listening ON")
    else:
        idle = {} if worker == "jobfn" else {"JOBS_SUPPORT_ANY": "false", "HOSTNAME": "callbacks-only"}
        port = {"INTERNAL_JOBS_CALLBACK_PORT": str(callback_port)}
        service = await spawn("python", "-m", "jobfn.service", **(shared | idle | port))
        await service.until("looking for jobs")
    if worker == "node":
        running = await spawn("node", str(packages / "knative-job-worker" / "run.js"), **(shared | node))
        await running.until("connected and looking for jobs")
    elif callbacks == "node":
        port = {"INTERNAL_JOBS_CALLBACK_PORT": str(worker_port)}
        service = await spawn("python", "-m", "jobfn.service", **(shared | port))
        await service.until("looking for jobs")

    add = "select (app_jobs.add_job(db_id := $1, identifier := $2, payload := $3::json)).id"
    done = await connection.fetchval(add, TENANT, "note", '{"id": 7}')
    failing = await connection.fetchval(add, TENANT, "fail", "{}")
    jobs = Jobs(connection)
    await jobs.until_gone(done)
    row = await jobs.until_failed(failing)
    assert (row["last_error"], row["attempts"], row["locked_by"]) == ("boom", 1, None)
