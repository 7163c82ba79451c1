"""Family 4: functions in the worker process with jobfn's defaults, against libraries that always run them there.

Peers run with their best published settings.
"""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.peer_libraries import graphile, oban, pgqueuer, procrastinate
from benchmarks.subjects import JobfnLocal

USUAL_SECONDS = 60


async def measure(bench: Bench) -> Family:
    family = Family(4, "Local functions: one worker process, no HTTP")
    jobfn, graphiles, pgqueuers = JobfnLocal(), [graphile(), graphile(0)], [pgqueuer(), pgqueuer(1000)]
    optional = [pgqueuers[1], graphiles[1], procrastinate(), oban()]
    await drain_all(bench, family, [jobfn, graphiles[0], pgqueuers[0]], optional=optional)
    rate = (jobfn.name, RATE_UNIT)
    family.compare("against graphile-worker's best", rate, [(each.name, RATE_UNIT) for each in graphiles], at_least=1.1)
    family.compare("against pgqueuer's best", rate, [(each.name, RATE_UNIT) for each in pgqueuers], at_least=1)
    return family
