"""Family 5: latency. From a job's commit to its handler's start in an idle worker; and how late a delayed job starts.

jobfn goes over HTTP: worker, POST, function. The peers run the handler in their worker.
"""

import sys
import time
from dataclasses import dataclass, field

from benchmarks.bench import Bench, marks_file
from benchmarks.cluster import connected
from benchmarks.drain import Subject
from benchmarks.errors import BenchError, NotMeasured
from benchmarks.figures import Family
from benchmarks.latencies import latencies, marking_each, middle, percentile, until_marked
from benchmarks.subjects import JobfnLocal, JobfnOverHttp, Peer, chancy, graphile, oban, pgqueuer, procrastinate

JOBFN = "jobfn, over HTTP"
MEDIAN, P99, LATE, LATEST = "ms, median", "ms, p99", "ms after run_at, median", "ms after run_at, latest"
#: Delayed jobs start so long after they were added, one after the other.
FIRST_AFTER_SECONDS, STEP_SECONDS = 1.5, 0.037


@dataclass
class Pinged:
    """A subject, how its jobs are enqueued, and where."""

    subject: Subject
    url: str
    command: list[str]
    variables: dict[str, str] = field(default_factory=dict)


async def measure(bench: Bench) -> Family:
    """Family 5."""
    family = Family(5, "Latency: from commit to handler start, idle worker")
    jobs = bench.amount(90, 40)
    subjects: list[Subject] = [JobfnOverHttp(JOBFN), procrastinate(), JobfnLocal()]
    if not bench.options.quick:
        subjects += [pgqueuer(10), oban(), graphile(0), chancy()]
    ready = [found for subject in subjects if (found := await _ready(bench, family, subject, jobs)) is not None]
    for number in bench.rounds(family):
        for pinged in bench.in_order(ready, number):
            await _round(bench, family, pinged, number, jobs)
    await _delayed(bench, family, bench.amount(60, 25))
    family.compare("median, against procrastinate", (JOBFN, MEDIAN), [("procrastinate", MEDIAN)], at_most=1.3)
    family.bound("p99 over HTTP", (JOBFN, P99), at_most=25)
    family.bound("a delayed job's start, the latest of a round", (JOBFN, LATEST), at_most=50)
    family.notes.append(
        f"{jobs} jobs a round, one at a time, some 35 ms apart; the clock starts when the commit is sent"
    )
    return family


async def _ready(bench: Bench, family: Family, subject: Subject, jobs: int) -> Pinged | None:
    if not bench.wants(subject.name):
        return None
    try:
        url = await subject.prepare(bench)
    except NotMeasured as reason:
        family.missing(subject.name, MEDIAN, str(reason))
        bench.say(f"  {subject.name}: not measured: {reason}")
        return None
    if isinstance(subject, Peer):
        return Pinged(subject, url, subject.pinging(jobs), subject.variables(url))
    return Pinged(subject, url, [sys.executable, "-m", "benchmarks.peers.jobfn_ping", str(jobs)], {"DATABASE_URL": url})


async def _round(bench: Bench, family: Family, pinged: Pinged, number: int, jobs: int) -> None:
    name = pinged.subject.name
    figures = family.figure(name, MEDIAN), family.figure(name, P99)
    if figures[0].missing is not None:
        return
    try:
        found = await latencies(bench, pinged.subject, pinged.url, pinged.command, pinged.variables, jobs=jobs)
    except BenchError as error:
        for figure in figures:
            figure.rounds.clear()
            figure.missing = f"it failed: {str(error).strip().splitlines()[-1]}"
        bench.say(f"  {name}: {figures[0].missing}")
        return
    for figure, value in zip(figures, (middle(found), percentile(found, 0.99)), strict=True):
        figure.rounds.append(value)
    bench.say(f"  round {number}: {name}: median {middle(found):.1f} ms, p99 {percentile(found, 0.99):.1f} ms")


async def _delayed(bench: Bench, family: Family, jobs: int) -> None:
    """How late delayed jobs start. jobfn only: the peers poll for theirs."""
    subject = JobfnOverHttp(JOBFN)
    if not bench.wants(subject.name):
        return
    url = await subject.prepare(bench)
    for number in bench.rounds(family):
        await subject.fill(url, 1)
        with (
            marks_file() as path,
            subject.running(bench, url, marking_each(path)) as programs,
        ):
            await until_marked(path, programs, 1)
            due = time.time() + FIRST_AFTER_SECONDS
            monotonic = time.monotonic() - time.time()  # marks are on the monotonic clock
            add = (
                "select app_jobs.add_job('noop', json_build_object('n', n), "
                "run_at := to_timestamp($1 + n * $2::float8)) from generate_series(0, $3::int - 1) n"
            )
            async with connected(url) as connection:
                await connection.execute(add, due, STEP_SECONDS, jobs)
            ran = await until_marked(path, programs, jobs, after=1)
        late = [(ran[n] - monotonic - (due + n * STEP_SECONDS)) * 1e3 for n in range(jobs)]
        family.figure(JOBFN, LATE).rounds.append(middle(late))
        family.figure(JOBFN, LATEST).rounds.append(max(late))
        bench.say(f"  round {number}: delayed jobs: median {middle(late):.1f} ms late, the latest {max(late):.1f} ms")
