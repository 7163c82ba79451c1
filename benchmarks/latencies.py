"""How long a job waits in an idle worker: from the moment its commit is sent to the moment its handler runs."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench, marks_file
from benchmarks.drain import Subject
from benchmarks.errors import BenchError
from benchmarks.programs import Program, run
from benchmarks.timestamps import read_marks

#: The first jobs find cold caches and unprepared statements.
WARM_UP = 8


async def latencies(
    bench: Bench, subject: Subject, url: str, command: Sequence[str], variables: dict[str, str], *, jobs: int
) -> list[float]:
    """Milliseconds of so many jobs, enqueued one at a time by this command, each in a transaction of its own."""
    await subject.fill(url, 1)  # the one that shows that the worker is there
    with marks_file() as path, subject.running(bench, url, marking_each(path)) as programs:
        await until_marked(path, programs, 1)
        await asyncio.sleep(0.3)  # until it is idle
        text = await run(f"{subject.name}: ping", command, variables)
        sent = {int(n): int(ns) / 1e9 for n, ns in (line.split() for line in text.splitlines())}
        if len(sent) != jobs:
            raise BenchError(f"{len(sent)} of {jobs} jobs were enqueued")
        ran = await until_marked(path, programs, jobs, after=1)
    return [(ran[number] - when) * 1e3 for number, when in sent.items() if number >= WARM_UP]


def marking_each(path: Path) -> dict[str, str]:
    """Variables that have every job marked in this file."""
    return {"BENCH_MARKS": str(path), "BENCH_EACH": "1"}


async def until_marked(
    path: Path, programs: Sequence[Program], jobs: int, *, after: int = 0, seconds: float = 30.0
) -> dict[int, float]:
    """When each job's handler ran, by its number, once all have; the first ``after`` marks do not count."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ran = dict(reversed(read_marks(path)[after:]))
        if len(ran) >= jobs:
            return ran
        for program in programs:
            program.check()
        await asyncio.sleep(0.05)
    raise BenchError(f"{len(read_marks(path))} of {jobs} jobs were handled within {seconds:g} s")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def middle(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)
