"""Subjects that drain jobfn's or the platform's schema: jobfn over HTTP, jobfn's local functions, the Node stack.

jobfn runs with its defaults. Only addresses are set, unless a subject's name and note say otherwise.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import NODE_MODULES, Bench
from benchmarks.cluster import connect, execute, fetch_number, free_port, pg_variables
from benchmarks.cpus import cpu_set
from benchmarks.processes import BenchProcess, start_process
from benchmarks.statements import ADD_JOBS, COUNT_CONNECTIONS, COUNT_READY, WAL_POSITION

PEERS = Path(__file__).parent / "peers"
FUNCTIONS = str(PEERS / "functions.py")
#: Delay between the ports of several workers being open and the first job.
READY_DELAY_SECONDS = 0.5
#: Objects that the platform's schema expects.
PLATFORM_PREREQUISITES = """
    do $$ begin
        if not exists (select from pg_roles where rolname = 'administrator') then create role administrator; end if;
    end $$;
    create function public.gen_random_uuid() returns uuid language sql as 'select pg_catalog.gen_random_uuid()';
"""
#: Tenant of the platform's jobs.
TENANT = "5f3b1f5a-0f0c-4a52-9c1c-1d2f3a4b5c6d"


@dataclass
class JobfnSubject:
    """The part that subjects on jobfn's schema share.

    Attributes:
        name: Name in the tables.
        note: Settings, for the tables.
    """

    name: str
    note: str = ""

    async def prepare(self, bench: Bench) -> str:
        return await bench.create_migrated_database(database_name("jobfn", self.name))

    async def fill(self, url: str, jobs: int) -> int:
        await self.clear(url)
        await self.add(url, jobs)
        await execute(url, "vacuum analyze")
        return jobs

    async def clear(self, url: str) -> None:
        """Remove all jobs and the history."""
        await execute(url, "truncate app_jobs.jobs cascade", "truncate app_jobs.job_runs")

    async def add(self, url: str, jobs: int) -> None:
        """Add jobs in one transaction."""
        async with connect(url) as connection:
            await connection.execute(ADD_JOBS, jobs)

    async def remaining(self, url: str) -> int | None:
        return await fetch_number(url, COUNT_READY)


@dataclass
class JobfnOverHttp(JobfnSubject):
    """``jobfn service`` and a function process, over HTTP.

    Attributes:
        variables: Settings of the service that differ from the defaults.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    #: Module that runs the service.
    module = "jobfn.service"

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        with self.start(bench, url, variables) as processes:
            yield processes

    @contextlib.contextmanager
    def start(
        self, bench: Bench, url: str, variables: dict[str, str], *, pair: int = 0, callback_port: int | None = None
    ) -> Iterator[Sequence[BenchProcess]]:
        """Run the service and its function while the block runs. Each pair has its own worker id, ports and CPUs.

        With the port of a callback server, the service is a worker only.
        """
        is_worker_only = callback_port is not None
        port, callback_port = free_port(), callback_port or free_port()
        function_command = bench.jobfn_python("-m", "jobfn.function", FUNCTIONS, "--host", "127.0.0.1")
        function_variables = bench.jobfn_variables(PORT=str(port), **variables)
        service_variables = bench.jobfn_variables(
            **url_variables(port, callback_port),
            DATABASE_URL=url,
            HOSTNAME=f"bench-worker-{pair}",
            **self.variables,
            **variables,
        )
        service_command = bench.jobfn_python("-m", self.module, *(["--only", "worker"] if is_worker_only else []))
        worker_cpus, function_cpus = cpu_set(2 * pair), cpu_set(2 * pair + 1)
        start = start_process
        with (
            start("jobfn's function", function_command, function_variables, port=port, cpus=function_cpus) as function,
            start(
                "jobfn's service",
                service_command,
                service_variables,
                port=None if is_worker_only else callback_port,
                cpus=worker_cpus,
            ) as service,
        ):
            yield [service, function]


class HttpLimit(JobfnOverHttp):
    """The same two processes on a store in memory: what HTTP costs without a database."""

    module = "benchmarks.peers.memory_service"

    async def fill(self, url: str, jobs: int) -> int:  # noqa: ARG002  - the store has its jobs from BENCH_JOBS
        return jobs

    async def remaining(self, url: str) -> int | None:  # noqa: ARG002
        return None


@dataclass
class Workers(JobfnOverHttp):
    """Several services on one database, each with a function process. They are ready before the first job exists.

    Attributes:
        count: Number of services.
        callback_servers: Number of callback servers of their own, which receive a report of every job. 0: each service
            has its own, and responses settle the jobs.
    """

    count: int = 1
    callback_servers: int = 0
    _jobs: int = 0

    async def fill(self, url: str, jobs: int) -> int:
        await self.clear(url)
        await execute(url, "vacuum analyze")
        self._jobs = jobs
        return jobs

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        with contextlib.ExitStack() as stack:
            servers = [
                stack.enter_context(self._start_callback_server(bench, url, number))
                for number in range(self.callback_servers)
            ]
            ports = [server.port for server in servers] or [None]
            pairs = [
                stack.enter_context(
                    self.start(bench, url, variables, pair=pair, callback_port=ports[pair % len(ports)])
                )
                for pair in range(self.count)
            ]
            processes = [*servers, *(process for pair in pairs for process in pair)]
            for process in processes:
                if process.port is not None:
                    await process.wait_for_port()
            await asyncio.sleep(READY_DELAY_SECONDS)
            await self.add(url, self._jobs)
            yield processes

    @contextlib.contextmanager
    def _start_callback_server(self, bench: Bench, url: str, number: int) -> Iterator[BenchProcess]:
        port = free_port()
        variables = bench.jobfn_variables(
            **url_variables(port, port), DATABASE_URL=url, HOSTNAME=f"bench-callbacks-{number}"
        )
        command = bench.jobfn_python("-m", self.module, "--only", "callbacks")
        with start_process("the callback server", command, variables, port=port) as process:
            yield process


