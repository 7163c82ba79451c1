"""A worker, a callback server and a function in a network namespace, and what becomes of their jobs in a fault.

Each connection between two parts has a separate address, whose packets can be dropped.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from chaos.cluster import PostgresServer
from chaos.enqueuer import add_until
from chaos.namespace import Namespace
from support.network import eventually
from support.processes import environment

WORKER_TO_DATABASE = "127.0.1.1"
CALLBACKS_TO_DATABASE = "127.0.1.2"
ENQUEUER_TO_DATABASE = "127.0.1.3"
STANDBY = "127.0.1.4"
HAPROXY = "127.0.1.5"
FUNCTION_TO_DATABASE = "127.0.1.6"
FUNCTION = "127.0.2.1"
CALLBACKS = "127.0.2.2"
DATABASE_PORT = 5432
STANDBY_PORT = 5433
HAPROXY_PORT = 5000
FUNCTION_PORT = 8080
CALLBACK_PORT = 12345
RECORDING = Path(__file__).with_name("recording_function.py")
#: Writes its effects to PostgreSQL.
INSERTING = Path(__file__).with_name("inserting_function.py")
_START_SECONDS = 60.0


@dataclass(frozen=True)
class Timing:
    """Durations of a run.

    Attributes:
        name: Name in the table.
        url_options: Parameters of the database address.
        settings: Settings of worker and callback server.
        fault_seconds: Duration of a fault that ends by itself.
        max_recovery_seconds: Maximum time until jobs run again.
    """

    name: str
    url_options: str
    settings: dict[str, str]
    fault_seconds: float
    max_recovery_seconds: float


#: Default timeouts, as in production: recovery took up to 23 seconds on a busy machine.
DEFAULTS = Timing("default", "", {}, fault_seconds=30.0, max_recovery_seconds=30.0)
#: Timeouts for a run of seconds.
SHORT = Timing(
    "short",
    "&connect_timeout=1&keepalives_idle=1&keepalives_interval=1&tcp_user_timeout=1500",
    {"JOBS_STATEMENT_TIMEOUT_SECONDS": "2", "JOBS_TCP_TIMEOUT_SECONDS": "2", "JOBS_POLL_INTERVAL_SECONDS": "1"},
    fault_seconds=3.0,
    max_recovery_seconds=25.0,
)


@dataclass(frozen=True)
class Result:
    """The jobs after a fault.

    Attributes:
        committed: Number of jobs whose addition was committed.
        lost: Those that have not run and are not in the table.
        stuck: Those that are still in the table.
        doubled: Those that have run more than once.
        recovery_seconds: Time from the end of the fault, or the promotion, until a job ran that was added later.
    """

    case: str
    committed: int
    lost: list[int]
    stuck: list[int]
    doubled: list[int]
    recovery_seconds: float


@dataclass
class Installation:
    """The running parts. ``server`` is the current primary."""

    namespace: Namespace
    server: PostgresServer
    folder: Path
    timing: Timing
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    commands: dict[str, tuple[list[str], dict[str, str]]] = field(default_factory=dict)
    committed: dict[int, float] = field(default_factory=dict)

    @property
    def effects_file(self) -> Path:
        """File of the numbers of jobs that have run."""
        return self.folder / "effects.txt"

    def effects(self) -> Counter[int]:
        """Return how often each job has run."""
        return Counter(map(int, self.effects_file.read_text().split())) if self.effects_file.exists() else Counter()

    async def start(self, name: str, *command: str, **variables: str) -> None:
        """Start a part in the namespace."""
        self.commands[name] = list(command), variables
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *self.namespace.command(sys.executable, *command),
                env=environment(variables),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def restart(self, name: str) -> None:
        """Kill a part and start it again."""
        self.processes[name].kill()
        await self.processes[name].wait()
        command, variables = self.commands[name]
        await self.start(name, *command, **variables)

    async def stop(self) -> None:
        """Stop all parts."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                await asyncio.wait_for(process.wait(), 30)
            except TimeoutError:
                process.kill()
                await process.wait()

    def check_running(self) -> None:
        """Check that no part has ended by itself."""
        ended = {name: each.returncode for name, each in self.processes.items() if each.returncode is not None}
        assert not ended, "\n".join(
            f"{name} ended with {code}: {self.log_of(name)[-2000:]}" for name, code in ended.items()
        )

    async def has_callback_server(self) -> bool:
        """Return whether the callback server accepts reports."""
        self.check_running()
        return "callback server started" in self.log_of("callbacks")

    def log_of(self, name: str) -> str:
        """Return the output of a part."""
        return (self.folder / f"{name}.log").read_text()


def database_url(hosts: str, timing: Timing) -> str:
    """Return an address by TCP."""
    return f"postgresql://postgres@{hosts}/postgres?sslmode=disable{timing.url_options}"


