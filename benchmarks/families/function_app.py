"""Family 1: the function app, against apps written without jobfn.

``POST /process_invoice`` without a callback URL, with the same pydantic model and one process each, all on uvicorn. All
servers run from the first round to the last; one at a time is under load, on another CPU than the load generator.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.cluster import free_port
from benchmarks.cpus import WORKER
from benchmarks.http_load import CONNECTIONS, CPU_UNIT, RATE_UNIT, load_generator, run_load
from benchmarks.measurements import Family
from benchmarks.peers.invoice import BODY
from benchmarks.processes import BenchProcess, start_process
from benchmarks.subjects import PEERS

JOBFN, STARLETTE, ASGI = "jobfn's function app", "a Starlette route", "a bare ASGI app"
USUAL_SECONDS = 30
LOAD_SECONDS = 1.0
WARM_UP_SECONDS, PAUSE_SECONDS = 0.3, 0.2


@dataclass(frozen=True)
class Server:
    """A running server."""

    name: str
    process: BenchProcess
    url: str


def server_commands(bench: Bench) -> dict[str, tuple[Sequence[str], dict[str, str]]]:
    """Return the command and the environment of each server that uses jobfn's interpreter."""
    function = bench.jobfn_python("-m", "jobfn.function", str(PEERS / "invoice_function.py"), "--host", "127.0.0.1")
    variables = bench.jobfn_variables()
    return {
        JOBFN: (function, variables),
        STARLETTE: (bench.jobfn_python("-m", "benchmarks.peers.starlette_app"), variables),
        ASGI: (bench.jobfn_python("-m", "benchmarks.peers.asgi_app"), variables),
    }


async def measure(bench: Bench) -> Family:
    family = Family(1, "Function app: POST /{task}, pydantic payload, no callback URL")
    with contextlib.ExitStack() as stack:
        servers = []
        for name, (command, variables) in server_commands(bench).items():
            if not bench.includes(name):
                continue
            port = free_port()
            process = start_process(name, command, variables | {"PORT": str(port)}, port=port, cpus=WORKER)
            server = Server(name, stack.enter_context(process), f"http://127.0.0.1:{port}/process_invoice")
            await server.process.wait_for_port()
            servers.append(server)
        for server in servers:
            await run_load(server.process, server.url, BODY, seconds=WARM_UP_SECONDS)
        for number in bench.rounds(factor=2):
            for server in bench.round_order(servers, number):
                await asyncio.sleep(PAUSE_SECONDS)
                load = await run_load(server.process, server.url, BODY, seconds=LOAD_SECONDS)
                family.measurement(server.name, RATE_UNIT).rounds.append(load.rate)
                family.measurement(server.name, CPU_UNIT).rounds.append(load.cpu_microseconds)
                bench.log(f"  round {number}: {server.name}: {load.rate:,.0f} {RATE_UNIT}")
    jobfn, cpu = (JOBFN, RATE_UNIT), (JOBFN, CPU_UNIT)
    family.compare("against a Starlette route on the same server", jobfn, [(STARLETTE, RATE_UNIT)], at_least=1.2)
    family.compare("against a bare ASGI app on the same server", jobfn, [(ASGI, RATE_UNIT)])
    family.compare("CPU per request, against a Starlette route", cpu, [(STARLETTE, CPU_UNIT)])
    family.notes.append(f"load: {load_generator()}, {CONNECTIONS} connections, {LOAD_SECONDS:g} s per round")
    return family