@dataclass
class MeteredWorkers(Workers):
    """Workers whose WAL and connections are counted.

    Attributes:
        added_wal: Bytes of WAL for adding the jobs.
        run_wal: Bytes of WAL for running them.
        connections: Highest number of connections of the services at the end of a round.
    """

    added_wal: int = 0
    run_wal: int = 0
    connections: int = 0
    _position: int = 0

    async def add(self, url: str, jobs: int) -> None:
        await execute(url, "checkpoint")
        before = await fetch_number(url, WAL_POSITION)
        await super().add(url, jobs)
        self._position = await fetch_number(url, WAL_POSITION)
        self.added_wal = self._position - before

    async def remaining(self, url: str) -> int | None:
        self.connections = max(self.connections, await fetch_number(url, COUNT_CONNECTIONS))
        self.run_wal = await fetch_number(url, WAL_POSITION) - self._position
        return await super().remaining(url)


def url_variables(port: int, callback_port: int) -> dict[str, str]:
    """Return the variables by which worker, callback server and function find each other."""
    return {
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_GATEWAY_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callback_port}/callback",
        "INTERNAL_JOBS_CALLBACK_PORT": str(callback_port),
    }


@dataclass
class JobfnLocal(JobfnSubject):
    """``jobfn service --local functions.py``: tasks in the worker process, no HTTP."""

    name: str = "jobfn, local functions"
    note: str = "defaults, jobfn service --local"

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        command = bench.jobfn_command("service", "--local", FUNCTIONS)
        with start_process(self.name, command, bench.jobfn_variables(DATABASE_URL=url, **variables)) as process:
            yield [process]


@dataclass
class LocalLimit(JobfnLocal):
    """The same process on a store in memory: what the worker costs without a database."""

    name: str = "the limit: jobfn, local functions, no database"
    note: str = "defaults"

    async def fill(self, url: str, jobs: int) -> int:  # noqa: ARG002  - the store has its jobs from BENCH_JOBS
        return jobs

    async def remaining(self, url: str) -> int | None:  # noqa: ARG002
        return None

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        command = bench.jobfn_python("-m", "benchmarks.peers.memory_service", "service", "--local", FUNCTIONS)
        with start_process(self.name, command, bench.jobfn_variables(DATABASE_URL=url, **variables)) as process:
            yield [process]


@dataclass
class NodeStack:
    """The platform's own schema, worker, callback server and function, on Node."""

    name: str = "the platform's Node stack"
    note: str = "one job at a time, as published"

    async def prepare(self, bench: Bench) -> str:
        bench.node_path()
        url = await bench.cluster.create_database("node_stack")
        (file,) = (NODE_MODULES / "@pgpm" / "database-jobs" / "sql").glob("*.sql")
        schema = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("\\"))
        await execute(url, PLATFORM_PREREQUISITES, schema)
        return url

    async def fill(self, url: str, jobs: int) -> int:
        await execute(
            url,
            "truncate app_jobs.jobs",
            # The columns that the platform's add_job sets for a job without a queue.
            "insert into app_jobs.jobs (database_id, task_identifier, payload, queue_name) "
            f"select '{TENANT}', 'noop', json_build_object('n', n), null from generate_series(1, {jobs}) n",
            "vacuum analyze app_jobs.jobs",
        )
        return jobs

    async def remaining(self, url: str) -> int | None:
        return await fetch_number(url, "select count(*) from app_jobs.jobs")

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        port, callback_port = free_port(), free_port()
        common = {
            **pg_variables(url),
            **url_variables(port, callback_port),
            "JOBS_SUPPORT_ANY": "true",
            "HOSTNAME": "node-worker",
            "NODE_ENV": "production",
            "LOG_LEVEL": "error",
            "BENCH_NODE_MODULES": str(NODE_MODULES),
        }

        @contextlib.contextmanager
        def start(name: str, script: Path, port: int | None = None, **own: str) -> Iterator[BenchProcess]:
            command = [bench.node_path(), str(script)]
            with start_process(name, command, common | own, graceful=False, port=port) as process:
                yield process

        packages = NODE_MODULES / "@constructive-io"
        with (
            start("the Node function", PEERS / "function.cjs", port, PORT=str(port), **variables) as function,
            start("the Node callback server", packages / "knative-job-server/run.js", callback_port) as callbacks,
        ):
            await function.wait_for_port()
            await callbacks.wait_for_port()
            with start("the Node worker", packages / "knative-job-worker/run.js") as worker:
                yield [worker, callbacks, function]


def database_name(prefix: str, subject: str) -> str:
    """Return a subject's name as a database name within PostgreSQL's limit."""
    return f"{prefix}_" + re.sub(r"\W", "_", subject.lower(), flags=re.ASCII)[:50]
