"""One chaos run: jobs are added while processes are killed, then the queue drains. Requests are cut all the time.

``evaluation.py`` evaluates it.
"""

import asyncio
import contextlib
import functools
import itertools
import json
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from chaos.delivery_log import DeliveryLog
from chaos.evaluation import Evaluation, evaluate
from chaos.faults import FUNCTIONS, POSTGRES, FaultInjector, mode_of, plan_kills
from chaos.function_gateway import FunctionGateway
from chaos.http_messages import LOOPBACK
from chaos.options import ChaosOptions
from chaos.plan import PlannedJob, plan_jobs
from chaos.processes import Database, ManagedProcess, run_processes
from chaos.proxy import serve
from chaos.report_gateway import ReportGateway
from chaos.run_data import Row, Rows, RunData
from chaos.stall_detector import detect_stalls
from jobfn.database.connection import CONNECTION_ERRORS
from jobfn.database.migrate import migrate
from support.secrets import CALLBACK_SECRET

T = TypeVar("T")
HANDLERS = Path(__file__).with_name("functions.py")
LEASE_SECONDS = 2
MAX_DOWN_SECONDS = MAX_DELAY_SECONDS = 1.5 * LEASE_SECONDS
STOP_TIMEOUT_SECONDS = 30.0
#: Time between the last request to a function and SIGTERM.
DRAIN_SECONDS = 0.3
#: Ports that the kernel does not give to outgoing connections while a process is down.
FIXED_PORTS = range(12_000, 32_000)

TABLES = """
    create table effects (
        id bigserial primary key, number int not null, version int not null, job bigint not null, attempt int not null,
        worker text not null, delivery int not null, queue text, succeeded boolean not null,
        started float8 not null default extract(epoch from clock_timestamp()), ended float8
    );
    create table planned (number int, version int, job bigint not null, primary key (number, version));
"""


async def run_chaos(options: ChaosOptions, folder: Path) -> Evaluation:
    """Run and evaluate. Write the logs into a folder."""
    started_at = time.time()  # the clock that PostgreSQL has, too
    log = DeliveryLog(lambda: time.time() - started_at)
    faults = FaultInjector(options.seed, max_delay_seconds=MAX_DELAY_SECONDS, enabled=options.injects_faults)
    jobs = plan_jobs(
        options.seed, options.jobs, quick_share=options.quick_share, max_delay_seconds=options.fault_seconds / 4
    )
    database, effects_file = Database(log), folder / "effects.jsonl"
    ports = free_fixed_ports((*options.workers, *FUNCTIONS))
    deliveries = FunctionGateway(log, faults, [ports[name] for name in FUNCTIONS])
    reports = ReportGateway(log, faults, [ports[name] for name in options.workers])
    try:
        dsn = await database.start()
        await _prepare_database(dsn)
        async with (
            serve(deliveries.handle, log.gateway_errors) as function_port,
            serve(reports.handle, log.gateway_errors) as report_port,
        ):
            variables = {
                "DATABASE_URL": dsn,
                "KNATIVE_SERVICE_URL": f"http://{LOOPBACK}:{function_port}",
                "INTERNAL_JOBS_CALLBACK_URL": f"http://{LOOPBACK}:{report_port}/callback",
                "CHAOS_EFFECTS_FILE": str(effects_file),
            }
            processes = _create_processes(variables, folder, log, ports)
            async with (
                run_processes(processes, stop_timeout_seconds=STOP_TIMEOUT_SECONDS) as stop,
                detect_stalls(log, processes, dsn, lease_seconds=LEASE_SECONDS),
            ):
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(_add_jobs(dsn, jobs, options.fault_seconds * 0.9))
                    if options.restarts:
                        shuffled = random.Random(options.seed).sample(processes, len(processes))  # noqa: S311
                        tasks.create_task(_restart_processes(shuffled, deliveries))
                    else:
                        tasks.create_task(_kill_processes(options, processes, database))
                await _wait_until_drained(dsn, timeout_seconds=options.drain_timeout_seconds)
                await asyncio.gather(deliveries.drain(), reports.drain())
                await asyncio.gather(*(process.wait_until_listening() for process in processes))
                await stop()
        rows = await _fetch_rows(dsn, _read_effects(effects_file))
        for run in rows.history:
            ended_at = run["ended_at"].timestamp() - started_at
            log.on_attempt_ended(job=run["job_id"], attempt=run["attempt"], outcome=run["outcome"], at=ended_at)
    finally:
        await database.stop()
        (folder / "deliveries.txt").write_text("\n".join(log.lines()))
    return evaluate(RunData(options, jobs, log, rows), processes, seconds=log.now())


def free_fixed_ports(names: Sequence[str]) -> dict[str, int]:
    """Return a free port of ``FIXED_PORTS`` for each name."""
    ports: dict[str, int] = {}
    candidates = iter(random.sample(FIXED_PORTS, len(FIXED_PORTS)))
    for name in names:
        while name not in ports:
            port = next(candidates)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                ports[name] = port
    return ports


async def _prepare_database(dsn: str) -> None:
    async with _connect(dsn) as connection:
        await migrate(connection, "app_jobs")
        await connection.execute(TABLES)
        # SIGKILL does not lose the operating system's cache: commits survive it without fsync.
        await connection.execute("alter system set fsync = off")
        await connection.execute("select pg_reload_conf()")


