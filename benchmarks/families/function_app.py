"""Family 1: the function app by itself, against what one writes without jobfn.

``POST /process_invoice`` without a callback URL, the same pydantic model everywhere, one process each. All servers
run from the first round to the last; one at a time is under load.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.bench import NODE_MODULES, Bench
from benchmarks.cluster import free_port
from benchmarks.errors import NotMeasured
from benchmarks.figures import Family
from benchmarks.load import CONNECTIONS, CPU_UNIT, UNIT, generator, post, until_idle
from benchmarks.peers.invoice import BODY
from benchmarks.programs import Program, program
from benchmarks.subjects import PEERS

JOBFN, STARLETTE, ASGI = "jobfn's function app", "a bare Starlette route", "a bare ASGI app"
ON_UVICORN = "jobfn's function app on uvicorn alone"
NODE = "the platform's function SDK (Express)"


@dataclass(frozen=True)
class Server:
    """One that runs."""

    name: str
    program: Program
    url: str


def commands(bench: Bench) -> dict[str, tuple[Sequence[str], dict[str, str]]]:
    """How each server is started."""
    function = bench.jobfn("-m", "jobfn.function", str(PEERS / "invoice_function.py"), "--host", "127.0.0.1")
    found: dict[str, tuple[Sequence[str], dict[str, str]]] = {
        JOBFN: (function, bench.jobfn_variables()),
        ON_UVICORN: (bench.jobfn("-m", "benchmarks.peers.uvicorn_function"), bench.jobfn_variables()),
        STARLETTE: (bench.jobfn("-m", "benchmarks.peers.starlette_app"), bench.jobfn_variables()),
        ASGI: (bench.jobfn("-m", "benchmarks.peers.asgi_app"), bench.jobfn_variables()),
    }
    with contextlib.suppress(NotMeasured):
        node = {"BENCH_NODE_MODULES": str(NODE_MODULES), "NODE_ENV": "production", "LOG_LEVEL": "error"}
        found[NODE] = ([bench.node(), str(PEERS / "invoice_function.cjs")], node)
    return found


async def measure(bench: Bench) -> Family:
    """Family 1."""
    family = Family(1, "Function app: POST /{task}, pydantic payload, no callback URL")
    seconds = 0.5 if bench.options.quick else 1.0
    with contextlib.ExitStack() as stack:
        servers = []
        for name, (command, variables) in commands(bench).items():
            if not bench.wants(name):
                continue
            port = free_port()
            started = stack.enter_context(program(name, command, variables | {"PORT": str(port)}))
            await started.until_listening(port)
            servers.append(Server(name, started, f"http://127.0.0.1:{port}/process_invoice"))
        for server in servers:
            await post(server.program, server.url, BODY, seconds=0.3)  # warm: code paths, not caches of ours
        for number in bench.rounds(family, times=1 if bench.options.quick else 2):
            for server in bench.in_order(servers, number):
                await until_idle()
                load = await post(server.program, server.url, BODY, seconds=seconds)
                family.figure(server.name, UNIT).rounds.append(load.rate)
                family.figure(server.name, CPU_UNIT).rounds.append(load.cpu_microseconds)
                bench.say(f"  round {number}: {server.name}: {load.rate:,.0f} {UNIT}")
    if not any(server.name == NODE for server in servers):
        with contextlib.suppress(NotMeasured):
            bench.node()
        family.missing(NODE, UNIT, "node or its packages are not there")
    family.compare("against a bare Starlette route", (JOBFN, UNIT), [(STARLETTE, UNIT)], at_least=1.3)
    family.compare("against a bare ASGI app", (JOBFN, UNIT), [(ASGI, UNIT)], at_least=0.75)
    alone = ON_UVICORN, UNIT
    family.compare("on uvicorn alone, against a bare Starlette route", alone, [(STARLETTE, UNIT)], at_least=1.3)
    family.compare("on uvicorn alone, against a bare ASGI app", alone, [(ASGI, UNIT)])
    family.compare("CPU a request, against a bare Starlette route", (JOBFN, CPU_UNIT), [(STARLETTE, CPU_UNIT)])
    family.notes.append(f"load: {generator()}, {CONNECTIONS} connections, {seconds:g} s a round")
    return family
