"""Processes under measurement: started with an environment of their own, watched through their marks, ended.

What a process says goes into a file, which is shown when it fails and thrown away otherwise.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.errors import BenchError

#: Variables that jobfn and the platform's packages read: only the benchmark's own values count.
OURS = ("JOBS_", "JOBFN_", "INTERNAL_", "KNATIVE_", "PG", "K_", "BENCH_", "OBAN_", "PROCRASTINATE_")
#: Of this process alone. The last: what pip installs is compiled, so what lies in this folder is to be kept so, too.
ITS_OWN = frozenset({"DATABASE_URL", "HOSTNAME", "PORT", "LOG_LEVEL", "PYTHONDONTWRITEBYTECODE"})
STOP_SECONDS = 10.0
POLL_SECONDS = 0.005
ROOT = Path(__file__).parent.parent


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without those that would change a subject, and these on top."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS) and name not in ITS_OWN}
    return kept | {"PYTHONPATH": str(ROOT)} | dict(extra)


@dataclass
class Program:
    """A process that runs."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def said(self) -> str:
        """The last of what it said."""
        return self.log.read_text(errors="replace")[-1500:]

    def check(self) -> None:
        """Raise BenchError if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise BenchError(f"{self.name} ended with {code}: {self.said()}")

    async def until_listening(self, port: int, *, seconds: float = 30.0) -> None:
        """Wait until somebody accepts connections on this port."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(POLL_SECONDS)
        raise BenchError(f"{self.name} does not listen on {port} after {seconds:g} s: {self.said()}")

    async def until_said(self, text: str, *, seconds: float = 30.0) -> None:
        """Wait until its output holds this text."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if text in self.log.read_text(errors="replace"):
                return
            self.check()
            await asyncio.sleep(POLL_SECONDS)
        raise BenchError(f"{self.name} did not say {text!r} within {seconds:g} s: {self.said()}")

    def cpu_seconds(self) -> float:
        """CPU that it has used so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return float(times.user + times.system)

    def resident_megabytes(self) -> float:
        """Memory that it holds."""
        return float(psutil.Process(self.process.pid).memory_info().rss) / 1e6


@contextlib.contextmanager
def program(name: str, command: Sequence[str], extra: Mapping[str, str], *, grace: bool = True) -> Iterator[Program]:
    """Run a process for as long as the block lasts.

    Args:
        name: For messages.
        command: What to run.
        extra: Its variables.
        grace: Ask it to end before it is killed.
    """
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                env=environment(extra),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield Program(name, process, log)
        finally:
            _end(process, grace=grace)


def _end(process: "subprocess.Popen[bytes]", *, grace: bool) -> None:
    """End it and whatever it has started."""
    if grace and process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def run(name: str, command: Sequence[str], extra: Mapping[str, str], *, seconds: float = 120.0) -> str:
    """Run a process to its end; returns what it said on standard output.

    Raises:
        BenchError: It failed, or took too long.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment(extra),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(seconds):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchError(f"{name} took longer than {seconds:g} s") from None
    if process.returncode != 0:
        raise BenchError(f"{name} failed: {(err or out).decode(errors='replace').strip()[-1500:]}")
    return out.decode()
