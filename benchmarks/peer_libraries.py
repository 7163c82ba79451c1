"""Job libraries whose worker runs the handler in its own process. Each has a script in ``peers``."""

import contextlib
import importlib.metadata
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.bench import NODE_MODULES, Bench
from benchmarks.cluster import execute, fetch_number
from benchmarks.processes import BenchProcess, run_command, start_process
from benchmarks.subjects import PEERS, database_name

PYTHON_PACKAGES = (
    "absurd-sdk",
    "dbos",
    "pgqueuer",
    "procrastinate",
    "oban",
    "asyncpg",
    "starlette",
    "uvicorn",
    "pydantic",
)
NODE_PACKAGES = ("graphile-worker", "@constructive-io/knative-job-worker", "@constructive-io/knative-job-fn")
#: Batch and local queue size at which the fastest peers did best.
BATCH = 500


@dataclass
class Peer:
    """A job library.

    Attributes:
        name: Name in the tables.
        package: Package that must be installed.
        script: Its module in ``peers``.
        remaining_sql: Counts jobs that are not settled.
        clear_sql: Empties the queue.
        fill_sql: Fills the queue where the bulk enqueue takes long. ``{jobs}`` is replaced.
        settings: Variables that the script reads.
        note: Settings, for the tables.
    """

    name: str
    package: str
    script: str
    remaining_sql: str
    clear_sql: str
    fill_sql: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    _command: list[str] = field(default_factory=list)

    async def prepare(self, bench: Bench) -> str:
        if self.script.endswith(".cjs"):
            self._command = [bench.node_path(), str(PEERS / self.script)]
        else:
            self._command = [bench.peer_python(self.package), "-m", f"benchmarks.peers.{self.script}"]
        url = await bench.cluster.create_database(database_name("peer", self.name))
        await run_command(f"{self.name}: install", [*self._command, "install"], self.variables(url))
        return url

    def variables(self, url: str) -> dict[str, str]:
        """Return the environment of the script."""
        return {"DATABASE_URL": url, "BENCH_NODE_MODULES": str(NODE_MODULES), "NODE_ENV": "production", **self.settings}

    async def fill(self, url: str, jobs: int) -> int:
        await execute(url, self.clear_sql)
        if self.fill_sql is None:
            await self.enqueue(url, jobs)
        else:
            await execute(url, self.fill_sql.format(jobs=jobs))
        await execute(url, "vacuum analyze")
        return jobs

    async def enqueue(self, url: str, jobs: int) -> float:
        """Run the library's bulk enqueue. Return its seconds."""
        command = [*self._command, "enqueue", str(jobs)]
        return float(await run_command(f"{self.name}: enqueue", command, self.variables(url)))

    def ping_command(self, jobs: int) -> list[str]:
        """Return the command that enqueues jobs one at a time."""
        return [*self._command, "ping", str(jobs)]

    async def remaining(self, url: str) -> int | None:
        return await fetch_number(url, self.remaining_sql)

    @contextlib.asynccontextmanager
    async def running(
        self,
        bench: Bench,  # noqa: ARG002  - part of the protocol
        url: str,
        variables: dict[str, str],
    ) -> AsyncIterator[Sequence[BenchProcess]]:
        environment = self.variables(url) | variables
        with start_process(self.name, [*self._command, "work"], environment, graceful=False) as process:
            yield [process]


def pgqueuer(batch: int = BATCH) -> Peer:
    """Return pgqueuer with a batch size."""
    return Peer(
        name=f"pgqueuer, batches of {batch}",
        package="pgqueuer",
        script="pgqueuer_peer",
        remaining_sql="select count(*) from pgqueuer",
        clear_sql="truncate pgqueuer, pgqueuer_log",
        settings={"BENCH_BATCH": str(batch)},
    )


def graphile(local_queue: int = BATCH) -> Peer:
    """Return graphile-worker with a local queue of this size and batched completion. 0: without both."""
    return Peer(
        name="graphile-worker" + (f", local queue of {local_queue}" if local_queue else ""),
        package="graphile-worker",
        script="graphile.cjs",
        remaining_sql="select count(*) from graphile_worker._private_jobs",
        clear_sql="truncate graphile_worker._private_jobs",
        settings={"BENCH_LOCAL_QUEUE": str(local_queue)},
        note="24 concurrent jobs" + (", completeJobBatchDelay 0" if local_queue else ""),
    )


def procrastinate(concurrency: int = 10) -> Peer:
    """Return procrastinate. It keeps its finished jobs, as by default."""
    return Peer(
        name="procrastinate",
        package="procrastinate",
        script="procrastinate_peer",
        remaining_sql="select count(*) from procrastinate_jobs where status in ('todo', 'doing')",
        clear_sql="truncate procrastinate_jobs, procrastinate_events cascade",
        fill_sql="insert into procrastinate_jobs (queue_name, task_name, args) "
        "select 'default', 'noop', jsonb_build_object('n', n) from generate_series(1, {jobs}) n",
        settings={"BENCH_CONCURRENCY": str(concurrency)},
        note=f"concurrency {concurrency}",
    )


def oban(limit: int = BATCH) -> Peer:
    """Return oban with a queue limit."""
    return Peer(
        name="oban",
        package="oban",
        script="oban_peer",
        remaining_sql="select count(*) from oban_jobs where state <> 'completed'",
        clear_sql="truncate oban_jobs",
        fill_sql="insert into oban_jobs (worker, args) "
        "select 'benchmarks.peers.oban_peer.Noop', jsonb_build_object('n', n) from generate_series(1, {jobs}) n",
        settings={"BENCH_CONCURRENCY": str(limit)},
        note=f"queue limit {limit}",
    )


def installed_versions() -> dict[str, str]:
    """Return the versions of the installed peers and of jobfn's main dependencies."""
    versions = {}
    for package in PYTHON_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    for package in NODE_PACKAGES:
        with contextlib.suppress(OSError):
            versions[package] = str(json.loads((NODE_MODULES / package / "package.json").read_text())["version"])
    return versions