def _create_processes(
    variables: dict[str, str], folder: Path, log: DeliveryLog, ports: Mapping[str, int]
) -> list[ManagedProcess]:
    worker_variables = variables | {
        "JOBS_CALLBACK_SECRET": CALLBACK_SECRET,
        "JOBS_LEASE_SECONDS": str(LEASE_SECONDS),
        "JOBS_REPORT_GRACE_SECONDS": "1",
        "JOBS_POLL_INTERVAL_SECONDS": "1",
        "JOBS_CONCURRENCY": "12",
    }
    function_command = ["-m", "jobfn.function", f"{HANDLERS}:app", "--host", LOOPBACK]
    function_variables = variables | {"JOBFN_REPORT_TIMEOUT_SECONDS": "20"}

    processes: list[ManagedProcess] = []
    for name, port in ports.items():
        mode = mode_of(name)
        if mode is None:
            command, own_variables = function_command, function_variables | {"PORT": str(port)}
        else:
            command = ["-m", "jobfn.service"]
            own_variables = worker_variables | {
                "HOSTNAME": name,
                "JOBS_SETTLE_ON": mode,
                "INTERNAL_JOBS_CALLBACK_PORT": str(port),
            }
        processes.append(ManagedProcess(name, command, own_variables, port, folder / f"{name}.log", log))
    return processes


async def _kill_processes(options: ChaosOptions, processes: Sequence[ManagedProcess], database: Database) -> None:
    """Kill processes as planned."""
    by_name = {process.name: process for process in processes}
    targets = [*by_name, POSTGRES] if options.kill_targets is None else options.kill_targets
    clock = asyncio.get_running_loop().time
    started_at = clock()
    database_kill: asyncio.Task[None] | None = None
    for kill in plan_kills(
        options.seed,
        targets,
        seconds=options.fault_seconds,
        mean_interval_seconds=options.kill_interval_seconds,
        max_down_seconds=MAX_DOWN_SECONDS,
    ):
        await asyncio.sleep(started_at + kill.at_seconds - clock())
        if kill.target != POSTGRES:
            by_name[kill.target].kill(kill.down_seconds)
        elif database_kill is None or database_kill.done():
            database_kill = asyncio.create_task(database.kill(kill.down_seconds))
    if database_kill is not None:
        await database_kill


async def _restart_processes(processes: Sequence[ManagedProcess], deliveries: FunctionGateway) -> None:
    """Restart one process after the other, as an orchestrator does: first, a function gets no more requests."""
    for process in processes:
        async with deliveries.draining(process.name):
            await asyncio.sleep(DRAIN_SECONDS)
            await process.restart()
        await process.wait_until_listening()


async def _add_jobs(dsn: str, jobs: Sequence[PlannedJob], seconds: float) -> None:
    """Add the jobs, distributed over a duration."""
    clock = asyncio.get_running_loop().time
    started_at = clock()
    for at, transaction in itertools.groupby(jobs, key=lambda job: job.at):
        await asyncio.sleep(started_at + seconds * at - clock())
        await retry_until_connected(functools.partial(_add, dsn, list(transaction)))


async def _add(dsn: str, jobs: Sequence[PlannedJob]) -> None:
    """Add jobs and record their ids in one transaction. Skip jobs that an earlier try committed."""
    async with _connect(dsn) as connection, connection.transaction():
        await connection.executemany(
            """
            insert into planned (number, version, job)
            select $1, $2, (app_jobs.add_job(
                identifier := $3, payload := $4::text, job_key := $5, queue_name := $6,
                run_at := now() + $7::float8 * interval '1 second'
            )).id
            where not exists (select from planned where number = $1 and version = $2)
            """,
            [
                (job.number, job.version, job.task, json.dumps(job.payload()), job.key, job.queue, job.delay_seconds)
                for job in jobs
            ],
        )


async def _wait_until_drained(dsn: str, *, timeout_seconds: float) -> None:
    """Wait until no job is left to run, or none has ended for this time. Jobs in backoff run at once."""

    async def count_unfinished() -> int:
        async with _connect(dsn) as connection:
            await connection.execute(
                """
                select id from app_jobs.reschedule_jobs(array(
                    select id from app_jobs.jobs
                    where locked_at is null and run_at > now() and attempts between 1 and max_attempts - 1
                ), run_at := now())
                """
            )
            count: int = await connection.fetchval(
                "select count(*) from app_jobs.jobs where locked_at is not null or attempts < max_attempts"
            )
            return count

    least, ended_at = math.inf, time.monotonic()
    while count := await retry_until_connected(count_unfinished):
        if count < least:
            least, ended_at = count, time.monotonic()
        elif time.monotonic() - ended_at > timeout_seconds:
            return
        await asyncio.sleep(0.5)


def _read_effects(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text().splitlines()]


async def _fetch_rows(dsn: str, quick_effects: Sequence[Row]) -> Rows:
    async with _connect(dsn) as connection:
        effects: list[Row] = [*await connection.fetch("select * from effects"), *quick_effects]
        return Rows(
            effects=sorted(effects, key=lambda effect: effect["started"]),
            planned=await connection.fetch("select * from planned"),
            jobs=await connection.fetch("select * from app_jobs.jobs order by id"),
            queue_locks=await connection.fetch("select * from app_jobs.queue_locks"),
            history=await connection.fetch("select * from app_jobs.job_runs order by ended_at"),
            results=await connection.fetch("select job_id, result from app_jobs.job_results"),
        )


@contextlib.asynccontextmanager
async def _connect(dsn: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    connection = await asyncpg.connect(dsn, timeout=5, command_timeout=20)
    try:
        yield connection
    finally:
        connection.terminate()


async def retry_until_connected(call: Callable[[], Awaitable[T]]) -> T:
    """Call until the connection to the database is not lost."""
    while True:
        try:
            return await call()
        except CONNECTION_ERRORS:
            await asyncio.sleep(0.1)
