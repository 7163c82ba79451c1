"""Family 4: functions inside the worker process, against the libraries that always run them so."""

from benchmarks.bench import Bench
from benchmarks.drain import UNIT, Subject, drain_all
from benchmarks.figures import Family
from benchmarks.subjects import JobfnLocal, chancy, graphile, oban, pgqueuer, procrastinate


async def measure(bench: Bench) -> Family:
    """Family 4."""
    family = Family(4, "Local functions: drained by one worker process, no HTTP")
    jobs = bench.amount(20_000, 5000)
    seconds = 1.0 if bench.options.quick else 2.0
    pgqueuers = [pgqueuer(500), *([] if bench.options.quick else [pgqueuer(100), pgqueuer(1000)])]
    graphiles = [graphile(500), *([] if bench.options.quick else [graphile(0)])]
    slower: list[Subject] = [] if bench.options.quick else [procrastinate(), oban(), chancy()]
    subjects: list[Subject] = [JobfnLocal(), *pgqueuers, *graphiles, *slower]
    await drain_all(bench, family, [(subject, jobs, seconds) for subject in subjects])
    own = (JobfnLocal().name, UNIT)
    family.compare("against pgqueuer's best", own, [(peer.name, UNIT) for peer in pgqueuers], at_least=1)
    family.compare("against graphile-worker's best", own, [(peer.name, UNIT) for peer in graphiles])
    family.notes.append(f"{jobs} jobs waiting for each; those that take longer than {seconds:g} s are stopped then")
    return family
