"""Subjects with durable runs: three trivial steps, or a wait for a signal."""

from dataclasses import dataclass, field
from typing import Protocol

from benchmarks.bench import Bench
from benchmarks.cluster import connect, execute
from benchmarks.drain import Subject
from benchmarks.peer_libraries import Peer
from benchmarks.subjects import JobfnLocal, JobfnOverHttp

ADD_DURABLE_JOBS = """
    insert into app_jobs.jobs (task_identifier, payload, key)
    select $1, json_build_object('n', n), case $1 when 'wait_for_signal' then 'wait-' || n end
    from generate_series(0, $2::int - 1) n
"""
#: Threads and tasks at which the peers did best.
DBOS_THREADS, ABSURD_CONCURRENCY = 10, 50
#: The recorded outcomes too: a run with the id of an old one would end at once. Not all tables exist in each version.
CLEAR_DBOS = """
    do $$ begin
        execute (
            select 'truncate ' || string_agg(c.oid::regclass::text, ', ') || ' cascade' from pg_catalog.pg_class c
            where c.relnamespace = 'dbos'::regnamespace and c.relkind = 'r'
                and c.relname in ('workflow_status', 'workflow_input', 'workflow_output', 'operation_outputs')
        );
    end $$
"""
ABSURD_SPAWN = (
    "select absurd.spawn_task('default', '{task}', jsonb_build_object('n', n)) from generate_series(0, {{jobs}} - 1) n"
)


class Waiting(Subject, Protocol):
    """A subject whose jobs wait for signals.

    Attributes:
        waiting_sql: Counts the jobs that wait.
    """

    waiting_sql: str

    def signal_command(self, bench: Bench, jobs: int) -> list[str]:
        """Return the command that sends the signals one at a time."""

    def signal_variables(self, bench: Bench, url: str) -> dict[str, str]:
        """Return the environment of the command."""


async def _add(url: str, task: str, jobs: int) -> None:
    async with connect(url) as connection:
        await connection.execute(ADD_DURABLE_JOBS, task, jobs)


@dataclass
class StepsOverHttp(JobfnOverHttp):
    """Durable jobs over HTTP."""

    async def add(self, url: str, jobs: int) -> None:
        await _add(url, "three_steps", jobs)


@dataclass
class StepsLocal(JobfnLocal):
    """Durable jobs in the worker process."""

    async def add(self, url: str, jobs: int) -> None:
        await _add(url, "three_steps", jobs)


@dataclass
class WaitingOverHttp(JobfnOverHttp):
    """Durable jobs over HTTP that wait for a signal each."""

    waiting_sql: str = "select count(*) from app_jobs.jobs where parked_attempt = attempts and locked_at is null"

    async def add(self, url: str, jobs: int) -> None:
        await _add(url, "wait_for_signal", jobs)

    def signal_command(self, bench: Bench, jobs: int) -> list[str]:
        return bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", "signal", str(jobs))

    def signal_variables(self, bench: Bench, url: str) -> dict[str, str]:
        return bench.jobfn_variables(DATABASE_URL=url)


@dataclass
class WaitingPeer(Peer):
    """A library whose runs wait for a signal each."""

    waiting_sql: str = field(kw_only=True)

    def signal_command(self, bench: Bench, jobs: int) -> list[str]:  # noqa: ARG002  - part of the protocol
        return self.ping_command(jobs)

    def signal_variables(self, bench: Bench, url: str) -> dict[str, str]:  # noqa: ARG002
        return self.variables(url)


class Dbos(WaitingPeer):
    """dbos. It starts its runs itself, so its queue cannot be filled before."""

    async def fill(self, url: str, jobs: int) -> int:
        await execute(url, self.clear_sql, "vacuum analyze")
        return jobs

    async def remaining(self, url: str) -> int | None:  # noqa: ARG002
        return None


def dbos(waiting: int = 0) -> Dbos:
    """Return dbos with direct calls from threads, or with this number of waiting runs."""
    return Dbos(
        name="dbos",
        package="dbos",
        script="dbos_peer",
        remaining_sql="",
        clear_sql=CLEAR_DBOS,
        settings={"BENCH_CONCURRENCY": str(DBOS_THREADS), **({"BENCH_WAITING": str(waiting)} if waiting else {})},
        note="" if waiting else f"direct calls in {DBOS_THREADS} threads",
        waiting_sql="select count(*) from dbos.workflow_status where status = 'PENDING'",
    )


def absurd(task: str = "three_steps") -> WaitingPeer:
    """Return absurd with runs of a task."""
    return WaitingPeer(
        name="absurd",
        package="absurd_sdk",
        script="absurd_peer",
        remaining_sql="select count(*) from absurd.t_default where state <> 'completed'",
        clear_sql="select absurd.drop_queue('default'); select absurd.create_queue('default')",
        fill_sql=ABSURD_SPAWN.format(task=task),
        settings={"BENCH_CONCURRENCY": str(ABSURD_CONCURRENCY)},
        note=f"async worker, concurrency {ABSURD_CONCURRENCY}, polls every 10 ms",
        waiting_sql="select count(*) from absurd.t_default where state = 'sleeping'",
    )