@contextlib.asynccontextmanager
async def run_installation(
    namespace: Namespace,
    server: PostgresServer,
    folder: Path,
    timing: Timing,
    *,
    hosts: str = f"{WORKER_TO_DATABASE}:{DATABASE_PORT}",
    callback_hosts: str | None = None,
    function: Path = RECORDING,
    **settings: str,
) -> AsyncIterator[Installation]:
    """Run worker, callback server and function.

    Args:
        namespace: Where they run.
        server: The database.
        folder: Folder of their logs.
        timing: Durations.
        hosts: Hosts of the database for the worker.
        callback_hosts: The same for the callback server. Default: ``hosts``.
        function: File of the handlers.
        settings: More settings of worker and callback server.
    """
    installation = Installation(namespace, server, folder, timing)
    settings = (
        timing.settings
        | settings
        | {
            "KNATIVE_SERVICE_URL": f"http://{FUNCTION}:{FUNCTION_PORT}",
            "INTERNAL_JOBS_CALLBACK_URL": f"http://{CALLBACKS}:{CALLBACK_PORT}/callback",
            "INTERNAL_JOBS_CALLBACK_PORT": str(CALLBACK_PORT),
            "HOSTNAME": "worker-1",
        }
    )
    worker, callbacks = (database_url(each, timing) for each in (hosts, callback_hosts or hosts))
    try:
        await installation.start(
            "function",
            *("-m", "jobfn.function", f"{function}:app", "--host", FUNCTION),
            CHAOS_EFFECTS_FILE=str(installation.effects_file),
            DATABASE_URL=database_url(f"{FUNCTION_TO_DATABASE}:{DATABASE_PORT}", timing),
            JOBFN_DB_ANY_CALLER="true",
            PORT=str(FUNCTION_PORT),
        )
        roles = ("--only", "worker", "--only", "scheduler")
        await installation.start(
            "worker", "-m", "jobfn.service", *roles, DATABASE_URL=worker, JOBS_HEALTH_PORT="12346", **settings
        )
        await installation.start(
            "callbacks",
            *("-m", "jobfn.service", "--only", "callbacks"),
            DATABASE_URL=callbacks,
            JOBS_HEALTH_PORT="12347",
            **settings,
        )
        await eventually(installation.has_callback_server, seconds=_START_SECONDS)
        yield installation
    finally:
        await installation.stop()


async def measure(
    installation: Installation,
    case: str,
    fault: Callable[[Installation], Awaitable[float]],
    *,
    enqueuer_address: str | None = None,
) -> Result:
    """Add jobs, let the fault happen, and wait until all jobs have run.

    Args:
        installation: The parts.
        case: Name of the case.
        fault: Causes the fault, and returns the time at which it was over.
        enqueuer_address: Address at which another process adds the jobs. Default: this one, by the Unix socket.
    """
    adding = await _start_adding(installation, enqueuer_address)
    try:
        await eventually(_has_run(installation, lambda number: number >= 20), seconds=_START_SECONDS)
        over_at = await fault(installation)
        seconds = installation.timing.max_recovery_seconds + 30
        await eventually(
            _has_run(installation, lambda number: installation.committed[number] > over_at), seconds=seconds
        )
        recovery_seconds = time.monotonic() - over_at
        await asyncio.sleep(1)  # jobs after the fault
        installation.check_running()
    finally:
        await adding()
    with contextlib.suppress(TimeoutError):
        await eventually(_has_drained(installation), seconds=installation.timing.max_recovery_seconds + 40)
    effects, waiting = installation.effects(), await _waiting(installation)
    return Result(
        case=case,
        committed=len(installation.committed),
        lost=sorted(installation.committed.keys() - effects.keys() - waiting),
        stuck=sorted(waiting),
        doubled=sorted(number for number, times in effects.items() if times > 1),
        recovery_seconds=recovery_seconds,
    )


async def _start_adding(installation: Installation, address: str | None) -> Callable[[], Awaitable[object]]:
    """Start to add jobs. Return a function that ends this."""
    timeout_seconds = 2.0 if installation.timing is SHORT else 5.0

    def on_committed(number: int) -> None:
        installation.committed[number] = time.monotonic()

    if address is None:
        stop = asyncio.Event()
        adding = asyncio.create_task(
            add_until(stop, lambda: installation.server.dsn, on_committed, timeout_seconds=timeout_seconds)
        )

        async def finish() -> None:
            stop.set()
            await adding

        return finish
    process = await asyncio.create_subprocess_exec(
        *installation.namespace.command(sys.executable, "-m", "chaos.enqueuer"),
        env=environment(
            {
                "DATABASE_URL": database_url(address, SHORT).partition("&")[0],
                "CHAOS_TIMEOUT_SECONDS": str(timeout_seconds),
                "PYTHONPATH": str(Path(__file__).parents[1]),
            }
        ),
        stdout=asyncio.subprocess.PIPE,
    )

    async def read() -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            on_committed(int(line))

    reading = asyncio.create_task(read())

    async def terminate() -> None:
        process.terminate()
        await process.wait()
        await reading

    return terminate


def _has_run(installation: Installation, matches: Callable[[int], bool]) -> Callable[[], Awaitable[bool]]:
    async def has_run() -> bool:
        installation.check_running()
        return any(number in installation.committed and matches(number) for number in installation.effects())

    return has_run


def _has_drained(installation: Installation) -> Callable[[], Awaitable[bool]]:
    async def has_drained() -> bool:
        return not await _waiting(installation) and installation.committed.keys() <= installation.effects().keys()

    return has_drained


async def _waiting(installation: Installation) -> set[int]:
    """Return the numbers of the jobs in the table."""
    connection = await installation.server.connect()
    try:
        rows = await connection.fetch("select (payload->>'number')::int as number from app_jobs.jobs")
    finally:
        await connection.close()
    return {row["number"] for row in rows}
