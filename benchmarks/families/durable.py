"""Family 12: durable functions: runs of three trivial steps, against libraries that run them in their own process.

Peers run with the settings at which they did best.
"""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.durable_subjects import StepsLocal, StepsOverHttp, absurd, dbos
from benchmarks.measurements import Family

USUAL_SECONDS = 70
OVER_HTTP, LOCAL = "jobfn, steps over HTTP", "jobfn, steps of local functions"


async def measure(bench: Bench) -> Family:
    family = Family(12, "Durable functions: runs of three trivial steps")
    peers = [absurd(), dbos()]
    local = StepsLocal(LOCAL, "defaults, jobfn service --local")
    await drain_all(bench, family, [StepsOverHttp(OVER_HTTP, "defaults"), local, *peers])
    others = [(peer.name, RATE_UNIT) for peer in peers]
    family.compare("steps over HTTP, against the best peer in-process", (OVER_HTTP, RATE_UNIT), others, at_least=3)
    family.compare("steps of local functions, against the best peer", (LOCAL, RATE_UNIT), others, at_least=3)
    return family
