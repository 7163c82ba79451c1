"""The subjects that drain queues: jobfn in its forms, the platform's Node stack, and the peers."""

import contextlib
import importlib.metadata
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.bench import NODE_MODULES, Bench
from benchmarks.cluster import connected, free_port, pg_variables
from benchmarks.drain import ask, execute
from benchmarks.errors import NotMeasured
from benchmarks.programs import Program, program, run
from support.jobs import TENANT

PEERS = Path(__file__).parent / "peers"
FILL_JOBFN = "select app_jobs.add_job('noop', json_build_object('n', n)) from generate_series(1, {jobs}) n"
#: What the platform's schema takes for granted around it.
SURROUNDINGS = """
    do $$ begin
        if not exists (select from pg_roles where rolname = 'administrator') then create role administrator; end if;
    end $$;
    create function public.gen_random_uuid() returns uuid language sql as 'select pg_catalog.gen_random_uuid()';
"""
#: Jobs at a time where they cost no request: what a peer's batch or local queue holds.
LOCAL_CONCURRENCY = 500
IS_EMPTY = "select not exists (select from app_jobs.jobs)"


@dataclass
class JobfnOverHttp:
    """jobfn's service and jobfn's function, over HTTP.

    Attributes:
        name: In the table.
        note: Its settings.
        service: Variables of the service, beside the ordinary ones.
        needs: What the service's settings must know for this to mean anything: a field's alias.
        no_database: The same processes on a store that makes jobs out of nothing.
    """

    name: str
    note: str = ""
    service: Mapping[str, str] = field(default_factory=dict)
    needs: str | None = None
    no_database: bool = False

    async def prepare(self, bench: Bench) -> str:
        """See ``Subject``."""
        if self.needs is not None:
            await needs_setting(bench, self.needs)
        return await bench.migrated(database_name("jobfn", self.name))

    async def fill(self, url: str, jobs: int) -> None:
        """See ``Subject``."""
        if not self.no_database:
            await fill_jobfn(url, jobs)

    async def is_empty(self, url: str) -> bool:
        """See ``Subject``."""
        return self.no_database or await ask(url, IS_EMPTY)

    @contextlib.contextmanager
    def running(self, bench: Bench, url: str, marks: dict[str, str]) -> Iterator[Sequence[Program]]:
        """See ``Subject``."""
        with jobfn_running(bench, url, marks, self.service, no_database=self.no_database) as programs:
            yield programs


@contextlib.contextmanager
def jobfn_running(
    bench: Bench, url: str, marks: Mapping[str, str], service: Mapping[str, str], *, no_database: bool = False
) -> Iterator[Sequence[Program]]:
    """A function and a service that delivers to it."""
    port, callbacks = free_port(), free_port()
    variables = {
        "DATABASE_URL": url,
        "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callbacks}/callback",
        "INTERNAL_JOBS_CALLBACK_PORT": str(callbacks),
        "JOBS_CONCURRENCY": str(bench.options.concurrency),
        **service,
    }
    function = bench.jobfn("-m", "jobfn.function", str(PEERS / "functions.py"), "--host", "127.0.0.1")
    module = "benchmarks.peers.http_limit" if no_database else "jobfn.service"
    with (
        program("jobfn's function", function, bench.jobfn_variables(PORT=str(port), **marks)) as function_program,
        program("jobfn's service", bench.jobfn("-m", module), bench.jobfn_variables(**variables, **marks)) as worker,
    ):
        yield [worker, function_program]


@dataclass
class JobfnLocal:
    """``jobfn service --local functions.py``: the tasks inside the worker process, no HTTP."""

    name: str = "jobfn, local functions"
    note: str = f"jobfn service --local, concurrency {LOCAL_CONCURRENCY}"

    async def prepare(self, bench: Bench) -> str:
        """See ``Subject``."""
        text = await run(
            "jobfn service", bench.jobfn_command("service", "--help"), bench.jobfn_variables(COLUMNS="200")
        )
        if "--local" not in text:
            raise NotMeasured("this jobfn has no `service --local`")
        return await bench.migrated(database_name("jobfn", self.name))

    async def fill(self, url: str, jobs: int) -> None:
        """See ``Subject``."""
        await fill_jobfn(url, jobs)

    async def is_empty(self, url: str) -> bool:
        """See ``Subject``."""
        return await ask(url, IS_EMPTY)

    @contextlib.contextmanager
    def running(self, bench: Bench, url: str, marks: dict[str, str]) -> Iterator[Sequence[Program]]:
        """See ``Subject``."""
        concurrency = {"JOBS_CONCURRENCY": str(LOCAL_CONCURRENCY)}
        variables = bench.jobfn_variables(DATABASE_URL=url, **concurrency, **marks)
        command = bench.jobfn_command("service", "--local", str(PEERS / "functions.py"))
        with program(self.name, command, variables) as started:
            yield [started]


