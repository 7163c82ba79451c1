"""Drain rate of a subject: fill its queue, start its worker, count the settled jobs.

The rate counts from the first handled job until no job is left in the table. A subject that takes longer than the round
is stopped, and its rate is that of the jobs it has settled. So every subject starts with the same number of waiting
jobs, and a round takes the same time on every machine.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Protocol

from benchmarks.bench import Bench, timestamp_reader
from benchmarks.cluster import server_cpu_seconds
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.measurements import Family
from benchmarks.processes import POLL_INTERVAL_SECONDS, BenchProcess
from benchmarks.sizing import MIN_ROUND_SECONDS, WarmUp, count_fitting, minimum_seconds, size_round
from benchmarks.timestamps import TimestampReader

RATE_UNIT, CPU_UNIT = "jobs/s", "µs of CPU per job"
TOTAL_CPU_UNIT = "µs of CPU per job, with PostgreSQL"
CUT = "cut, because the time does not suffice on this machine"
START_TIMEOUT_SECONDS = 30.0
#: A subject's first round finds cold caches. It does not count, and shows how large the other rounds can be.
WARM_UP_JOBS, WARM_UP_SECONDS = 5000, 1.0


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

    async def fill(self, url: str, jobs: int) -> int:
        """Fill the queue with this number of jobs. Return how many wait, if others waited before."""

    def running(
        self, bench: Bench, url: str, variables: dict[str, str]
    ) -> AbstractAsyncContextManager[Sequence[BenchProcess]]:
        """Run the worker's processes while the block runs."""

    async def remaining(self, url: str) -> int | None:
        """Return the number of jobs that are not settled. None: unknown, and handled jobs count instead."""


