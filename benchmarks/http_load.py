"""HTTP load on one server: a fixed number of connections, one request in flight on each, for some seconds.

``wrk`` if it is installed, because it uses the least CPU. Otherwise ``peers/load_client.py``.
"""

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpus import FUNCTION
from benchmarks.errors import BenchError
from benchmarks.processes import BenchProcess, run_command

CONNECTIONS = 32
WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "application/json"
"""
RATE_UNIT, CPU_UNIT = "requests/s", "µs of CPU per request"


@dataclass(frozen=True)
class LoadResult:
    """Result of one load.

    Attributes:
        rate: Requests per second.
        cpu_microseconds: The server's CPU per request.
    """

    rate: float
    cpu_microseconds: float


def load_generator() -> str:
    """Return the name of the load generator."""
    return "wrk" if shutil.which("wrk") else "the benchmark's client on asyncio and uvloop: wrk is not installed"


async def run_load(server: BenchProcess, url: str, body: str, *, seconds: float) -> LoadResult:
    """POST a body repeatedly.

    Raises:
        BenchError: A response is not 200, or there is none.
    """
    cpu_before = server.cpu_seconds()
    wrk = shutil.which("wrk")
    requests, duration = await (_run_wrk(wrk, url, body, seconds) if wrk else _run_client(url, body, seconds))
    server.check_running()
    if requests == 0:
        raise BenchError(f"{server.name} sent no response: {server.log_tail()}")
    return LoadResult(requests / duration, (server.cpu_seconds() - cpu_before) / requests * 1e6)


async def _run_wrk(wrk: str, url: str, body: str, seconds: float) -> tuple[int, float]:
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text(WRK_SCRIPT.format(body=body))
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        output = await run_command("wrk", command, {}, cpus=FUNCTION)
    if "Non-2xx" in output or "Socket errors" in output:
        raise BenchError(f"{url} did not respond with 200: {output.strip()}")
    summary = re.search(r"(\d+) requests in ([\d.]+)s", output)
    if summary is None:
        raise BenchError(f"the output of wrk cannot be parsed: {output.strip()}")
    return int(summary[1]), float(summary[2])


async def _run_client(url: str, body: str, seconds: float) -> tuple[int, float]:
    command = [sys.executable, "-m", "benchmarks.peers.load_client", url, body, str(CONNECTIONS), str(seconds)]
    requests, duration = (await run_command("the load client", command, {}, cpus=FUNCTION)).split()
    return int(requests), float(duration)
