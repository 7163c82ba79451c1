"""Family 13: latency from a signal's commit to the next line of the handler that waits for it, idle worker.

jobfn goes over HTTP, and so does the plain job that it is compared with. The peers run the handler in their worker.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence

from benchmarks.bench import Bench, timestamp_reader
from benchmarks.cluster import fetch_number
from benchmarks.durable_subjects import Waiting, WaitingOverHttp, absurd, dbos
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.latencies import (
    HANDLED_TIMEOUT_SECONDS,
    IDLE_DELAY_SECONDS,
    POLL_INTERVAL_SECONDS,
    WARM_UP_JOBS,
    every_job_variables,
    measure_latencies,
    percentile,
    wait_for_jobs,
)
from benchmarks.measurements import Family
from benchmarks.processes import BenchProcess, run_command
from benchmarks.subjects import JobfnOverHttp

USUAL_SECONDS = 50
SIGNALS = 30
MEDIAN, P99 = "ms, median", "ms, p99"
PLAIN, SIGNAL = "jobfn over HTTP, a plain job", "jobfn over HTTP, a signal"


async def measure(bench: Bench) -> Family:
    family = Family(13, "Signals: from commit to the handler's next line, idle worker")
    jobs = SIGNALS + WARM_UP_JOBS
    plain = JobfnOverHttp(PLAIN, "defaults")
    peers: list[Waiting] = [] if bench.options.quick else [absurd("wait_for_signal"), dbos(jobs)]
    urls: dict[str, str] = {}
    for subject in (plain, *(subjects := [WaitingOverHttp(SIGNAL, "defaults"), *peers])):
        family.measurement(subject.name, MEDIAN).note = subject.note
        try:
            urls[subject.name] = await subject.prepare(bench)
        except SubjectUnavailable as reason:
            bench.skip(family, subject.name, MEDIAN, reason)
    for _ in bench.rounds():
        ping = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", "ping", str(jobs))
        variables = bench.jobfn_variables(DATABASE_URL=urls[PLAIN])
        _record(family, PLAIN, await measure_latencies(bench, plain, urls[PLAIN], ping, variables, jobs=jobs))
        for waiting in subjects:
            if waiting.name not in urls or family.measurement(waiting.name, MEDIAN).skip_reason is not None:
                continue
            try:
                _record(family, waiting.name, await _measure_signals(bench, waiting, urls[waiting.name], jobs))
            except BenchError as error:
                bench.fail(family, waiting.name, MEDIAN, error)
    family.compare("a signal, against a plain job", (SIGNAL, MEDIAN), [(PLAIN, MEDIAN)], at_most=2)
    return family


def _record(family: Family, name: str, latencies: list[float]) -> None:
    family.measurement(name, MEDIAN).rounds.append(statistics.median(latencies))
    family.measurement(name, P99).rounds.append(percentile(latencies, 0.99))


async def _measure_signals(bench: Bench, subject: Waiting, url: str, jobs: int) -> list[float]:
    """Return latencies in milliseconds."""
    await subject.fill(url, jobs)
    with timestamp_reader() as reader:
        async with subject.running(bench, url, every_job_variables(reader)) as processes:
            await _until_all_wait(subject, url, jobs, processes)
            await asyncio.sleep(IDLE_DELAY_SECONDS)
            command = subject.signal_command(bench, jobs)
            output = await run_command(f"{subject.name}: signal", command, subject.signal_variables(bench, url))
            sent = {int(number): int(ns) / 1e9 for number, ns in (line.split() for line in output.splitlines())}
            started = await wait_for_jobs(reader, processes, jobs)
    return [(started[number] - sent_at) * 1e3 for number, sent_at in sent.items() if number >= WARM_UP_JOBS]


async def _until_all_wait(subject: Waiting, url: str, jobs: int, processes: Sequence[BenchProcess]) -> None:
    deadline = time.monotonic() + HANDLED_TIMEOUT_SECONDS
    while await fetch_number(url, subject.waiting_sql) < jobs:
        if time.monotonic() > deadline:
            raise BenchError(f"{subject.name}: not all jobs wait after {HANDLED_TIMEOUT_SECONDS:g} s")
        for process in processes:
            process.check_running()
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
