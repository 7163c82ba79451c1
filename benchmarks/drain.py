"""How fast a subject drains a queue: fill it, start the worker, read the marks that its handler leaves.

The rate counts from the first handled job to the moment when nothing is left in the table. A slow subject is stopped
when its time is up, and the rate is that of the jobs it had handled. So all have the same number of jobs waiting.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from benchmarks.bench import Bench, marks_file
from benchmarks.cluster import connected
from benchmarks.errors import BenchError, NotMeasured
from benchmarks.figures import Family
from benchmarks.programs import POLL_SECONDS, Program
from benchmarks.timestamps import read_marks

UNIT, CPU_UNIT = "jobs/s", "us of CPU a job"
START_SECONDS = 30.0
#: So many jobs are added at a time, where a queue is refilled while it is drained.
REFILLED_AT_ONCE = 1000

#: Adds so many jobs.
Refill = Callable[["asyncpg.Connection[Any]", int], Awaitable[None]]


class Subject(Protocol):
    """What drains.

    Attributes:
        name: In the table.
        note: Its settings.
        leaves_no_rows: Whether there is a table to look at, at the end.
    """

    name: str
    note: str

    async def prepare(self, bench: Bench) -> str:
        """Make its database; returns the address. Raises NotMeasured."""

    async def fill(self, url: str, jobs: int) -> None:
        """Empty the queue, then fill it."""

    def running(self, bench: Bench, url: str, marks: dict[str, str]) -> AbstractContextManager[Sequence[Program]]:
        """Its processes, for as long as the block lasts."""

    async def is_empty(self, url: str) -> bool:
        """Whether every job's end is written down."""


@dataclass(frozen=True)
class Drained:
    """A round.

    Attributes:
        rate: Jobs a second.
        cpu_microseconds: A job's, of all the subject's processes together; PostgreSQL's is not among it.
    """

    rate: float
    cpu_microseconds: float


async def drain(
    bench: Bench, subject: Subject, url: str, *, jobs: int, seconds: float, refill: Refill | None = None
) -> Drained:
    """One round.

    Args:
        bench: Where it runs.
        subject: What drains.
        url: Its database.
        jobs: How many are to be handled.
        seconds: For so long at most.
        refill: Adds what was handled, so that as many wait all the time; None: ``fill`` adds them all.
    """
    await subject.fill(url, jobs)
    with marks_file() as path:
        marks = {"BENCH_MARKS": str(path), "BENCH_JOBS": str(jobs)}
        with subject.running(bench, url, marks) as programs:
            first = await _first(path, programs)
            before = _cpu_seconds(programs)
            async with _refilling(url, refill) as tell:
                end = await _until_last(path, programs, jobs, first + seconds, tell)
            if end is None:
                reached, when = read_marks(path)[-1]
                if when == first:
                    raise BenchError(f"{subject.name} handled fewer than 50 jobs in {seconds:g} s")
                return Drained(reached / (when - first), (_cpu_seconds(programs) - before) / reached * 1e6)
            while not await subject.is_empty(url):
                _check(programs)
                await asyncio.sleep(POLL_SECONDS)
            took = time.monotonic() - first
            return Drained(jobs / took, (_cpu_seconds(programs) - before) / jobs * 1e6)


async def _first(path: Path, programs: Sequence[Program]) -> float:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        _check(programs)
        if marks := read_marks(path):
            return marks[0][1]
        await asyncio.sleep(POLL_SECONDS)
    said = "; ".join(f"{program.name}: {program.said()}" for program in programs)
    raise BenchError(f"no job was handled within {START_SECONDS:g} s: {said}")


@contextlib.asynccontextmanager
async def _refilling(url: str, refill: Refill | None) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """What is to be told how many were handled, while they are: it adds as many."""
    if refill is None:
        yield _nothing
        return
    added = 0
    async with connected(url) as connection:

        async def reached(number: int) -> None:
            nonlocal added
            if number - added >= REFILLED_AT_ONCE:
                await refill(connection, number - added)
                added = number

        yield reached


async def _nothing(_number: int) -> None:
    pass


async def _until_last(
    path: Path, programs: Sequence[Program], jobs: int, deadline: float, tell: Callable[[int], Awaitable[None]]
) -> float | None:
    """When the last job was handled; None where the time was up before."""
    while time.monotonic() < deadline:
        _check(programs)
        number, when = read_marks(path)[-1]
        if number >= jobs:
            return when
        await tell(number)
        await asyncio.sleep(POLL_SECONDS)
    return None


def _cpu_seconds(programs: Sequence[Program]) -> float:
    return sum(program.cpu_seconds() for program in programs)


def _check(programs: Sequence[Program]) -> None:
    for program in programs:
        program.check()


async def drain_all(
    bench: Bench,
    family: Family,
    subjects: Sequence[tuple[Subject, int, float]],
    *,
    times: int = 1,
    refill: Refill | None = None,
) -> None:
    """All rounds of all subjects, each with its number of jobs and its seconds, one after the other in every round."""
    ready: list[tuple[Subject, str, int, float]] = []
    for subject, jobs, seconds in subjects:
        if not bench.wants(subject.name):
            continue
        family.figure(subject.name, UNIT).note = subject.note
        try:
            ready.append((subject, await subject.prepare(bench), jobs, seconds))
        except NotMeasured as reason:
            family.missing(subject.name, UNIT, str(reason))
            bench.say(f"  {subject.name}: not measured: {reason}")
    for number in bench.rounds(family, times=times):
        for subject, url, jobs, seconds in bench.in_order(ready, number):
            figure = family.figure(subject.name, UNIT)
            if figure.missing is not None:
                continue
            try:
                drained = await drain(bench, subject, url, jobs=jobs, seconds=seconds, refill=refill)
            except BenchError as error:
                figure.rounds.clear()
                figure.missing = f"it failed: {str(error).strip().splitlines()[-1]}"
                bench.say(f"  {subject.name}: {figure.missing}")
                continue
            figure.rounds.append(drained.rate)
            family.figure(subject.name, CPU_UNIT).rounds.append(drained.cpu_microseconds)
            bench.say(
                f"  round {number}: {subject.name}: {drained.rate:,.0f} {UNIT}, "
                f"{drained.cpu_microseconds:,.0f} {CPU_UNIT}"
            )


async def execute(url: str, *statements: str) -> None:
    """Statements of the benchmark's own."""
    async with connected(url) as connection:
        for statement in statements:
            await connection.execute(statement)


async def ask(url: str, question: str) -> bool:
    """A yes-or-no question to a database that may be busy."""
    with contextlib.suppress(OSError):
        async with connected(url) as connection:
            return bool(await connection.fetchval(question))
    return False
