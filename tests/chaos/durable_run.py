"""A chaos run of durable functions: function, workers, callback server and PostgreSQL are killed while jobs run."""

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from chaos.delivery_log import DeliveryLog
from chaos.faults import POSTGRES, plan_kills
from chaos.http_messages import LOOPBACK
from chaos.processes import Database, ManagedProcess, run_processes
from chaos.run import free_fixed_ports, retry_until_connected
from chaos.stall_detector import detect_stalls
from jobfn.database.migrate import migrate
from support.secrets import CALLBACK_SECRET

HANDLERS = Path(__file__).with_name("durable_functions.py")
FUNCTION, CALLBACKS, WORKERS = "function-0", "callbacks", ("worker-0", "worker-1")
LEASE_SECONDS = 3
MAX_DOWN_SECONDS = 1.0
#: Signals are sent up to this time after the handler has begun to wait: before, while and after it parks.
MAX_SIGNAL_DELAY_SECONDS = 0.08
#: Share of the signals that are sent with the job.
EARLY_SIGNAL_SHARE = 0.1
#: Time in which a step has run and is recorded, also on a busy machine, unless a process dies.
MAX_STEP_SECONDS = 1.0
STEPS = ("reserve", "charge", "pack", "ship", "close")

Event = dict[str, Any]


@dataclass(frozen=True)
class DurableOptions:
    """Options of a run.

    Attributes:
        seed: Seed of kills and delays.
        runs: Number of durable jobs.
        fault_seconds: Time in which processes are killed. Jobs are added in the first 90 percent.
        kill_interval_seconds: Mean time between kills.
        drain_timeout_seconds: Time for the rest after that.
    """

    seed: int
    runs: int
    fault_seconds: float
    kill_interval_seconds: float
    drain_timeout_seconds: float


@dataclass
class Result:
    """Outcome of a run.

    Attributes:
        violations: Failures, in words.
        table: Figures, by name.
        lost: Number of runs that have neither ended nor a job.
        left: Number of jobs that have not ended.
        repeated_steps: Number of steps that ran again.
    """

    violations: list[str] = field(default_factory=list)
    table: dict[str, object] = field(default_factory=dict)
    lost: int = 0
    left: int = 0
    repeated_steps: int = 0

    def __str__(self) -> str:
        return "\n".join(f"| {name} | {value} |" for name, value in self.table.items())


@dataclass
class _Run:
    options: DurableOptions
    dsn: str
    events_file: Path
    rand: random.Random
    result: Result
    signals: int = 0
    _events: list[Event] = field(default_factory=list)
    _offset: int = 0

    def events(self) -> list[Event]:
        """Return the lines that are complete. Each is read once."""
        with self.events_file.open("rb") as file:
            file.seek(self._offset)
            lines, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(lines) + len(newline)
        self._events += map(json.loads, lines.splitlines())
        return self._events


async def run_durable_chaos(options: DurableOptions, folder: Path) -> Result:
    """Run and evaluate. Write the logs into a folder."""
    started_at = time.time()
    log = DeliveryLog(lambda: time.time() - started_at)
    database = Database(log)
    events_file = folder / "events.jsonl"
    events_file.touch()
    rand = random.Random(options.seed)  # noqa: S311  - repeatable, not secret
    try:
        run = _Run(options, await database.start(), events_file, rand, Result())
        await _prepare(run)
        processes = _processes(run, folder, log)
        async with (
            run_processes(processes, stop_timeout_seconds=30) as stop,
            detect_stalls(log, processes, run.dsn, lease_seconds=LEASE_SECONDS),
        ):
            sending = asyncio.create_task(_send_signals(run))
            await asyncio.gather(_add_runs(run), _kill(options, processes, database))
            left = await _wait_until_drained(run)
            sending.cancel()
            await asyncio.gather(*(process.wait_until_listening() for process in processes))
            await stop()
        await _evaluate(run, log, started_at, left)
        run.result.violations += [each for process in processes for each in process.unexpected_exits]
        return run.result
    finally:
        await database.stop()


