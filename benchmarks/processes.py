"""Measured processes: start with a clean environment, wait for output or a port, stop.

Output goes to a file that is shown if the process fails and deleted otherwise.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.cpus import SUBJECT, CpuSet, pinned
from benchmarks.errors import BenchError

ROOT = Path(__file__).parent.parent
#: Variables of jobfn, its peers and the platform's packages. The caller's values are removed.
REMOVED_PREFIXES = ("JOBS_", "JOBFN_", "INTERNAL_", "KNATIVE_", "PG", "K_", "BENCH_", "OBAN_", "PROCRASTINATE_")
#: PYTHONDONTWRITEBYTECODE is removed because pip installs compiled modules.
REMOVED_NAMES = frozenset({"DATABASE_URL", "HOSTNAME", "PORT", "LOG_LEVEL", "PYTHONDONTWRITEBYTECODE"})
STOP_TIMEOUT_SECONDS = 10.0
POLL_INTERVAL_SECONDS = 0.01
MAX_SHOWN_CHARACTERS = 1500


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's environment without variables that configure a subject, plus these."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(REMOVED_PREFIXES) and name not in REMOVED_NAMES
    }
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


@dataclass
class BenchProcess:
    """A running process.

    Attributes:
        name: Name in messages.
        popen: The process.
        log: Its output.
        port: Port that it listens on. None: it is not a server.
    """

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path
    port: int | None = None

    def log_tail(self) -> str:
        """Return the end of its output."""
        return self.log.read_text(errors="replace")[-MAX_SHOWN_CHARACTERS:]

    def check_running(self) -> None:
        """Raise BenchError if the process has exited."""
        code = self.popen.poll()
        if code is not None:
            raise BenchError(f"{self.name} exited with {code}: {self.log_tail()}")

    async def wait_for_port(self, *, timeout_seconds: float = 30.0) -> None:
        """Wait until its port accepts connections."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            self.check_running()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                return
            await asyncio.sleep(POLL_INTERVAL_SECONDS)
        raise BenchError(f"{self.name} does not listen on {self.port} after {timeout_seconds:g} s: {self.log_tail()}")

    async def wait_until_ready(self, health_port: int, *, timeout_seconds: float = 30.0) -> None:
        """Wait until a service says on its health port that it is ready: it has connected to its databases."""
        deadline = time.monotonic() + timeout_seconds
        while not await asyncio.to_thread(_is_ready, health_port):
            self.check_running()
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} is not ready after {timeout_seconds:g} s: {self.log_tail()}")
            await asyncio.sleep(POLL_INTERVAL_SECONDS)

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far."""
        times = psutil.Process(self.popen.pid).cpu_times()
        return float(times.user + times.system)

    def resident_megabytes(self) -> float:
        """Return the resident memory."""
        return float(psutil.Process(self.popen.pid).memory_info().rss) / 1e6


@contextlib.contextmanager
def start_process(
    name: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    graceful: bool = True,
    port: int | None = None,
    cpus: CpuSet = SUBJECT,
) -> Iterator[BenchProcess]:
    """Run a process while the block runs.

    Args:
        name: Name in messages.
        command: Program and arguments.
        variables: Its environment, beyond the caller's.
        graceful: Send SIGTERM and wait before SIGKILL.
        port: Port that it listens on.
        cpus: CPUs that it may use. Empty: all.
    """
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        log = Path(folder) / "log"
        with log.open("wb") as output, pinned(cpus):
            popen = subprocess.Popen(
                list(command),
                env=clean_environment(variables),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield BenchProcess(name, popen, log, port)
        finally:
            _stop(popen, graceful=graceful)


def _stop(popen: "subprocess.Popen[bytes]", *, graceful: bool) -> None:
    """Stop a process and its children."""
    if graceful and popen.poll() is None:
        popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            popen.wait(STOP_TIMEOUT_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(popen.pid, signal.SIGKILL)
    popen.wait()


async def run_command(
    name: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    timeout_seconds: float = 120.0,
    cpus: CpuSet = frozenset(),
) -> str:
    """Run a process until it exits. Return its standard output.

    Raises:
        BenchError: It failed or took too long.
    """
    with pinned(cpus):
        process = await asyncio.create_subprocess_exec(
            *command,
            env=clean_environment(variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    try:
        async with asyncio.timeout(timeout_seconds):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise BenchError(f"{name} took longer than {timeout_seconds:g} s") from None
    if process.returncode != 0:
        raise BenchError(f"{name} failed: {(err or out).decode(errors='replace').strip()[-MAX_SHOWN_CHARACTERS:]}")
    return out.decode()


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False