@dataclass
class NodeStack:
    """The platform's own schema, worker, callback server and function, on Node."""

    name: str = "the platform's Node stack"
    note: str = "one job at a time, as it is published"

    async def prepare(self, bench: Bench) -> str:
        """See ``Subject``."""
        bench.node()
        url = await bench.cluster.create("node_stack")
        (file,) = (NODE_MODULES / "@pgpm" / "database-jobs" / "sql").glob("*.sql")
        text = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("\\"))
        await execute(url, SURROUNDINGS, text)
        return url

    async def fill(self, url: str, jobs: int) -> None:
        """See ``Subject``."""
        add = f"app_jobs.add_job(db_id := '{TENANT}', identifier := 'noop', payload := json_build_object('n', n))"
        await execute(
            url,
            "truncate app_jobs.jobs",
            f"select {add} from generate_series(1, {jobs}) n",
            "vacuum analyze app_jobs.jobs",
        )

    async def is_empty(self, url: str) -> bool:
        """See ``Subject``."""
        return await ask(url, IS_EMPTY)

    @contextlib.contextmanager
    def running(self, bench: Bench, url: str, marks: dict[str, str]) -> Iterator[Sequence[Program]]:
        """See ``Subject``."""
        node = bench.node()
        port, callbacks = free_port(), free_port()
        shared = pg_variables(url) | {
            "KNATIVE_SERVICE_URL": f"http://127.0.0.1:{port}",
            "INTERNAL_GATEWAY_URL": f"http://127.0.0.1:{port}",
            "INTERNAL_JOBS_CALLBACK_URL": f"http://127.0.0.1:{callbacks}/callback",
            "INTERNAL_JOBS_CALLBACK_PORT": str(callbacks),
            "JOBS_SUPPORT_ANY": "true",
            "HOSTNAME": "node-worker",
            "NODE_ENV": "production",
            "LOG_LEVEL": "error",
            "BENCH_NODE_MODULES": str(NODE_MODULES),
        }
        packages = NODE_MODULES / "@constructive-io"
        own = shared | {"PORT": str(port)} | marks
        with (
            program("the Node function", [node, str(PEERS / "function.cjs")], own, grace=False) as function,
            program(
                "the Node server", [node, str(packages / "knative-job-server/run.js")], shared, grace=False
            ) as hears,
        ):
            while not (_is_listening(port) and _is_listening(callbacks)):
                function.check()
                hears.check()
            worker = [node, str(packages / "knative-job-worker/run.js")]
            with program("the Node worker", worker, shared, grace=False) as works:
                yield [works, hears, function]


@dataclass
class Peer:
    """A job library whose worker runs the handler in its own process.

    Attributes:
        name: In the table.
        package: What must be installed, and whose version is told.
        script: Its module in ``peers``.
        empty: A question: is every job's end written down?
        clear: Empties the queue.
        fill_sql: Fills it, where its own bulk enqueue would take long; ``{jobs}`` is filled in.
        settings: Variables that its script reads.
        note: What they are.
    """

    name: str
    package: str
    script: str
    empty: str
    clear: str
    fill_sql: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    _command: list[str] = field(default_factory=list)

    async def prepare(self, bench: Bench) -> str:
        """See ``Subject``."""
        if self.script.endswith(".cjs"):
            self._command = [bench.node(), str(PEERS / self.script)]
        else:
            self._command = [bench.peer(self.package), "-m", f"benchmarks.peers.{self.script}"]
        url = await bench.cluster.create(database_name("peer", self.name))
        await run(f"{self.name}: install", [*self._command, "install"], self.variables(url))
        return url

    def variables(self, url: str) -> dict[str, str]:
        """Its environment."""
        return {"DATABASE_URL": url, "BENCH_NODE_MODULES": str(NODE_MODULES), "NODE_ENV": "production", **self.settings}

    async def fill(self, url: str, jobs: int) -> None:
        """See ``Subject``."""
        await execute(url, self.clear)
        if self.fill_sql is None:
            await self.enqueue(url, jobs)
        else:
            await execute(url, self.fill_sql.format(jobs=jobs))
        await execute(url, "vacuum analyze")

    async def enqueue(self, url: str, jobs: int) -> float:
        """Its own bulk enqueue. Returns the seconds that it took."""
        command = [*self._command, "enqueue", str(jobs)]
        return float(await run(f"{self.name}: enqueue", command, self.variables(url)))

    def pinging(self, jobs: int) -> list[str]:
        """The command that enqueues one at a time."""
        return [*self._command, "ping", str(jobs)]

    async def is_empty(self, url: str) -> bool:
        """See ``Subject``."""
        return await ask(url, self.empty)

    @contextlib.contextmanager
    def running(self, bench: Bench, url: str, marks: dict[str, str]) -> Iterator[Sequence[Program]]:  # noqa: ARG002
        """See ``Subject``."""
        with program(self.name, [*self._command, "work"], self.variables(url) | marks, grace=False) as started:
            yield [started]