@contextlib.asynccontextmanager
async def _connect(dsn: str) -> "AsyncIterator[asyncpg.Connection[Any]]":
    connection = await asyncpg.connect(dsn, timeout=5, command_timeout=20)
    try:
        yield connection
    finally:
        connection.terminate()


async def _prepare(run: _Run) -> None:
    async with _connect(run.dsn) as connection:
        await migrate(connection, "app_jobs")
        await connection.execute("create table orders (number int primary key, job bigint not null)")
        # SIGKILL does not lose the operating system's cache: commits survive it without fsync.
        await connection.execute("alter system set fsync = off")
        await connection.execute("select pg_reload_conf()")


def _processes(run: _Run, folder: Path, log: DeliveryLog) -> list[ManagedProcess]:
    ports = free_fixed_ports((FUNCTION, CALLBACKS, *WORKERS))
    service = {
        "DATABASE_URL": run.dsn,
        "KNATIVE_SERVICE_URL": f"http://{LOOPBACK}:{ports[FUNCTION]}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://{LOOPBACK}:{ports[CALLBACKS]}/callback",
        "JOBS_CALLBACK_SECRET": CALLBACK_SECRET,
        "JOBS_LEASE_SECONDS": str(LEASE_SECONDS),
        "JOBS_REPORT_GRACE_SECONDS": "1",
        "JOBS_POLL_INTERVAL_SECONDS": "1",
    }
    processes: list[ManagedProcess] = []
    for name, port in ports.items():
        if name == FUNCTION:
            command = ["-m", "jobfn.function", f"{HANDLERS}:app", "--host", LOOPBACK]
            variables = {"PORT": str(port), "CHAOS_EVENTS_FILE": str(run.events_file)}
        else:
            command = ["-m", "jobfn.service", *(["--only", "callbacks"] if name == CALLBACKS else [])]
            variables = service | {"HOSTNAME": name, "INTERNAL_JOBS_CALLBACK_PORT": str(port)}
        processes.append(ManagedProcess(name, command, variables, port, folder / f"{name}.log", log))
    return processes


async def _kill(options: DurableOptions, processes: Sequence[ManagedProcess], database: Database) -> None:
    by_name = {process.name: process for process in processes}
    clock = asyncio.get_running_loop().time
    started_at = clock()
    for kill in plan_kills(
        options.seed,
        [*by_name, POSTGRES],
        seconds=options.fault_seconds,
        mean_interval_seconds=options.kill_interval_seconds,
        max_down_seconds=MAX_DOWN_SECONDS,
    ):
        await asyncio.sleep(started_at + kill.at_seconds - clock())
        if kill.target == POSTGRES:
            await database.kill(kill.down_seconds)
        else:
            by_name[kill.target].kill(kill.down_seconds)


async def _add_runs(run: _Run) -> None:
    for number in range(run.options.runs):
        is_early = run.rand.random() < EARLY_SIGNAL_SHARE

        async def add(number: int = number, *, is_early: bool = is_early) -> None:
            async with _connect(run.dsn) as connection, connection.transaction():
                await connection.execute(
                    """
                    insert into orders
                    select $1, (app_jobs.add_job('fulfil', json_build_object('number', $1::int),
                        job_key := 'order-' || $1, max_attempts := 1000)).id
                    where not exists (select from orders where number = $1)
                    """,
                    number,
                )
                if is_early:
                    await _signal(connection, number)

        await retry_until_connected(add)
        run.signals += is_early
        await asyncio.sleep(run.options.fault_seconds * 0.9 / run.options.runs)


async def _signal(connection: "asyncpg.Connection[Any]", number: int) -> bool:
    sent: bool = await connection.fetchval(
        "select app_jobs.signal('order-' || $1::int, 'approved', to_json($1::int * 7))", number
    )
    return sent


