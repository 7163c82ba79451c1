"""Drain rate of a subject: fill its queue, start its worker, read the timestamps that its handler writes.

The rate counts from the first handled job until no job is left in the table. A slow subject is stopped when its time
is up, and its rate is that of the jobs it handled. So every subject starts with the same number of waiting jobs.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg

from benchmarks.bench import Bench, timestamp_file
from benchmarks.cluster import connect
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.measurements import Family
from benchmarks.processes import POLL_INTERVAL_SECONDS, BenchProcess
from benchmarks.timestamps import RECORD_INTERVAL_JOBS, read_timestamps

RATE_UNIT, CPU_UNIT = "jobs/s", "µs of CPU per job"
START_TIMEOUT_SECONDS = 30.0
#: Jobs per INSERT where a queue is refilled while it is drained.
REFILL_BATCH = 1000

#: Adds this number of jobs.
Refill = Callable[["asyncpg.Connection[Any]", int], Awaitable[None]]


class Subject(Protocol):
    """A queue and its worker.

    Attributes:
        name: Name in the tables.
        note: Settings, for the tables.
    """

    name: str
    note: str

    async def prepare(self, bench: Bench) -> str:
        """Create the database and return its URL. Raise SubjectUnavailable if it cannot be measured."""

    async def fill(self, url: str, jobs: int) -> None:
        """Empty the queue and add jobs."""

    def running(
        self, bench: Bench, url: str, timestamps: dict[str, str]
    ) -> AbstractAsyncContextManager[Sequence[BenchProcess]]:
        """Run the worker's processes while the block runs."""

    async def is_empty(self, url: str) -> bool:
        """Whether all jobs are settled."""


@dataclass(frozen=True)
class DrainResult:
    """Result of one round.

    Attributes:
        rate: Jobs per second.
        cpu_microseconds: CPU per job, of all processes of the subject without PostgreSQL.
    """

    rate: float
    cpu_microseconds: float


async def drain(
    bench: Bench, subject: Subject, url: str, *, jobs: int, max_seconds: float, refill: Refill | None = None
) -> DrainResult:
    """Run one round.

    Args:
        bench: The run.
        subject: What to measure.
        url: Its database.
        jobs: Number of jobs to handle.
        max_seconds: Maximum duration.
        refill: Adds jobs as others are handled, so that the number of waiting jobs stays the same. None: ``fill`` adds
            all jobs.
    """
    await subject.fill(url, jobs)
    with timestamp_file() as path:
        timestamps = {"BENCH_TIMESTAMPS": str(path), "BENCH_JOBS": str(jobs)}
        async with subject.running(bench, url, timestamps) as processes:
            first = await _wait_for_first_job(path, processes)
            cpu_before = _cpu_seconds(processes)
            async with _refilling(url, refill) as on_handled:
                finished = await _wait_for_last_job(path, processes, jobs, first + max_seconds, on_handled)
            if not finished:
                handled, last = read_timestamps(path)[-1]
                if last == first:
                    raise BenchError(
                        f"{subject.name} handled fewer than {RECORD_INTERVAL_JOBS} jobs in {max_seconds:g} s"
                    )
                return DrainResult(handled / (last - first), (_cpu_seconds(processes) - cpu_before) / handled * 1e6)
            while not await subject.is_empty(url):
                _check_running(processes)
                await asyncio.sleep(POLL_INTERVAL_SECONDS)
            seconds = time.monotonic() - first
            return DrainResult(jobs / seconds, (_cpu_seconds(processes) - cpu_before) / jobs * 1e6)


async def _wait_for_first_job(path: Path, processes: Sequence[BenchProcess]) -> float:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        _check_running(processes)
        if timestamps := read_timestamps(path):
            return timestamps[0][1]
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
    logs = "; ".join(f"{process.name}: {process.log_tail()}" for process in processes)
    raise BenchError(f"no job was handled within {START_TIMEOUT_SECONDS:g} s: {logs}")


@contextlib.asynccontextmanager
async def _refilling(url: str, refill: Refill | None) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """Provide a callback that gets the number of handled jobs and adds as many."""
    added = 0
    async with contextlib.AsyncExitStack() as stack:
        connection = await stack.enter_async_context(connect(url)) if refill is not None else None

        async def on_handled(handled: int) -> None:
            nonlocal added
            if refill is not None and connection is not None and handled - added >= REFILL_BATCH:
                await refill(connection, handled - added)
                added = handled

        yield on_handled


async def _wait_for_last_job(
    path: Path,
    processes: Sequence[BenchProcess],
    jobs: int,
    deadline: float,
    on_handled: Callable[[int], Awaitable[None]],
) -> bool:
    """Wait until all jobs are handled. Return False if the time is up first."""
    while time.monotonic() < deadline:
        _check_running(processes)
        handled, _ = read_timestamps(path)[-1]
        if handled >= jobs:
            return True
        await on_handled(handled)
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
    return False


def _cpu_seconds(processes: Sequence[BenchProcess]) -> float:
    return sum(process.cpu_seconds() for process in processes)


def _check_running(processes: Sequence[BenchProcess]) -> None:
    for process in processes:
        process.check_running()


async def drain_all(
    bench: Bench,
    family: Family,
    subjects: Sequence[tuple[Subject, int, float]],
    *,
    factor: int = 1,
    refill: Refill | None = None,
) -> None:
    """Run all rounds. Each round drains every subject once.

    Args:
        bench: The run.
        family: Receives the measurements.
        subjects: Each with its number of jobs and its maximum seconds per round.
        factor: Multiplies the number of rounds.
        refill: See ``drain``.
    """
    prepared: list[tuple[Subject, str, int, float]] = []
    for subject, jobs, max_seconds in subjects:
        if not bench.includes(subject.name):
            continue
        family.measurement(subject.name, RATE_UNIT).note = subject.note
        try:
            prepared.append((subject, await subject.prepare(bench), jobs, max_seconds))
        except SubjectUnavailable as reason:
            family.skip(subject.name, RATE_UNIT, str(reason))
            bench.log_skipped(subject.name, reason)
    for number in bench.rounds(family, factor=factor):
        for subject, url, jobs, max_seconds in bench.round_order(prepared, number):
            measurement = family.measurement(subject.name, RATE_UNIT)
            if measurement.skip_reason is not None:
                continue
            try:
                result = await drain(bench, subject, url, jobs=jobs, max_seconds=max_seconds, refill=refill)
            except BenchError as error:
                measurement.fail(error)
                bench.log_skipped(subject.name, measurement.skip_reason)
                continue
            measurement.rounds.append(result.rate)
            family.measurement(subject.name, CPU_UNIT).rounds.append(result.cpu_microseconds)
            bench.log(
                f"  round {number}: {subject.name}: {result.rate:,.0f} {RATE_UNIT}, "
                f"{result.cpu_microseconds:,.0f} {CPU_UNIT}"
            )
