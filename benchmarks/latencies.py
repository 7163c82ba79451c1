"""Latency of a job in an idle worker, from sending its commit to the start of its handler."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench import Bench, timestamp_file
from benchmarks.drain import Subject
from benchmarks.errors import BenchError
from benchmarks.processes import BenchProcess, run_command
from benchmarks.timestamps import read_timestamps

#: The first jobs meet cold caches and unprepared statements. They do not count.
WARM_UP_JOBS = 8
IDLE_DELAY_SECONDS = 0.3


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
    with timestamp_file() as path:
        async with subject.running(bench, url, every_job_variables(path)) as processes:
            await wait_for_jobs(path, processes, 1)
            await asyncio.sleep(IDLE_DELAY_SECONDS)
            output = await run_command(f"{subject.name}: ping", command, variables)
            sent = {int(number): int(ns) / 1e9 for number, ns in (line.split() for line in output.splitlines())}
            if len(sent) != jobs:
                raise BenchError(f"{len(sent)} of {jobs} jobs were enqueued")
            started = await wait_for_jobs(path, processes, jobs, skip=1)
    return [(started[number] - sent_at) * 1e3 for number, sent_at in sent.items() if number >= WARM_UP_JOBS]


def every_job_variables(path: Path) -> dict[str, str]:
    """Return variables that make handlers record every job."""
    return {"BENCH_TIMESTAMPS": str(path), "BENCH_EVERY_JOB": "1"}


async def wait_for_jobs(
    path: Path, processes: Sequence[BenchProcess], jobs: int, *, skip: int = 0, timeout_seconds: float = 30.0
) -> dict[int, float]:
    """Wait until this many jobs are handled. Return each job's first start by number, without the first ``skip``."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        started = dict(reversed(read_timestamps(path)[skip:]))
        if len(started) >= jobs:
            return started
        for process in processes:
            process.check_running()
        await asyncio.sleep(0.05)
    raise BenchError(f"{len(read_timestamps(path))} of {jobs} jobs were handled within {timeout_seconds:g} s")


def percentile(values: Sequence[float], fraction: float) -> float:
    """Return the value below which this fraction of the values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(fraction * (len(ordered) - 1)))]
