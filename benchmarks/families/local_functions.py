"""Family 4: functions in the worker process, against libraries that always run them there."""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, Subject, drain_all
from benchmarks.measurements import Family
from benchmarks.peer_libraries import chancy, graphile, oban, pgqueuer, procrastinate
from benchmarks.subjects import JobfnLocal


async def measure(bench: Bench) -> Family:
    family = Family(4, "Local functions: one worker process, no HTTP")
    jobs = bench.job_count(20_000, quick=5000)
    quick = bench.options.quick
    max_seconds = 1.0 if quick else 2.0
    pgqueuers = [pgqueuer(500)] if quick else [pgqueuer(500), pgqueuer(100), pgqueuer(1000)]
    graphiles = [graphile(500)] if quick else [graphile(500), graphile(0)]
    slower: list[Subject] = [] if quick else [procrastinate(), oban(), chancy()]
    subjects: list[Subject] = [JobfnLocal(), *pgqueuers, *graphiles, *slower]
    await drain_all(bench, family, [(subject, jobs, max_seconds) for subject in subjects])
    jobfn = (JobfnLocal().name, RATE_UNIT)
    family.compare("against pgqueuer's best", jobfn, [(peer.name, RATE_UNIT) for peer in pgqueuers], at_least=1)
    family.compare("against graphile-worker's best", jobfn, [(peer.name, RATE_UNIT) for peer in graphiles])
    family.notes.append(f"{jobs:,} waiting jobs each; a subject that takes longer than {max_seconds:g} s is stopped")
    return family