async def _send_signals(run: _Run) -> None:
    """Send a signal to each run when its handler begins to wait for one."""
    sent: set[int] = set()
    async with asyncio.TaskGroup() as tasks:
        seen = 0
        while True:
            new = run.events()[seen:]
            seen += len(new)
            for event in new:
                number = event["number"]
                if event["event"] == "waits" and number not in sent:
                    sent.add(number)
                    tasks.create_task(_send_signal(run, number, run.rand.uniform(0, MAX_SIGNAL_DELAY_SECONDS)))
            await asyncio.sleep(0.01)


async def _send_signal(run: _Run, number: int, delay_seconds: float) -> None:
    await asyncio.sleep(delay_seconds)
    tries = 0

    async def send() -> bool:
        nonlocal tries
        tries += 1
        async with _connect(run.dsn) as connection:
            return await _signal(connection, number)

    accepted = await retry_until_connected(send)
    run.signals += 1
    ended = any(event["name"] == STEPS[-1] and event["number"] == number for event in run.events())
    if not accepted and tries == 1 and not ended:  # a try without a response, or an early signal, may have ended it
        run.result.violations.append(f"the signal to run {number} was refused before its end")


async def _wait_until_drained(run: _Run) -> int:
    """Wait until no job is left. Failed attempts are retried at once."""

    async def count_left() -> int:
        async with _connect(run.dsn) as connection:
            await connection.execute(
                """
                select app_jobs.reschedule_jobs(array(
                    select id from app_jobs.jobs
                    where locked_at is null and run_at > now() and parked_attempt is distinct from attempts
                ), run_at := now())
                """
            )
            count: int = await connection.fetchval("select count(*) from app_jobs.jobs")
            return count

    left = -1
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(run.options.drain_timeout_seconds):
            while left := await retry_until_connected(count_left):  # noqa: ASYNC110  - state of another process
                await asyncio.sleep(0.3)
    return left


async def _evaluate(run: _Run, log: DeliveryLog, started_at: float, left: int) -> None:
    violations, events = run.result.violations, run.events()
    values: defaultdict[tuple[int, str], set[str]] = defaultdict(set)
    executions: defaultdict[tuple[int, str], list[Event]] = defaultdict(list)
    for event in events:
        if event["event"] == "returned":
            values[event["number"], event["name"]].add(json.dumps(event["value"]))
        elif event["event"] == "executed":
            executions[event["number"], event["name"]].append(event)
    receipts = {(event["number"], event["job"]) for event in events if event["event"] == "receipt"}
    added = Counter(number for number, _ in receipts)
    async with _connect(run.dsn) as connection:
        rows = await connection.fetchval(
            "select (select count(*) from app_jobs.job_steps) + (select count(*) from app_jobs.job_signals)"
        )
    run.result.left, run.result.lost = left, max(run.options.runs - len(added) - left, 0)
    if left or rows:
        violations.append(f"{left} jobs have not ended, and {rows} rows of steps and signals are left")
    numbers = range(run.options.runs)
    violations += [
        f"run {number} has added {added[number]} jobs at its end" for number in numbers if added[number] != 1
    ]
    for number, name in itertools.product(numbers, (*STEPS, "labels", "approved")):
        results = values[number, name]
        if len(results) != 1 or (name == "approved" and results != {str(number * 7)}):
            violations.append(f"{name} of run {number} has the results {results}")
    repetitions = [(key, pair) for key, each in executions.items() for pair in itertools.pairwise(each)]
    run.result.repeated_steps = len(repetitions)
    for (number, name), (earlier, later) in repetitions:
        since = earlier["at"] - started_at
        until = min(later["at"] - started_at, since + MAX_STEP_SECONDS)
        if not log.incidents((FUNCTION, earlier["worker"], CALLBACKS, POSTGRES), since=since, until=until):
            violations.append(f"{name} of run {number} ran twice, and no process died inside it")
    run.result.table = {
        "runs": run.options.runs,
        "ended": len(added),
        "executions of steps": sum(map(len, executions.values())),
        "repeated executions, each of a step in which a process died": len(repetitions),
        "signals": run.signals,
        "deliveries that ran code": len({(event["job"], event["attempt"]) for event in events}),
        **dict(sorted(log.counts.items())),
        "seconds": round(log.now()),
        "violations": len(violations),
    }
