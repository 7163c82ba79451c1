"""Family 8: cold start and memory of a function, against a Starlette and pydantic app."""

import asyncio
import contextlib
import time
from collections.abc import Sequence

from benchmarks.bench import Bench
from benchmarks.cluster import free_port
from benchmarks.errors import BenchError
from benchmarks.families.function_app import JOBFN, STARLETTE, server_commands
from benchmarks.http_load import run_load
from benchmarks.measurements import Family
from benchmarks.peers.invoice import BODY
from benchmarks.processes import BenchProcess, run_command, start_process

USUAL_SECONDS = 20
START, CPU, MEMORY = "ms to the first 200", "ms of CPU to the first 200", "MB, idle"
SERVICE = "jobfn's service"
HEAVY = "heavy modules"
#: Modules that `import jobfn` must not load.
HEAVY_MODULES = ("asyncpg", "typer", "rich", "jinja2", "aiohttp", "httpx")
ROUND_FACTOR = 3
WARM_UP_SECONDS = 0.5
IDLE_DELAY_SECONDS = 1.0
POLL_INTERVAL_SECONDS = 0.001
START_TIMEOUT_SECONDS = 20.0


async def measure(bench: Bench) -> Family:
    family = Family(8, "Cold start and memory")
    servers = {name: started for name, started in server_commands(bench).items() if name in {JOBFN, STARLETTE}}
    for name, (command, variables) in servers.items():  # The first start compiles the imports and does not count.
        await _start(family, name, command, variables, counts=False)
    for number in bench.rounds(factor=ROUND_FACTOR):
        for name, (command, variables) in bench.round_order(list(servers.items()), number):
            await _start(family, name, command, variables, with_memory=number <= bench.options.rounds)
        if number <= bench.options.rounds:
            await _measure_service(bench, family)
            await _measure_imports(bench, family)
    for each in family.measurements:
        bench.log(f"  {each.subject}: {each.median or 0:.1f} {each.unit}")
    for text, unit in (("process start to first 200", START), ("memory of an idle function", MEMORY)):
        family.compare(f"{text}, against a Starlette app", (JOBFN, unit), [(STARLETTE, unit)], at_most=1.2)
    family.add_target("memory of an idle service", (SERVICE, MEMORY), at_most=90)
    family.add_target("heavy modules loaded by `import jobfn`", ("import jobfn", HEAVY), at_most=0)
    family.notes.append(f"memory: resident, after half a second of requests; heavy modules: {', '.join(HEAVY_MODULES)}")
    return family


async def _start(
    family: Family,
    name: str,
    command: Sequence[str],
    variables: dict[str, str],
    *,
    counts: bool = True,
    with_memory: bool = False,
) -> None:
    """Start a server and measure the time to its first response."""
    port = free_port()
    started_at = time.monotonic()
    with start_process(name, command, variables | {"PORT": str(port)}) as process:
        await _wait_for_first_response(process, port)
        seconds, cpu_seconds = time.monotonic() - started_at, process.cpu_seconds()
        if counts:
            family.measurement(name, START).rounds.append(seconds * 1e3)
            family.measurement(name, CPU).rounds.append(cpu_seconds * 1e3)
        if with_memory:
            await run_load(process, f"http://127.0.0.1:{port}/process_invoice", BODY, seconds=WARM_UP_SECONDS)
            family.measurement(name, MEMORY).rounds.append(process.resident_megabytes())


async def _wait_for_first_response(process: BenchProcess, port: int) -> None:
    request = (
        f"POST /process_invoice HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            response = await reader.read(200)
            writer.close()
            if response.startswith(b"HTTP/1.1 200"):
                return
            raise BenchError(f"{process.name} responded with {response!r}")
        process.check_running()
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
    raise BenchError(f"{process.name} sent no response: {process.log_tail()}")


async def _measure_service(bench: Bench, family: Family) -> None:
    url, port = await bench.create_migrated_database("jobfn_idle"), free_port()
    variables = bench.jobfn_variables(
        DATABASE_URL=url, INTERNAL_JOBS_CALLBACK_PORT=str(port), JOBS_CALLBACK_HOST="127.0.0.1"
    )
    with start_process(SERVICE, bench.jobfn_python("-m", "jobfn.service"), variables, port=port) as process:
        await process.wait_for_port()
        await asyncio.sleep(IDLE_DELAY_SECONDS)
        family.measurement(SERVICE, MEMORY).rounds.append(process.resident_megabytes())


async def _measure_imports(bench: Bench, family: Family) -> None:
    code = f"import sys, jobfn; print(*[name for name in {HEAVY_MODULES!r} if name in sys.modules])"
    loaded = (await run_command("import jobfn", bench.jobfn_python("-c", code), bench.jobfn_variables())).split()
    family.measurement("import jobfn", HEAVY).rounds.append(len(loaded))
