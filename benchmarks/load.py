"""A load on one HTTP server: so many connections, each with one request under way, for some seconds.

wrk where it is installed, which costs the machine least; else a process of our own (``peers/load_client.py``) that
writes bytes made beforehand and looks for nothing but the end of each answer.
"""

import asyncio
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchError
from benchmarks.programs import Program, run

CONNECTIONS = 32
WRK_SCRIPT = """
wrk.method = "POST"
wrk.body = [[{body}]]
wrk.headers["Content-Type"] = "application/json"
"""
UNIT, CPU_UNIT = "requests/s", "us of CPU a request"


@dataclass(frozen=True)
class Load:
    """What came of it.

    Attributes:
        rate: Requests a second.
        cpu_microseconds: CPU of the server, a request.
    """

    rate: float
    cpu_microseconds: float


def generator() -> str:
    """Which one is used here."""
    return "wrk" if shutil.which("wrk") else "a client process of our own on asyncio and uvloop: wrk is not installed"


async def post(server: Program, url: str, body: str, *, seconds: float) -> Load:
    """POST this body for some seconds.

    Raises:
        BenchError: An answer was no 200, or none came.
    """
    before = server.cpu_seconds()
    wrk = shutil.which("wrk")
    requests, took = await (_wrk(wrk, url, body, seconds) if wrk else _own(url, body, seconds))
    server.check()
    if requests == 0:
        raise BenchError(f"{server.name} answered nothing: {server.said()}")
    return Load(requests / took, (server.cpu_seconds() - before) / requests * 1e6)


async def _wrk(wrk: str, url: str, body: str, seconds: float) -> tuple[int, float]:
    with tempfile.TemporaryDirectory(prefix="jobfn-bench-") as folder:
        script = Path(folder) / "post.lua"
        script.write_text(WRK_SCRIPT.format(body=body))
        command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script), url]
        text = await run("wrk", command, {})
    if "Non-2xx" in text or "Socket errors" in text:
        raise BenchError(f"{url} did not answer 200: {text.strip()}")
    found = re.search(r"(\d+) requests in ([\d.]+)s", text)
    if found is None:
        raise BenchError(f"wrk said something else than a result: {text.strip()}")
    return int(found[1]), float(found[2])


async def _own(url: str, body: str, seconds: float) -> tuple[int, float]:
    command = [sys.executable, "-m", "benchmarks.peers.load_client", url, body, str(CONNECTIONS), str(seconds)]
    requests, took = (await run("the load client", command, {})).split()
    return int(requests), float(took)


async def until_idle(seconds: float = 0.2) -> None:
    """A pause between subjects."""
    await asyncio.sleep(seconds)
