"""Family 5: latency from a job's commit to its handler's start in an idle worker, and delay of delayed jobs.

jobfn goes over HTTP: worker, POST, function. The peers run the handler in their worker.
"""

import statistics
import time
from dataclasses import dataclass, field

from benchmarks.bench import Bench, timestamp_reader
from benchmarks.cluster import connect
from benchmarks.drain import CUT, Subject
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.latencies import WARM_UP_JOBS, every_job_variables, measure_latencies, percentile, wait_for_jobs
from benchmarks.measurements import Family
from benchmarks.peer_libraries import Peer, graphile, oban, pgqueuer, procrastinate
from benchmarks.sizing import count_fitting
from benchmarks.subjects import JobfnLocal, JobfnOverHttp

USUAL_SECONDS = 90
JOBFN = "jobfn over HTTP"
PINGS, DELAYED_JOBS = 70, 40
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
    jobs = PINGS + WARM_UP_JOBS
    required: list[Subject] = [JobfnOverHttp(JOBFN, "defaults"), graphile(0)]
    optional: list[Subject] = [procrastinate(), JobfnLocal(), pgqueuer(10), oban()]
    subjects = [*required, *([] if bench.options.quick else optional)]
    prepared = [each for subject in subjects if (each := await _prepare(bench, family, subject, jobs)) is not None]
    await _measure_delayed_jobs(bench, family)
    costs: list[float] = []
    for number in bench.rounds():
        for each in bench.round_order(prepared, number):
            started_at = time.monotonic()
            await _run_round(bench, family, each, number, jobs)
            costs.append((time.monotonic() - started_at) * (bench.options.rounds - 1))
        if number == 1:
            prepared = _cut(bench, family, prepared, costs, required=len(required))
    family.compare(
        "median over HTTP, against graphile-worker in-process, on Node",
        (JOBFN, MEDIAN),
        [(graphile(0).name, MEDIAN)],
        at_most=1.1,
    )
    family.compare(
        "median over HTTP, against procrastinate in-process", (JOBFN, MEDIAN), [("procrastinate", MEDIAN)], at_most=1.3
    )
    family.add_target("p99 over HTTP", (JOBFN, P99), at_most=25)
    family.add_target("latest start of a delayed job", (JOBFN, DELAY_MAX), at_most=50)
    family.notes.append(
        f"{jobs} jobs per round, one at a time, about 35 ms apart; the clock starts when the commit is sent"
    )
    return family


def _cut(
    bench: Bench, family: Family, prepared: list[PreparedSubject], costs: list[float], *, required: int
) -> list[PreparedSubject]:
    """Return the subjects for which the time suffices."""
    count = count_fitting(costs, seconds=bench.family_seconds_left, required=min(required, len(prepared)))
    for each in prepared[count:]:
        bench.skip(family, each.subject.name, MEDIAN, CUT)
    return prepared[:count]


async def _prepare(bench: Bench, family: Family, subject: Subject, jobs: int) -> PreparedSubject | None:
    if not bench.includes(subject.name):
        return None
    try:
        url = await subject.prepare(bench)
    except SubjectUnavailable as reason:
        bench.skip(family, subject.name, MEDIAN, reason)
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
        bench.fail(family, name, MEDIAN, error)
        return
    medians.rounds.append(statistics.median(latencies))
    p99s.rounds.append(percentile(latencies, 0.99))
    bench.log(f"  round {number}: {name}: median {medians.rounds[-1]:.1f} ms, p99 {p99s.rounds[-1]:.1f} ms")


async def _measure_delayed_jobs(bench: Bench, family: Family) -> None:
    """Measure how late delayed jobs start. Only jobfn, because the peers poll for theirs."""
    subject = JobfnOverHttp(JOBFN)
    if not bench.includes(subject.name):
        return
    url = await subject.prepare(bench)
    for number in bench.rounds():
        await subject.fill(url, 1)
        with timestamp_reader() as reader:
            async with subject.running(bench, url, every_job_variables(reader)) as processes:
                await wait_for_jobs(reader, processes, 1)
                first_due = time.time() + FIRST_DELAY_SECONDS
                to_monotonic = time.monotonic() - time.time()
                async with connect(url) as connection:
                    await connection.execute(ADD_DELAYED_JOBS, first_due, DELAY_STEP_SECONDS, DELAYED_JOBS)
                started = await wait_for_jobs(reader, processes, DELAYED_JOBS, skip=1)
        due = [first_due + n * DELAY_STEP_SECONDS + to_monotonic for n in range(DELAYED_JOBS)]
        delays = [(started[n] - due[n]) * 1e3 for n in range(DELAYED_JOBS)]
        family.measurement(JOBFN, DELAY_MEDIAN).rounds.append(statistics.median(delays))
        family.measurement(JOBFN, DELAY_MAX).rounds.append(max(delays))
        bench.log(f"  round {number}: delayed jobs: at most {max(delays):.1f} ms late")
