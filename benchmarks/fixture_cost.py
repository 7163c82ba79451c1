"""``python -m benchmarks.fixture_cost``: what a test's own database costs, the fixture ``jobs_db``, step by step.

The strategies that PostgreSQL has for copying a template take turns, so that a busy moment meets all of them alike.
The last line is the fixture as tests have it, one test right after the other: the next database is made while a test
runs, and the last one dropped, so that a test waits for less than the steps add up to.
"""

import argparse
import asyncio
import itertools
import os
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import asyncpg

from jobfn.testing.database import JobsServer

CLONES = 20
#: Where ``create database ... strategy`` begins.
HAS_STRATEGIES = 15
STRATEGIES = ("wal_log", "file_copy")
TARGET_MILLISECONDS = 100.0
FIXTURE = "jobs_db, and a query on it"

#: Milliseconds, by what took them.
Times = defaultdict[str, list[float]]


def main(arguments: Sequence[str]) -> int:
    """Measure and print. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fixture_cost", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--clones", type=int, default=CLONES, help="how many of each (default: %(default)s)")
    clones = parser.parse_args(arguments).clones
    if clones < 1:
        sys.stderr.write(f"benchmark: --clones {clones}: give 1 or more\n")
        return 2
    with JobsServer.start() as server:
        steps, version = asyncio.run(_steps(server, clones))
        fixture = _fixture(server, clones)
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    print(f"PostgreSQL {version}, Python {platform.python_version()}, {os.cpu_count()} CPUs, load {load}")
    print(f"median of {clones}, and the slowest; milliseconds")
    for name, times in [*steps.items(), *fixture.items()]:
        print(f"  {name:<28}{statistics.median(times):8.1f}{max(times):8.1f}")
    reached = statistics.median(fixture[FIXTURE])
    print(f"a database for a test: {reached:.1f} ms, of at most {TARGET_MILLISECONDS:g}")
    return 0


async def _steps(server: JobsServer, clones: int) -> tuple[Times, str]:
    """What each step takes by itself, with each strategy."""
    times: Times = defaultdict(list)
    admin = await asyncpg.connect(server.admin_dsn)
    try:
        version: str = await admin.fetchval("select current_setting('server_version')")
        strategies = STRATEGIES if int(version.partition(".")[0]) >= HAS_STRATEGIES else ("",)
        for number, strategy in itertools.product(range(clones), strategies):
            name = f"jobfn_kit_{number}_{strategy}"
            copied = f" strategy {strategy}" if strategy else ""
            with _timed(times, f"create{copied}"):
                await admin.execute(f"create database {name} template {server.template}{copied}")
            with _timed(times, "connect and query"):
                connection = await asyncpg.connect(server.dsn(name))
                await connection.fetchval("select count(*) from app_jobs.jobs")
            await connection.close()
            with _timed(times, f"drop{copied}"):
                await admin.execute(f"drop database {name} with (force)")
    finally:
        await admin.close()
    return times, version


def _fixture(server: JobsServer, clones: int) -> Times:
    """What a test waits for that does nothing with its database but look into it."""
    times: Times = defaultdict(list)
    for _ in range(clones):
        with _timed(times, FIXTURE), server.database() as database:
            database.fetch("select count(*) from app_jobs.jobs")
    return times


@contextmanager
def _timed(times: Times, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    times[name].append((time.perf_counter() - began) * 1000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
