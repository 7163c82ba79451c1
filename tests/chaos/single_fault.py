"""One fault while jobs run, and its effects: a row of the chaos table.

PostgreSQL, a worker, a callback server and a function run as processes. Jobs are added at a steady rate before, during
and after the fault.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from jobfn.database.connection import DATABASE_ERRORS
from jobfn.database.migrate import migrate
from jobfn.devserver.postgres import EmbeddedPostgres
from support.network import LOOPBACK, eventually, free_port
from support.processes import environment

FUNCTION_FILE = Path(__file__).with_name("counting_function.py")
#: Open requests of the worker.
CONCURRENCY = 8
LEASE_SECONDS = 2
#: Every tenth job takes this long, so that some run when the fault begins.
SLOW_SECONDS = 0.3
#: Batches of jobs, and the pause between two.
BATCHES, BATCH_SIZE, PAUSE_SECONDS = 50, 20, 0.1
#: When the fault begins.
FAULT_AFTER_SECONDS = 1.5
STARTUP_SECONDS = 60.0
_ADD = """
    select app_jobs.add_job('count', json_build_object('number', n, 'seconds', case when n % 10 = 0 then $3 else 0 end),
        job_key := 'job-' || n)
    from generate_series($1::int, $2::int) n
"""
_EARLIER_ATTEMPT = """
    select outcome, error from app_jobs.job_runs where job_id = $1 and outcome <> 'completed' order by ended_at limit 1
