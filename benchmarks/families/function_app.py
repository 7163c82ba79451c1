"""Family 1: the function app, against apps written without jobfn.

``POST /process_invoice`` without a callback URL, with the same pydantic model and one process each. All servers run
from the first round to the last; one at a time is under load.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bench import NODE_MODULES, Bench
from benchmarks.cluster import free_port
from benchmarks.errors import SubjectUnavailable
from benchmarks.http_load import CONNECTIONS, CPU_UNIT, RATE_UNIT, load_generator, run_load
from benchmarks.measurements import Family
from benchmarks.peers.invoice import BODY
from benchmarks.processes import BenchProcess, start_process
from benchmarks.subjects import PEERS

JOBFN, STARLETTE, ASGI = "jobfn's function app", "a bare Starlette route", "a bare ASGI app"
ON_UVICORN = "jobfn's function app on uvicorn alone"
NODE = "the platform's function SDK (Express)"
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
        ON_UVICORN: (bench.jobfn_python("-m", "benchmarks.peers.uvicorn_function"), variables),
        STARLETTE: (bench.jobfn_python("-m", "benchmarks.peers.starlette_app"), variables),
        ASGI: (bench.jobfn_python("-m", "benchmarks.peers.asgi_app"), variables),
    }


async def measure(bench: Bench) -> Family:
    family = Family(1, "Function app: POST /{task}, pydantic payload, no callback URL")
    seconds = 0.5 if bench.options.quick else 1.0
    commands = server_commands(bench)
    try:
        node_variables = {"BENCH_NODE_MODULES": str(NODE_MODULES), "NODE_ENV": "production", "LOG_LEVEL": "error"}
        commands[NODE] = ([bench.node_path(), str(PEERS / "invoice_function.cjs")], node_variables)
    except SubjectUnavailable as reason:
        family.skip(NODE, RATE_UNIT, str(reason))
    with contextlib.ExitStack() as stack:
        servers = []
        for name, (command, variables) in commands.items():
            if not bench.includes(name):
                continue
            port = free_port()
            process = stack.enter_context(start_process(name, command, variables | {"PORT": str(port)}))
            await process.wait_for_port(port)
            servers.append(Server(name, process, f"http://127.0.0.1:{port}/process_invoice"))
        for server in servers:
            await run_load(server.process, server.url, BODY, seconds=WARM_UP_SECONDS)
        for number in bench.rounds(family, factor=1 if bench.options.quick else 2):
            for server in bench.round_order(servers, number):
                await asyncio.sleep(PAUSE_SECONDS)
                load = await run_load(server.process, server.url, BODY, seconds=seconds)
                family.measurement(server.name, RATE_UNIT).rounds.append(load.rate)
                family.measurement(server.name, CPU_UNIT).rounds.append(load.cpu_microseconds)
                bench.log(f"  round {number}: {server.name}: {load.rate:,.0f} {RATE_UNIT}")
    jobfn, on_uvicorn = (JOBFN, RATE_UNIT), (ON_UVICORN, RATE_UNIT)
    starlette, asgi = [(STARLETTE, RATE_UNIT)], [(ASGI, RATE_UNIT)]
    family.compare("against a bare Starlette route", jobfn, starlette, at_least=1.3)
    family.compare("against a bare ASGI app", jobfn, asgi, at_least=0.75)
    family.compare("on uvicorn alone, against a bare Starlette route", on_uvicorn, starlette, at_least=1.3)
    family.compare("on uvicorn alone, against a bare ASGI app", on_uvicorn, asgi)
    family.compare("CPU per request, against a bare Starlette route", (JOBFN, CPU_UNIT), [(STARLETTE, CPU_UNIT)])
    family.notes.append(f"load: {load_generator()}, {CONNECTIONS} connections, {seconds:g} s per round")
    return family
