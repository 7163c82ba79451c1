"""Processes of a chaos run: PostgreSQL, two workers, two functions. A process that exits is started again."""

import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from chaos.delivery_log import DeliveryLog
from chaos.http_messages import LOOPBACK
from jobfn.devserver.postgres import EmbeddedPostgres
from support.processes import environment

#: Delay before a process that exited by itself is started again, as an orchestrator does.
RESTART_DELAY_SECONDS = 0.2
START_TIMEOUT_SECONDS = 30.0
#: Part of a worker's error if it starts without a database. It exits with 2.
NO_DATABASE_ERROR = "cannot be reached"


class Database:
    """The run's PostgreSQL server."""

    def __init__(self, log: DeliveryLog) -> None:
        self._log = log
        self._folder = Path(tempfile.mkdtemp(prefix="jobfn-chaos-"))
        self._server = EmbeddedPostgres(self._folder)

    async def start(self) -> str:
        """Start the server. Return its DSN."""
        await asyncio.to_thread(self._server.start)
        return self._server.dsn()

    async def kill(self, down_seconds: float) -> None:
        """Kill all its processes with SIGKILL. Start it again after a delay."""
        postmaster = psutil.Process(int((self._folder / "postmaster.pid").read_text().split("\n", 1)[0]))
        self._log.on_killed("postgres")
        postmaster.suspend()  # A child that it forks now would be missed, survive and keep the shared memory.
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:  # The postmaster first, because it restarts its children.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, processes, timeout=10)
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(self._server.restart)
        self._log.on_started("postgres")

    async def stop(self) -> None:
        """Stop the server and delete its data."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


@dataclass
class ManagedProcess:
    """A process that is started again when it exits."""

    name: str
    command: Sequence[str]
    variables: dict[str, str]
    port: int
    output: Path
    log: DeliveryLog
    unexpected_exits: list[str] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _down_seconds: float | None = None
    _stopping: bool = False

    async def run(self) -> None:
        """Run the process, and start it again until ``stop`` is called."""
        while True:
            output_start = self.output.stat().st_size if self.output.exists() else 0
            self._process = await self._spawn()
            self.log.on_started(self.name)
            code = await self._process.wait()
            if self._down_seconds is not None:
                await asyncio.sleep(self._down_seconds)
                self._down_seconds = None
            elif not self._stopping:
                self._on_unexpected_exit(code, self.output.read_bytes()[output_start:].decode("utf-8", "replace"))
                await asyncio.sleep(RESTART_DELAY_SECONDS)
            elif code != 0:
                self.unexpected_exits.append(f"{self.name} was stopped and exited with {code}")
            if self._stopping:
                return

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.output.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *self.command,
                env=environment(self.variables),
                cwd=self.output.parent,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _on_unexpected_exit(self, code: int, output: str) -> None:
        if code == 2 and NO_DATABASE_ERROR in output:
            self.log.counts["start without a database"] += 1
        else:
            self.unexpected_exits.append(f"{self.name} exited with {code}: {output[-2000:]}")

    def kill(self, down_seconds: float) -> None:
        """Kill the process with SIGKILL. Start it again after a delay. Do nothing if it is down."""
        if self._process is not None and self._is_up:
            self.log.on_killed(self.name)
            self._down_seconds = down_seconds
            self._process.kill()

    async def restart(self) -> None:
        """Stop the process with SIGTERM, which must not repeat a job. Wait for its end. It is started again at once."""
        if self._process is not None and self._is_up:
            self.log.counts[f"restart {self.name}"] += 1
            self._down_seconds = 0.0
            self._process.send_signal(signal.SIGTERM)
            await self._process.wait()

    @property
    def _is_up(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._down_seconds is None

    def stop(self) -> None:
        """Stop the process with SIGTERM."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def wait_until_listening(self) -> None:
        """Wait until the process accepts connections."""
        while True:
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@contextlib.asynccontextmanager
async def run_processes(
    processes: Sequence[ManagedProcess], *, stop_timeout_seconds: float
) -> AsyncIterator[Callable[[], asyncio.Future[object]]]:
    """Run processes while the block runs. Provide a function that stops them earlier."""
    tasks = [asyncio.create_task(process.run()) for process in processes]

    def stop() -> asyncio.Future[object]:
        for process in processes:
            process.stop()
        return asyncio.ensure_future(asyncio.wait(tasks, timeout=stop_timeout_seconds))

    try:
        async with asyncio.timeout(START_TIMEOUT_SECONDS):
            await asyncio.gather(*(process.wait_until_listening() for process in processes))
        yield stop
    finally:
        await stop()
        for process, task in zip(processes, tasks, strict=True):
            if not task.done():
                process.unexpected_exits.append(f"{process.name} did not stop within {stop_timeout_seconds:g} seconds")
                process.kill(0.0)
        await asyncio.gather(*tasks)