"""


@dataclass
class Installation:
    """The processes of a run.

    Attributes:
        dsn: PostgreSQL's address.
        folder: Data of PostgreSQL.
        admin: A connection without limits.
        processes: ``worker``, ``callbacks`` and ``function``.
        logs: The output of all of them.
        in_flight: Number of locked jobs when a process was suspended.
    """

    dsn: str
    folder: Path
    admin: "asyncpg.Connection[Any]"
    logs: Path
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    in_flight: int = 0

    async def suspend(self, name: str, seconds: float) -> None:
        """Stop a process with SIGSTOP, and let it continue after this time."""
        self.processes[name].send_signal(signal.SIGSTOP)
        locked = "select count(*) from app_jobs.jobs where locked_at is not null"
        self.in_flight = await self.admin.fetchval(locked)
        await asyncio.sleep(seconds)
        self.processes[name].send_signal(signal.SIGCONT)

    async def until_logged(self, text: str) -> None:
        """Wait until a process logs this text."""

        async def is_logged() -> bool:
            return text in self.logs.read_text()

        try:
            await eventually(is_logged, seconds=30)
        except TimeoutError:
            raise AssertionError(f"{text!r} was not logged:\n{self.logs.read_text()[-5000:]}") from None


#: Returns when the fault is over.
Fault = Callable[[Installation], Awaitable[None]]


@dataclass(frozen=True)
class Outcome:
    """Effects of a fault on the jobs, by their numbers.

    Attributes:
        case: Name of the fault.
        jobs: Number of jobs that were added.
        lost: Those that have not run and are not in the table.
        stuck: Those that are left in the table.
        doubled: Those that have run more than once.
        causes: Why they have, by the history of their attempts.
        in_flight: Number of locked jobs when a process was suspended.
        recovery_seconds: Time from the end of the fault until a job ran that was added then.
        output: The logs.
    """

    case: str
    jobs: int
    lost: list[int]
    stuck: list[int]
    doubled: list[int]
    causes: Counter[str]
    in_flight: int
    recovery_seconds: float
    output: str

    def __str__(self) -> str:
        return (
            f"| {self.case} | {self.jobs} | {len(self.lost)} | {len(self.stuck)} | {len(self.doubled)} "
            f"| {self.recovery_seconds:.1f} |"
        )


async def run_fault(
    case: str,
    fault: Fault,
    folder: Path,
    *,
    prepare: Fault | None = None,
    database_url: Callable[[str], str] | None = None,
    source: Path | None = None,
    **variables: str,
) -> Outcome:
    """Run 1,000 jobs with a fault in the middle, and print its row of the table.

    Args:
        case: Name of the fault.
        fault: The fault.
        folder: Folder of the effects and logs.
        prepare: Called before the processes start.
        database_url: Turns PostgreSQL's address into the one of the service.
        source: Folder of another version of jobfn, which the processes run, and its schema. Default: this one.
        variables: Further variables of the service.
    """
    effects_file = folder / "effects.txt"
    effects_file.touch()
    async with contextlib.AsyncExitStack() as stack:
        installation = await _start_postgres(stack, folder, source)
        if prepare is not None:
            await prepare(installation)
        dsn = installation.dsn if database_url is None else database_url(installation.dsn)
        if source is not None:
            variables["PYTHONPATH"] = str(source)
        await _start_processes(stack, installation, dsn, effects_file, variables)
        last = BATCHES * BATCH_SIZE
        adding = asyncio.create_task(_add_jobs(installation))
        await asyncio.sleep(FAULT_AFTER_SECONDS)
        await fault(installation)
        over_at = time.monotonic()
        await installation.admin.execute(_ADD, last + 1, last + 1, 0.0)

        async def has_recovered() -> bool:
            return any(number == last + 1 for number, _ in _effects(effects_file))

        await eventually(has_recovered, seconds=60)
        recovery_seconds = time.monotonic() - over_at
        await adding
        unfinished = "select payload ->> 'number' from app_jobs.jobs"

        async def is_drained() -> bool:
            return not await installation.admin.fetch(unfinished)

        with contextlib.suppress(TimeoutError):
            await eventually(is_drained, seconds=60)
        stuck = [int(row[0]) for row in await installation.admin.fetch(unfinished)]
        output = installation.logs.read_text()
        effects = _effects(effects_file)
        times = Counter(number for number, _ in effects)
        doubled = {number: job_id for number, job_id in effects if times[number] > 1}
        causes = Counter([await _cause(installation.admin, job_id) for job_id in doubled.values()])
    outcome = Outcome(
        case,
        jobs=last + 1,
        lost=sorted(set(range(1, last + 2)) - times.keys() - set(stuck)),
        stuck=stuck,
        doubled=sorted(doubled),
        causes=causes,
        in_flight=installation.in_flight,
        recovery_seconds=recovery_seconds,
        output=output,
    )
    sys.stdout.write(f"\n{outcome}\n")
    return outcome


def _effects(file: Path) -> list[tuple[int, int]]:
    """Return the number and the job id of each effect."""
    pairs = (line.split() for line in file.read_text().splitlines())
    return [(int(number), int(job_id)) for number, job_id in pairs]


async def _cause(admin: "asyncpg.Connection[Any]", job_id: int) -> str:
    """Return why a job was delivered again."""
    attempt = await admin.fetchrow(_EARLIER_ATTEMPT, job_id)
    if attempt is None:
        return "no earlier attempt"
    if attempt["outcome"] == "lost":
        return "the lease ended before the settlement was committed"
    return f"the attempt had {attempt['outcome']}: {attempt['error']}"


async def _start_postgres(stack: contextlib.AsyncExitStack, folder: Path, source: Path | None) -> Installation:
    postgres = EmbeddedPostgres()
    await asyncio.to_thread(postgres.start)
    stack.callback(postgres.stop)
    dsn = postgres.dsn()
    admin = await asyncpg.connect(dsn, server_settings={"lock_timeout": "0", "statement_timeout": "0"})
    stack.push_async_callback(admin.close, timeout=5)
    if source is None:
        await migrate(admin, "app_jobs")
    else:
        command = [sys.executable, "-c", "from jobfn.cli import main; main()", "db", "migrate"]
        variables = environment({"DATABASE_URL": dsn, "PYTHONPATH": str(source)})
        process = await asyncio.create_subprocess_exec(*command, env=variables)
        assert await process.wait() == 0
    await admin.execute("alter system set fsync = off")
    await admin.execute("select pg_reload_conf()")
    data = Path(await admin.fetchval("show data_directory"))
    return Installation(dsn, data, admin, folder / "logs.txt")


async def _start_processes(
    stack: contextlib.AsyncExitStack,
    installation: Installation,
    dsn: str,
    effects_file: Path,
    variables: dict[str, str],
) -> None:
    function_port, callback_port = free_port(), free_port()
    service = {
        "DATABASE_URL": dsn,
        "KNATIVE_SERVICE_URL": f"http://{LOOPBACK}:{function_port}",
        "INTERNAL_JOBS_CALLBACK_URL": f"http://{LOOPBACK}:{callback_port}/callback",
        "INTERNAL_JOBS_CALLBACK_PORT": str(callback_port),
        "HOSTNAME": "worker-0",
        "JOBS_CONCURRENCY": str(CONCURRENCY),
        "JOBS_LEASE_SECONDS": str(LEASE_SECONDS),
        "JOBS_POLL_INTERVAL_SECONDS": "1",
        "JOBS_REPORT_GRACE_SECONDS": "1",
        "JOBS_CALLBACK_SECRET": "chaos-secret-of-32-characters-or-more",
        **variables,
    }
    function = {"PORT": str(function_port), "CHAOS_EFFECTS_FILE": str(effects_file)}
    if "PYTHONPATH" in variables:
        function["PYTHONPATH"] = variables["PYTHONPATH"]
    commands = {
        "function": (["-m", "jobfn.function", str(FUNCTION_FILE), "--host", LOOPBACK], function, "serving"),
        "callbacks": (["-m", "jobfn.service", "--only", "callbacks"], service, "callback server started"),
        "worker": (["-m", "jobfn.service", "--only", "worker", "--only", "scheduler"], service, "looking for jobs"),
    }
    output = stack.enter_context(installation.logs.open("ab"))
    for name, (command, own_variables, ready) in commands.items():
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            env=environment(own_variables),
            cwd=installation.logs.parent,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        installation.processes[name] = process
        stack.push_async_callback(_stop, process)
        async with asyncio.timeout(STARTUP_SECONDS):
            await installation.until_logged(ready)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(20):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _add_jobs(installation: Installation) -> None:
    """Add the jobs in batches. After an error, the same ones are added again, by the same keys."""
    for batch in range(BATCHES):
        first = batch * BATCH_SIZE + 1
        while not await _add_batch(installation.dsn, first):  # noqa: ASYNC110  - state of another process
            await asyncio.sleep(0.1)
        await asyncio.sleep(PAUSE_SECONDS)


async def _add_batch(dsn: str, first: int) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=10, command_timeout=20)
    except DATABASE_ERRORS:
        return False
    try:
        await connection.execute(_ADD, first, first + BATCH_SIZE - 1, SLOW_SECONDS)
    except DATABASE_ERRORS:
        return False
    finally:
        connection.terminate()
    return True