@dataclass(frozen=True)
class DrainResult:
    """Result of one round.

    Attributes:
        settled: Number of settled jobs.
        seconds: Time from the first handled job until then.
        cpu_seconds: CPU of the subject's own processes in that time.
        server_cpu_seconds: CPU of PostgreSQL.
        fill_seconds: Time to fill the queue.
    """

    settled: int
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    fill_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Jobs per second."""
        return self.settled / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """CPU per job, without PostgreSQL."""
        return self.cpu_seconds / self.settled * 1e6

    @property
    def total_cpu_microseconds(self) -> float:
        """CPU per job, with PostgreSQL."""
        return (self.cpu_seconds + self.server_cpu_seconds) / self.settled * 1e6


async def drain(bench: Bench, subject: Subject, url: str, *, jobs: int, max_seconds: float) -> DrainResult:
    """Run one round.

    Raises:
        BenchError: A process exited, or no job was settled.
    """
    started_at = time.monotonic()
    waiting = await subject.fill(url, jobs)
    fill_seconds = time.monotonic() - started_at
    with timestamp_reader() as reader:
        variables = {"BENCH_TIMESTAMPS": str(reader.folder), "BENCH_JOBS": str(jobs)}
        async with subject.running(bench, url, variables) as processes:
            result = await _measure(
                bench, subject, url, reader=reader, processes=processes, waiting=waiting, max_seconds=max_seconds
            )
    return replace(result, fill_seconds=fill_seconds)


async def _measure(
    bench: Bench,
    subject: Subject,
    url: str,
    *,
    reader: TimestampReader,
    processes: Sequence[BenchProcess],
    waiting: int,
    max_seconds: float,
) -> DrainResult:
    postmaster = await bench.cluster.postmaster()
    first = await _wait_for_first_job(reader, processes)
    cpu, server_cpu = _cpu_seconds(processes), server_cpu_seconds(postmaster)
    while True:
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
        _check_running(processes)
        reader.update()
        handled, settled_at = reader.handled
        is_over = time.monotonic() >= first + max_seconds
        if not is_over and handled + reader.unrecorded < waiting:
            continue
        now = time.monotonic()
        remaining = await subject.remaining(url)
        settled, settled_at = (handled, settled_at) if remaining is None else (waiting - remaining, now)
        if is_over or not remaining:
            break
    if settled <= 0 or settled_at <= first:
        raise BenchError(f"{subject.name} settled no jobs in {max_seconds:.1f} s")
    return DrainResult(
        settled,
        settled_at - first,
        _cpu_seconds(processes) - cpu,
        server_cpu_seconds(postmaster) - server_cpu,
    )


async def _wait_for_first_job(reader: TimestampReader, processes: Sequence[BenchProcess]) -> float:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        _check_running(processes)
        reader.update()
        if reader.first is not None:
            return reader.first
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
    logs = "; ".join(f"{process.name}: {process.log_tail()}" for process in processes)
    raise BenchError(f"no job was handled within {START_TIMEOUT_SECONDS:g} s: {logs}")


def _cpu_seconds(processes: Sequence[BenchProcess]) -> float:
    return sum(process.cpu_seconds() for process in processes)


def _check_running(processes: Sequence[BenchProcess]) -> None:
    for process in processes:
        process.check_running()


@dataclass
class _Prepared:
    """A subject with its database and its warm-up round."""

    subject: Subject
    url: str
    warm_up: WarmUp


async def drain_all(
    bench: Bench,
    family: Family,
    subjects: Sequence[Subject],
    *,
    optional: Sequence[Subject] = (),
    with_server_cpu: bool = False,
) -> None:
    """Run a warm-up round of every subject, then all rounds, sized so that they fit into the family's time.

    Args:
        bench: The run.
        family: Receives the measurements.
        subjects: Subjects that are measured in any case.
        optional: Subjects that are cut, the last one first, if the time does not suffice. Not part of a quick run.
        with_server_cpu: Count PostgreSQL's CPU too.
    """
    prepared = [
        each
        for subject in [*subjects, *([] if bench.options.quick else optional)]
        if bench.includes(subject.name) and (each := await _prepare(bench, family, subject)) is not None
    ]
    if not prepared:
        return
    seconds = bench.family_seconds_left / bench.options.rounds
    fastest = max(each.warm_up.rate for each in prepared)
    costs = [minimum_seconds(each.warm_up, fastest=fastest) for each in prepared]
    required = sum(each.subject in subjects for each in prepared)
    count = count_fitting(costs, seconds=seconds, required=required)
    for each in prepared[count:]:
        bench.skip(family, each.subject.name, RATE_UNIT, CUT)
    prepared = prepared[:count]
    size = size_round([each.warm_up for each in prepared], seconds=seconds)
    if sum(costs[:count]) > seconds:
        bench.log(f"  rounds of {MIN_ROUND_SECONDS:g} s take longer than this family's time")
    family.notes.append(f"{size.jobs:,} waiting jobs; a subject that takes longer than {size.seconds:.1f} s is stopped")
    for number in bench.rounds():
        for each in bench.round_order(prepared, number):
            name = each.subject.name
            if family.measurement(name, RATE_UNIT).skip_reason is not None:
                continue
            try:
                result = await drain(bench, each.subject, each.url, jobs=size.jobs, max_seconds=size.seconds)
            except BenchError as error:
                bench.fail(family, name, RATE_UNIT, error)
                continue
            cpu_unit = TOTAL_CPU_UNIT if with_server_cpu else CPU_UNIT
            cpu = result.total_cpu_microseconds if with_server_cpu else result.cpu_microseconds
            family.measurement(name, RATE_UNIT).rounds.append(result.rate)
            family.measurement(name, cpu_unit).rounds.append(cpu)
            bench.log(f"  round {number}: {name}: {result.rate:,.0f} {RATE_UNIT}, {cpu:,.0f} {cpu_unit}")


async def _prepare(bench: Bench, family: Family, subject: Subject) -> _Prepared | None:
    """Create the database and run the warm-up round. None: the subject is not measured."""
    family.measurement(subject.name, RATE_UNIT).note = subject.note
    try:
        url = await subject.prepare(bench)
        started_at = time.monotonic()
        result = await drain(bench, subject, url, jobs=WARM_UP_JOBS, max_seconds=WARM_UP_SECONDS)
    except SubjectUnavailable as reason:
        bench.skip(family, subject.name, RATE_UNIT, reason)
        return None
    except BenchError as error:
        bench.fail(family, subject.name, RATE_UNIT, error)
        return None
    fixed_seconds = time.monotonic() - started_at - result.fill_seconds - result.seconds
    return _Prepared(subject, url, WarmUp(result.rate, result.fill_seconds / WARM_UP_JOBS, fixed_seconds))
