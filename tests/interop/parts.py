"""The parts of a deployment, each jobfn's or the platform's."""

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import asyncpg

from chaos.http_messages import Message, send_request
from chaos.proxy import ClientWriter, serve
from jobfn import enqueue
from jobfn.database.migrate import migrate
from support.commands import RunningCommand, Spawn
from support.jobs import NEWEST_PLATFORM_SCHEMA, TENANT
from support.network import LOOPBACK, eventually, free_port

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


async def install_schema(schema: str, connection: "asyncpg.Connection[Any]") -> None:
    """Create the schema: jobfn's, the platform's published one (``node``), or a stand-in for its newest one."""
    if schema == "jobfn":
        await migrate(connection, "app_jobs")
        return
    if schema == "newest":
        await connection.execute(NEWEST_PLATFORM_SCHEMA)
        return
    (file,) = (NODE_MODULES / "@pgpm" / "database-jobs" / "sql").glob("*.sql")
    schema_sql = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("\\"))
    await connection.execute(PLATFORM_PREREQUISITES)
    await connection.execute(schema_sql)


async def add_jobs(connection: "asyncpg.Connection[Any]", task: str, payloads: Sequence[object]) -> list[int]:
    """Add jobs of a task in one transaction. Return their ids."""
    async with connection.transaction():
        return [int(await enqueue(connection, task, payload, database_id=TENANT)) for payload in payloads]


class Parts:
    """Starts the parts of one deployment.

    Args:
        spawn: Starts a process.
        dsn: Address of the database.
    """

    def __init__(self, spawn: Spawn, dsn: str) -> None:
        self._spawn = spawn
        self._dsn = dsn
        self._node_processes: list[RunningCommand] = []

    async def start_function(self, implementation: str) -> int:
        """Start a function. Return its port."""
        port = free_port()
        if implementation == "node":
            running = await self._start_node(str(HERE / "function.js"), {"PORT": str(port), "LOG_LEVEL": "error"})
        else:
            running = await self._spawn("python", "-m", "jobfn.function", str(HERE / "functions.py"), PORT=str(port))
        await running.until("serving")
        return port

    def variables(self, function_port: int, callback_port: int, **variables: str) -> dict[str, str]:
        """Return the variables of workers and callback servers, which both implementations read."""
        parts = urlsplit(self._dsn)
        function_url = f"http://{LOOPBACK}:{function_port}"
        return {
            "PGHOST": parse_qs(parts.query).get("host", [parts.hostname or "localhost"])[0],
            "PGPORT": str(parts.port or 5432),
            "PGUSER": parts.username or "postgres",
            "PGPASSWORD": parts.password or os.environ.get("PGPASSWORD", "-"),
            "PGDATABASE": parts.path.lstrip("/"),
            "KNATIVE_SERVICE_URL": function_url,
            "INTERNAL_GATEWAY_URL": function_url,
            "JOBS_SUPPORT_ANY": "true",
            "INTERNAL_JOBS_CALLBACK_URL": f"http://{LOOPBACK}:{callback_port}/callback",
            "INTERNAL_JOBS_CALLBACK_PORT": str(callback_port),
        } | variables

    async def start_service(self, variables: dict[str, str]) -> None:
        """Start jobfn's worker and callback server in one process."""
        service = await self._spawn("python", "-m", "jobfn.service", **variables)
        await service.until("looking for jobs")

    async def start_node_callbacks(self, variables: dict[str, str]) -> None:
        """Start the platform's callback server."""
        server = await self._start_node(str(PACKAGES / "knative-job-server" / "run.js"), variables)
        await server.until("listening ON")

    async def start_node_worker(self, variables: dict[str, str]) -> None:
        """Start the platform's worker."""
        worker = await self._start_node(str(PACKAGES / "knative-job-worker" / "run.js"), variables)
        await worker.until("connected and looking for jobs")

    def kill_node_processes(self) -> None:
        """End the platform's processes, which do not stop at SIGTERM."""
        for process in self._node_processes:
            process.send(signal.SIGKILL)

    async def _start_node(self, script: str, variables: dict[str, str]) -> RunningCommand:
        node_variables = {"NODE_ENV": "production", "LOG_LEVEL": "info"} | variables
        running = await self._spawn("node", script, **node_variables)
        self._node_processes.append(running)
        return running


class Exchange(NamedTuple):
    """A recorded request and its response."""

    request: Message
    response: Message


class RecordingGateway:
    """A gateway that records what it forwards.

    Attributes:
        port: The gateway's port.
        target: Port of the server behind it.
        replacement: Port of a server that replaces it, before the first batch of jobs.
        exchanges: What it has forwarded.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.target = target
        self.replacement: int | None = None
        self.exchanges: list[Exchange] = []
        self._in_flight = 0
        self._errors: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["RecordingGateway"]:
        """Serve while the block runs, and until the requests that have arrived are answered."""
        async with serve(self._handle, self._errors) as self.port:
            yield self
            await eventually(self._is_idle)
        assert self._errors == []

    async def _is_idle(self) -> bool:
        return self._in_flight == 0

    async def _handle(self, request: Message, client: ClientWriter) -> None:
        if self.replacement is not None and request.path.endswith("/batch"):
            self.target = self.replacement
        self._in_flight += 1
        try:
            response = await send_request(self.target, request)
        finally:
            self._in_flight -= 1
        self.exchanges.append(Exchange(request, response))
        client.write(response.raw)
