"""Family 2: the whole path over HTTP with the defaults, against the platform's Node stack and against no HTTP.

One worker process, one function process. Two more subjects show the limits: the same tasks in the worker's process,
without HTTP, and the same two processes on a store in memory, without a database.
"""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.subjects import HttpLimit, JobfnLocal, JobfnOverHttp, NodeStack

USUAL_SECONDS = 80
DEFAULT, LOCAL = JobfnOverHttp("jobfn over HTTP", "defaults"), JobfnLocal()
HTTP_LIMIT = HttpLimit("the HTTP limit: no database", "defaults")
TUNED = JobfnOverHttp("jobfn over HTTP, tuned", "tuned: JOBS_CONCURRENCY=256", variables={"JOBS_CONCURRENCY": "256"})


async def measure(bench: Bench) -> Family:
    family = Family(2, "Whole path over HTTP: claim, deliver, handle, settle")
    node = NodeStack()
    await drain_all(bench, family, [DEFAULT, LOCAL, node], optional=[HTTP_LIMIT, TUNED])
    default = (DEFAULT.name, RATE_UNIT)
    family.compare(
        "against the platform's Node stack (its own server and client, on Node)",
        default,
        [(node.name, RATE_UNIT)],
        at_least=40,
    )
    family.compare("against the same tasks in-process (`--local`)", default, [(LOCAL.name, RATE_UNIT)], at_least=0.5)
    family.compare("against the HTTP limit", default, [(HTTP_LIMIT.name, RATE_UNIT)])
    family.compare("the defaults against JOBS_CONCURRENCY=256", default, [(TUNED.name, RATE_UNIT)])
    return family
