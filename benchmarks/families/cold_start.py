"""Family 8: cold start and memory: a function against a bare Starlette and pydantic app on the same uvicorn."""

import asyncio
import contextlib
import itertools
import time

from benchmarks.bench import Bench
from benchmarks.cluster import free_port
from benchmarks.errors import BenchError
from benchmarks.families.function_app import JOBFN, STARLETTE, commands
from benchmarks.figures import Family
from benchmarks.load import post
from benchmarks.peers.invoice import BODY
from benchmarks.programs import Program, program, run

START, CPU, MEMORY = "ms to the first 200", "ms of CPU to the first 200", "MB, idle"
SERVICE = "jobfn's service"
HEAVY = "heavy modules"
#: What `import jobfn` must not load.
UNWANTED = ("asyncpg", "typer", "rich", "jinja2", "aiohttp", "httpx")
MORE_ROUNDS = 3


async def measure(bench: Bench) -> Family:
    """Family 8."""
    family = Family(8, "Cold start, and the memory of what is idle")
    servers = {name: started for name, started in commands(bench).items() if name in {JOBFN, STARLETTE}}
    rounds = bench.rounds(family, times=1 if bench.options.quick else MORE_ROUNDS)
    for number in itertools.chain([0], rounds):
        for name, (command, variables) in servers.items():
            port = free_port()
            began = time.monotonic()
            with program(name, command, variables | {"PORT": str(port)}) as started:
                await _first_answer(started, port)
                took, cpu = time.monotonic() - began, started.cpu_seconds()
                if number == 0:
                    await post(started, f"http://127.0.0.1:{port}/process_invoice", BODY, seconds=0.5)
                    family.figure(name, MEMORY).rounds.append(started.resident_megabytes())
                    continue  # the first start compiles what is imported
                family.figure(name, START).rounds.append(took * 1e3)
                family.figure(name, CPU).rounds.append(cpu * 1e3)
    for figure in family.figures:
        bench.say(f"  {figure.subject}: {figure.median:.1f} {figure.unit}")
    await _service(bench, family)
    await _imports(bench, family)
    family.compare(
        "process start to first 200, against the bare app", (JOBFN, START), [(STARLETTE, START)], at_most=1.2
    )
    family.compare(
        "memory of an idle function, against the bare app", (JOBFN, MEMORY), [(STARLETTE, MEMORY)], at_most=1.2
    )
    family.bound("memory of an idle service", (SERVICE, MEMORY), at_most=90)
    family.bound("heavy modules loaded by `import jobfn`", ("import jobfn", HEAVY), at_most=0)
    family.notes.append("memory: resident, of a process that has answered requests for half a second before")
    return family


async def _first_answer(started: Program, port: int) -> None:
    request = (
        f"POST /process_invoice HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()
    for _ in range(20_000):
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            answer = await reader.read(200)
            writer.close()
            if answer.startswith(b"HTTP/1.1 200"):
                return
            raise BenchError(f"{started.name} answered {answer!r}")
        started.check()
        await asyncio.sleep(0.001)
    raise BenchError(f"{started.name} did not answer: {started.said()}")


async def _service(bench: Bench, family: Family) -> None:
    url = await bench.migrated("jobfn_idle")
    variables = bench.jobfn_variables(
        DATABASE_URL=url, INTERNAL_JOBS_CALLBACK_PORT=str(free_port()), JOBS_CALLBACK_HOST="127.0.0.1", LOG_LEVEL="info"
    )
    with program(SERVICE, bench.jobfn("-m", "jobfn.service"), variables) as started:
        await started.until_said("looking for jobs")
        await asyncio.sleep(1.0)
        family.figure(SERVICE, MEMORY).rounds.append(started.resident_megabytes())
    bench.say(f"  {SERVICE}: {family.figure(SERVICE, MEMORY).median:.1f} {MEMORY}")


async def _imports(bench: Bench, family: Family) -> None:
    code = f"import sys, jobfn; print(*[name for name in {UNWANTED!r} if name in sys.modules])"
    loaded = (await run("import jobfn", bench.jobfn("-c", code), bench.jobfn_variables())).split()
    figure = family.figure("import jobfn", HEAVY)
    figure.rounds.append(len(loaded))
    figure.note = ", ".join(loaded)
    family.notes.append("`import jobfn` loads of " + ", ".join(UNWANTED) + ": " + (", ".join(loaded) or "none"))
