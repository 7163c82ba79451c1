"""Family 12: durable functions: runs of three trivial steps, against libraries that run them in their own process.

Peers run with the settings at which they did best.
"""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.durable_subjects import StepsLocal, StepsOverHttp, absurd, dbos
from benchmarks.measurements import Family

USUAL_SECONDS = 65
OVER_HTTP, TUNED, LOCAL = "jobfn, steps over HTTP", "jobfn, steps over HTTP, tuned", "jobfn, steps of local functions"
#: A durable handler mostly waits for the commits of its steps. docs/durable.md recommends it for many short runs.
CONCURRENCY = {"JOBS_CONCURRENCY": "64"}


async def measure(bench: Bench) -> Family:
    family = Family(12, "Durable functions: runs of three trivial steps")
    peers = [absurd(), dbos()]
    over_http = StepsOverHttp(OVER_HTTP, "defaults")
    tuned = StepsOverHttp(TUNED, "tuned: JOBS_CONCURRENCY=64", variables=CONCURRENCY)
    local = StepsLocal(LOCAL, "defaults, jobfn service --local")
    await drain_all(bench, family, [over_http, tuned, local, *peers])
    others = [(peer.name, RATE_UNIT) for peer in peers]
    family.compare("steps over HTTP, against the best peer in-process", (OVER_HTTP, RATE_UNIT), others)
    family.compare("steps over HTTP, tuned, against the best peer in-process", (TUNED, RATE_UNIT), others, at_least=3)
    family.compare("steps of local functions, against the best peer", (LOCAL, RATE_UNIT), others, at_least=3)
    return family
