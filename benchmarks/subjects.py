"""Subjects that drain jobfn's or the platform's schema: jobfn over HTTP, jobfn's local functions, the Node stack."""

import contextlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import NODE_MODULES, Bench
from benchmarks.cluster import connect, execute, fetch_bool, free_port, pg_variables
from benchmarks.processes import BenchProcess, start_process

PEERS = Path(__file__).parent / "peers"
FUNCTIONS = str(PEERS / "functions.py")
#: Concurrency of local functions, whose jobs cost no request. Peers use the same batch and local queue sizes.
LOCAL_CONCURRENCY = 500
IS_EMPTY = "select not exists (select from app_jobs.jobs)"
#: Objects that the platform's schema expects.
PLATFORM_PREREQUISITES = """
    do $$ begin
        if not exists (select from pg_roles where rolname = 'administrator') then create role administrator; end if;
    end $$;
    create function public.gen_random_uuid() returns uuid language sql as 'select pg_catalog.gen_random_uuid()';
"""
#: Tenant of the platform's jobs.
TENANT = "5f3b1f5a-0f0c-4a52-9c1c-1d2f3a4b5c6d"


class JobsSchema:
    """The part that subjects with a table ``app_jobs.jobs`` share."""

    async def is_empty(self, url: str) -> bool:
        return await fetch_bool(url, IS_EMPTY)

    async def fill(self, url: str, jobs: int) -> None:
        async with connect(url) as connection:
            await connection.execute("truncate app_jobs.jobs cascade")
            if await connection.fetchval("select to_regclass('app_jobs.job_runs') is not null"):
                await connection.execute("truncate app_jobs.job_runs")
            await connection.execute(
                "select app_jobs.add_job('noop', json_build_object('n', n)) from generate_series(1, $1::int) n", jobs
            )
            await connection.execute("vacuum analyze")


@dataclass
class JobfnOverHttp(JobsSchema):
    """``jobfn service`` and a function process, over HTTP.

    Attributes:
        name: Name in the tables.
        note: Settings, for the tables.
        variables: Environment of the service.
        no_database: Run the service on a store in memory.
    """

    name: str
    note: str = ""
    variables: Mapping[str, str] = field(default_factory=dict)
    no_database: bool = False

    async def prepare(self, bench: Bench) -> str:
        return await bench.create_migrated_database(database_name("jobfn", self.name))

    async def fill(self, url: str, jobs: int) -> None:
        if not self.no_database:
            await super().fill(url, jobs)

    async def is_empty(self, url: str) -> bool:
        return self.no_database or await super().is_empty(url)

    @contextlib.asynccontextmanager
    async def running(
        self, bench: Bench, url: str, timestamps: dict[str, str]
    ) -> AsyncIterator[Sequence[BenchProcess]]:
        port, callback_port = free_port(), free_port()
        function_command = bench.jobfn_python("-m", "jobfn.function", FUNCTIONS, "--host", "127.0.0.1")
        function_variables = bench.jobfn_variables(PORT=str(port), **timestamps)
        service_command = bench.jobfn_python(
            "-m", "benchmarks.peers.http_limit" if self.no_database else "jobfn.service"
        )
        service_variables = bench.jobfn_variables(
            **url_variables(port, callback_port),
            DATABASE_URL=url,
            JOBS_CONCURRENCY=str(bench.options.concurrency),
            **self.variables,
            **timestamps,
        )
        with (
            start_process("jobfn's function", function_command, function_variables) as function,
            start_process("jobfn's service", service_command, service_variables) as service,
        ):
            yield [service, function]


def url_variables(port: int, callback_port: int) -> dict[str, str]:
    """Return the variables by which worker, callback server and function find each other."""
    return {
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_GATEWAY_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callback_port}/callback",
        "INTERNAL_JOBS_CALLBACK_PORT": str(callback_port),
    }


@dataclass
class JobfnLocal(JobsSchema):
    """``jobfn service --local functions.py``: tasks in the worker process, no HTTP."""

    name: str = "jobfn, local functions"
    note: str = f"jobfn service --local, JOBS_CONCURRENCY={LOCAL_CONCURRENCY}"

    async def prepare(self, bench: Bench) -> str:
        return await bench.create_migrated_database(database_name("jobfn", self.name))

    @contextlib.asynccontextmanager
    async def running(
        self, bench: Bench, url: str, timestamps: dict[str, str]
    ) -> AsyncIterator[Sequence[BenchProcess]]:
        variables = bench.jobfn_variables(DATABASE_URL=url, JOBS_CONCURRENCY=str(LOCAL_CONCURRENCY), **timestamps)
        with start_process(self.name, bench.jobfn_command("service", "--local", FUNCTIONS), variables) as process:
            yield [process]


@dataclass
class NodeStack(JobsSchema):
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

    async def fill(self, url: str, jobs: int) -> None:
        add_job = f"app_jobs.add_job(db_id := '{TENANT}', identifier := 'noop', payload := json_build_object('n', n))"
        await execute(
            url,
            "truncate app_jobs.jobs",
            f"select {add_job} from generate_series(1, {jobs}) n",
            "vacuum analyze app_jobs.jobs",
        )

    @contextlib.asynccontextmanager
    async def running(
        self, bench: Bench, url: str, timestamps: dict[str, str]
    ) -> AsyncIterator[Sequence[BenchProcess]]:
        port, callback_port = free_port(), free_port()
        variables = {
            **pg_variables(url),
            **url_variables(port, callback_port),
            "JOBS_SUPPORT_ANY": "true",
            "HOSTNAME": "node-worker",
            "NODE_ENV": "production",
            "LOG_LEVEL": "error",
            "BENCH_NODE_MODULES": str(NODE_MODULES),
        }

        @contextlib.contextmanager
        def start(name: str, script: Path, **own: str) -> Iterator[BenchProcess]:
            command = [bench.node_path(), str(script)]
            with start_process(name, command, variables | own, graceful=False) as process:
                yield process

        packages = NODE_MODULES / "@constructive-io"
        with (
            start("the Node function", PEERS / "function.cjs", PORT=str(port), **timestamps) as function,
            start("the Node callback server", packages / "knative-job-server/run.js") as callback_server,
        ):
            await function.wait_for_port(port)
            await callback_server.wait_for_port(callback_port)
            with start("the Node worker", packages / "knative-job-worker/run.js") as worker:
                yield [worker, callback_server, function]


def database_name(prefix: str, subject: str) -> str:
    """Return a subject's name as a database name within PostgreSQL's limit."""
    return f"{prefix}_" + re.sub(r"\W", "_", subject.lower(), flags=re.ASCII)[:50]
