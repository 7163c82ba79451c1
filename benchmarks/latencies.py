"""Latency of a job in an idle worker, from sending its commit to the start of its handler."""

import asyncio
import time
from collections.abc import Sequence

from benchmarks.bench import Bench, timestamp_reader
from benchmarks.drain import Subject
from benchmarks.errors import BenchError
from benchmarks.processes import BenchProcess, run_command
from benchmarks.timestamps import TimestampReader

#: The first jobs meet cold caches and unprepared statements. They do not count.
WARM_UP_JOBS = 8
IDLE_DELAY_SECONDS = 0.3
HANDLED_TIMEOUT_SECONDS, POLL_INTERVAL_SECONDS = 30.0, 0.05


async def measure_latencies(
    bench: Bench, subject: Subject, url: str, command: Sequence[str], variables: dict[str, str], *, jobs: int
) -> list[float]:
    """Return latencies in milliseconds.

    Args:
        bench: The run.
        subject: What to measure.
        url: Its database.
        command: Enqueues jobs one at a time, each in its own transaction, and prints their numbers and commit times.
        variables: Environment of the command.
        jobs: Number of jobs that the command enqueues.
    """
    await subject.fill(url, 1)  # Its timestamp shows that the worker is running.
    with timestamp_reader() as reader:
        async with subject.running(bench, url, every_job_variables(reader)) as processes:
            await wait_for_jobs(reader, processes, 1)
            await asyncio.sleep(IDLE_DELAY_SECONDS)
            output = await run_command(f"{subject.name}: ping", command, variables)
            sent = {int(number): int(ns) / 1e9 for number, ns in (line.split() for line in output.splitlines())}
            if len(sent) != jobs:
                raise BenchError(f"{len(sent)} of {jobs} jobs were enqueued")
            started = await wait_for_jobs(reader, processes, jobs, skip=1)
    return [(started[number] - sent_at) * 1e3 for number, sent_at in sent.items() if number >= WARM_UP_JOBS]


def every_job_variables(reader: TimestampReader) -> dict[str, str]:
    """Return variables that make handlers record every job."""
    return {"BENCH_TIMESTAMPS": str(reader.folder), "BENCH_EVERY_JOB": "1"}


async def wait_for_jobs(
    reader: TimestampReader, processes: Sequence[BenchProcess], jobs: int, *, skip: int = 0
) -> dict[int, float]:
    """Wait until this many jobs are handled. Return each job's first start by number, without the first ``skip``."""
    started: dict[int, float] = {}
    deadline = time.monotonic() + HANDLED_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        reader.update()
        started = dict(reversed(reader.lines[skip:]))
        if len(started) >= jobs:
            return started
        for process in processes:
            process.check_running()
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
    raise BenchError(f"{len(started)} of {jobs} jobs were handled within {HANDLED_TIMEOUT_SECONDS:g} s")


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the value below which this fraction of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(fraction * (len(ordered) - 1)))]