def pgqueuer(batch: int = 500) -> Peer:
    """pgqueuer, with this batch size."""
    return Peer(
        name=f"pgqueuer, batches of {batch}",
        package="pgqueuer",
        script="pgqueuer_peer",
        empty="select not exists (select from pgqueuer)",
        clear="truncate pgqueuer, pgqueuer_log",
        settings={"BENCH_BATCH": str(batch)},
    )


def graphile(local_queue: int = 500) -> Peer:
    """graphile-worker, with a local queue of this size and batched completion, or without both."""
    return Peer(
        name="graphile-worker" + (f", local queue of {local_queue}" if local_queue else ""),
        package="graphile-worker",
        script="graphile.cjs",
        empty="select not exists (select from graphile_worker._private_jobs)",
        clear="truncate graphile_worker._private_jobs",
        settings={"BENCH_LOCAL_QUEUE": str(local_queue)},
        note="24 concurrent jobs" + (", completeJobBatchDelay 0" if local_queue else ""),
    )


def procrastinate(concurrency: int = 10) -> Peer:
    """procrastinate; its finished jobs are kept, as it does by itself."""
    return Peer(
        name="procrastinate",
        package="procrastinate",
        script="procrastinate_peer",
        empty="select not exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
        clear="truncate procrastinate_jobs, procrastinate_events cascade",
        fill_sql="insert into procrastinate_jobs (queue_name, task_name, args) "
        "select 'default', 'noop', jsonb_build_object('n', n) from generate_series(1, {jobs}) n",
        settings={"BENCH_CONCURRENCY": str(concurrency)},
        note=f"concurrency {concurrency}",
    )


def oban(limit: int = 500) -> Peer:
    """oban, its queue limited to so many at a time."""
    return Peer(
        name="oban",
        package="oban",
        script="oban_peer",
        empty="select not exists (select from oban_jobs where state <> 'completed')",
        clear="truncate oban_jobs",
        fill_sql="insert into oban_jobs (worker, args) "
        "select 'benchmarks.peers.oban_peer.Noop', jsonb_build_object('n', n) from generate_series(1, {jobs}) n",
        settings={"BENCH_CONCURRENCY": str(limit)},
        note=f"queue limit {limit}",
    )


def chancy(concurrency: int = 1000) -> Peer:
    """chancy, on its asyncio executor, polling eagerly."""
    return Peer(
        name="chancy",
        package="chancy",
        script="chancy_peer",
        empty="select not exists (select from chancy_jobs where state <> 'succeeded')",
        clear="truncate chancy_jobs",
        settings={"BENCH_CONCURRENCY": str(concurrency)},
        note=f"asyncio executor, concurrency {concurrency}, eager polling",
    )


async def needs_setting(bench: Bench, variable: str) -> None:
    """Raise NotMeasured if this jobfn's service does not read this variable."""
    code = (
        "from jobfn.worker.settings import ServiceSettings as S\n"
        "print([str(field.validation_alias) for field in S.model_fields.values()])"
    )
    known = await run("jobfn's settings", bench.jobfn("-c", code), bench.jobfn_variables())
    if f"'{variable}'" not in known:
        raise NotMeasured(f"this jobfn does not know {variable}")


async def fill_jobfn(url: str, jobs: int) -> None:
    """Empty jobfn's queue, then add so many jobs through ``add_job``."""
    async with connected(url) as connection:
        await connection.execute("truncate app_jobs.jobs cascade")
        if await connection.fetchval("select to_regclass('app_jobs.job_runs') is not null"):
            await connection.execute("truncate app_jobs.job_runs")
        await connection.execute(FILL_JOBFN.format(jobs=jobs))
        await connection.execute("vacuum analyze")


def database_name(kind: str, subject: str) -> str:
    """A subject's name as that of a database, short enough for one."""
    return f"{kind}_" + "".join(letter if letter.isalnum() else "_" for letter in subject.lower())[:50]


def versions() -> dict[str, str]:
    """Of the peers and of what jobfn is made of, where they are installed."""
    found = {}
    for package in (
        "pgqueuer",
        "procrastinate",
        "oban",
        "chancy",
        "asyncpg",
        "aiohttp",
        "starlette",
        "uvicorn",
        "pydantic",
    ):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for package in ("graphile-worker", "@constructive-io/knative-job-worker", "@constructive-io/knative-job-fn"):
        with contextlib.suppress(OSError):
            found[package] = str(json.loads((NODE_MODULES / package / "package.json").read_text())["version"])
    return found


def _is_listening(port: int) -> bool:
    import socket  # noqa: PLC0415

    with socket.socket() as probe:
        probe.settimeout(0.05)
        return probe.connect_ex(("127.0.0.1", port)) == 0
