"""The processes of a chaos run: PostgreSQL, two workers, two functions. Each is started again when it has died."""

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

from chaos.exchange import LOOPBACK
from chaos.ledger import Ledger
from jobfn.devserver.postgres import EmbeddedPostgres
from support.processes import environment

#: A process that ended by itself is started again after so long, as an orchestrator would.
RESTART_SECONDS = 0.2
#: What a worker says, and ends with 2, when it finds no database at its start.
NO_DATABASE = "cannot be reached"


class Database:
    """A PostgreSQL of the run's own.

    Args:
        ledger: Hears of kills.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._folder = Path(tempfile.mkdtemp(prefix="jobfn-chaos-"))
        self._server = EmbeddedPostgres(self._folder)

    async def start(self) -> str:
        """Start it; returns its address."""
        await asyncio.to_thread(self._server.start)
        return self._server.dsn()

    async def kill(self, down_seconds: float) -> None:
        """Kill -9 the whole of it, and start it again after that long."""
        postmaster = psutil.Process(int((self._folder / "postmaster.pid").read_text().split("\n", 1)[0]))
        self._ledger.killed("postgres")
        postmaster.suspend()  # else one that it forks now is in no list, lives on, and keeps the memory
        processes = [postmaster, *postmaster.children(recursive=True)]
        for process in processes:  # the postmaster first: it would mend what happens to the others
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await asyncio.to_thread(psutil.wait_procs, processes, timeout=10)
        await asyncio.sleep(down_seconds)
        await asyncio.to_thread(self._server.restart)
        self._ledger.started("postgres")

    async def stop(self) -> None:
        """Stop it and remove its data."""
        await asyncio.to_thread(self._server.stop)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)


@dataclass
class Member:
    """A process that is kept alive.

    Attributes:
        name: What it is called.
        command: What it runs.
        variables: Its environment, beside the test's.
        port: Where it listens.
        log: Where its output goes.
        ledger: Hears of kills.
        ended: How it ended without being told to.
    """

    name: str
    command: Sequence[str]
    variables: dict[str, str]
    port: int
    log: Path
    ledger: Ledger
    ended: list[str] = field(default_factory=list)
    _process: asyncio.subprocess.Process | None = None
    _down_seconds: float | None = None
    _stopping: bool = False

    async def run(self) -> None:
        """Start it, and again whenever it has died, until it is stopped."""
        while True:
            said_before = self.log.stat().st_size if self.log.exists() else 0
            self._process = await self._spawn()
            self.ledger.started(self.name)
            code = await self._process.wait()
            if self._down_seconds is not None:
                await asyncio.sleep(self._down_seconds)
                self._down_seconds = None
            elif not self._stopping:
                self._ended_by_itself(code, self.log.read_bytes()[said_before:].decode("utf-8", "replace"))
                await asyncio.sleep(RESTART_SECONDS)
            elif code != 0:
                self.ended.append(f"{self.name} was stopped and ended with {code}")
            if self._stopping:
                return

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self.log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *self.command,
                env=environment(self.variables),
                cwd=self.log.parent,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _ended_by_itself(self, code: int, said: str) -> None:
        if code == 2 and NO_DATABASE in said:
            self.ledger.counts["start without a database"] += 1
        else:
            self.ended.append(f"{self.name} ended by itself with {code}: {said[-2000:]}")

    def kill(self, down_seconds: float) -> None:
        """Kill -9 it; it stays dead for so long. Nothing where it is dead already."""
        if self._process is None or self._process.returncode is not None or self._down_seconds is not None:
            return
        self.ledger.killed(self.name)
        self._down_seconds = down_seconds
        self._process.kill()

    def stop(self) -> None:
        """End it as an orchestrator does."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)

    async def until_listening(self) -> None:
        """Wait until it accepts connections."""
        while True:
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self.port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return


@contextlib.asynccontextmanager
async def alive(members: Sequence[Member], *, seconds: float) -> AsyncIterator[Callable[[], asyncio.Future[object]]]:
    """Run these processes, and stop them with the block, or before by calling what is given.

    Args:
        members: Which.
        seconds: How long the end of all of them may take.
    """
    running = [asyncio.create_task(member.run()) for member in members]

    def stop() -> asyncio.Future[object]:
        for member in members:
            member.stop()
        return asyncio.ensure_future(asyncio.wait(running, timeout=seconds))

    try:
        await asyncio.gather(*(asyncio.wait_for(member.until_listening(), 30) for member in members))
        yield stop
    finally:
        await stop()
        for member, task in zip(members, running, strict=True):
            if not task.done():
                member.ended.append(f"{member.name} did not end within {seconds:g} seconds")
                member.kill(0.0)
        await asyncio.gather(*running)
