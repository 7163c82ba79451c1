"""Family 4: functions in the worker process with jobfn's defaults, against libraries that always run them there.

Peers run with their best published settings. The same worker on a store in memory shows the limit.
"""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, Subject, drain_all
from benchmarks.measurements import Family
from benchmarks.peer_libraries import graphile, oban, pgqueuer, procrastinate
from benchmarks.subjects import JobfnLocal, LocalLimit

USUAL_SECONDS = 70


async def measure(bench: Bench) -> Family:
    family = Family(4, "Local functions: one worker process, no HTTP")
    jobfn, graphiles, pgqueuers = JobfnLocal(), [graphile(), graphile(0)], [pgqueuer(), pgqueuer(1000)]
    limit = LocalLimit()
    optional: list[Subject] = [pgqueuers[1], limit, graphiles[1], procrastinate(), oban()]
    await drain_all(bench, family, [jobfn, graphiles[0], pgqueuers[0]], optional=optional)
    rate = (jobfn.name, RATE_UNIT)
    graphile_rates = [(each.name, RATE_UNIT) for each in graphiles]
    family.compare("against graphile-worker's best, on Node", rate, graphile_rates, at_least=1.1)
    family.compare("against pgqueuer's best", rate, [(each.name, RATE_UNIT) for each in pgqueuers], at_least=1)
    family.compare("against the limit: no database", rate, [(limit.name, RATE_UNIT)])
    return family
