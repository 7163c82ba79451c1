"""Family 5: latency from a job's commit to its handler's start in an idle worker, and delay of delayed jobs.

jobfn goes over HTTP: worker, POST, function. The peers run the handler in their worker.
"""

import statistics
import time
from dataclasses import dataclass, field

from benchmarks.bench import Bench, timestamp_file
from benchmarks.cluster import connect
from benchmarks.drain import Subject
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.latencies import WARM_UP_JOBS, every_job_variables, measure_latencies, percentile, wait_for_jobs
from benchmarks.measurements import Family
from benchmarks.peer_libraries import Peer, chancy, graphile, oban, pgqueuer, procrastinate
from benchmarks.subjects import JobfnLocal, JobfnOverHttp

JOBFN = "jobfn, over HTTP"
MEDIAN, P99 = "ms, median", "ms, p99"
DELAY_MEDIAN, DELAY_MAX = "ms after run_at, median", "ms after run_at, latest"
#: Delayed jobs are due this long after they are added, one after the other.
FIRST_DELAY_SECONDS, DELAY_STEP_SECONDS = 1.5, 0.037
ADD_DELAYED_JOBS = """
    select app_jobs.add_job('noop', json_build_object('n', n), run_at := to_timestamp($1 + n * $2::float8))
    from generate_series(0, $3::int - 1) n
"""


@dataclass
class PreparedSubject:
    """A subject with its database and the command that enqueues its jobs."""

    subject: Subject
    url: str
    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)


async def measure(bench: Bench) -> Family:
    family = Family(5, "Latency: from commit to handler start, idle worker")
    jobs = bench.job_count(82, quick=32) + WARM_UP_JOBS
    subjects: list[Subject] = [JobfnOverHttp(JOBFN), procrastinate(), JobfnLocal()]
    if not bench.options.quick:
        subjects += [pgqueuer(10), oban(), graphile(0), chancy()]
    prepared = [each for subject in subjects if (each := await _prepare(bench, family, subject, jobs)) is not None]
    for number in bench.rounds(family):
        for each in bench.round_order(prepared, number):
            await _run_round(bench, family, each, number, jobs)
    await _measure_delayed_jobs(bench, family, bench.job_count(60, quick=25))
    family.compare("median, against procrastinate", (JOBFN, MEDIAN), [("procrastinate", MEDIAN)], at_most=1.3)
    family.add_target("p99 over HTTP", (JOBFN, P99), at_most=25)
    family.add_target("latest start of a delayed job", (JOBFN, DELAY_MAX), at_most=50)
    family.notes.append(
        f"{jobs} jobs per round, one at a time, about 35 ms apart; the clock starts when the commit is sent"
    )
    return family


async def _prepare(bench: Bench, family: Family, subject: Subject, jobs: int) -> PreparedSubject | None:
    if not bench.includes(subject.name):
        return None
    try:
        url = await subject.prepare(bench)
    except SubjectUnavailable as reason:
        family.skip(subject.name, MEDIAN, str(reason))
        bench.log_skipped(subject.name, reason)
        return None
    if isinstance(subject, Peer):
        return PreparedSubject(subject, url, subject.ping_command(jobs), subject.variables(url))
    command = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", "ping", str(jobs))
    return PreparedSubject(subject, url, command, bench.jobfn_variables(DATABASE_URL=url))


async def _run_round(bench: Bench, family: Family, prepared: PreparedSubject, number: int, jobs: int) -> None:
    name = prepared.subject.name
    medians, p99s = family.measurement(name, MEDIAN), family.measurement(name, P99)
    if medians.skip_reason is not None:
        return
    try:
        latencies = await measure_latencies(
            bench, prepared.subject, prepared.url, prepared.command, prepared.variables, jobs=jobs
        )
    except BenchError as error:
        medians.fail(error)
        p99s.fail(error)
        bench.log_skipped(name, medians.skip_reason)
        return
    medians.rounds.append(statistics.median(latencies))
    p99s.rounds.append(percentile(latencies, 0.99))
    bench.log(f"  round {number}: {name}: median {medians.rounds[-1]:.1f} ms, p99 {p99s.rounds[-1]:.1f} ms")


async def _measure_delayed_jobs(bench: Bench, family: Family, jobs: int) -> None:
    """Measure how late delayed jobs start. Only jobfn, because the peers poll for theirs."""
    subject = JobfnOverHttp(JOBFN)
    if not bench.includes(subject.name):
        return
    url = await subject.prepare(bench)
    for number in bench.rounds(family):
        await subject.fill(url, 1)
        with timestamp_file() as path:
            async with subject.running(bench, url, every_job_variables(path)) as processes:
                await wait_for_jobs(path, processes, 1)
                first_due = time.time() + FIRST_DELAY_SECONDS
                to_monotonic = time.monotonic() - time.time()
                async with connect(url) as connection:
                    await connection.execute(ADD_DELAYED_JOBS, first_due, DELAY_STEP_SECONDS, jobs)
                started = await wait_for_jobs(path, processes, jobs, skip=1)
        delays = [(started[n] - to_monotonic - (first_due + n * DELAY_STEP_SECONDS)) * 1e3 for n in range(jobs)]
        family.measurement(JOBFN, DELAY_MEDIAN).rounds.append(statistics.median(delays))
        family.measurement(JOBFN, DELAY_MAX).rounds.append(max(delays))
        bench.log(f"  round {number}: delayed jobs: at most {max(delays):.1f} ms late")
