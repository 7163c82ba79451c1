"""Family 2: the whole path over HTTP, against the platform's Node stack and against HTTP alone.

One worker process, one function process, real reports and responses. The HTTP limit is the same two processes and the
same requests on a store in memory. The difference to the whole path is the cost of the database.
"""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, Subject, drain_all
from benchmarks.measurements import Family
from benchmarks.subjects import JobfnOverHttp, NodeStack

DEFAULT, HTTP_LIMIT, NO_HISTORY = "jobfn", "the HTTP limit: no database", "jobfn, JOBS_HISTORY_DAYS=0"
NODE = NodeStack().name
MAX_SECONDS = 20.0


async def measure(bench: Bench) -> Family:
    family = Family(2, "Whole path over HTTP: claim, POST, handler, report, settle")
    jobs = bench.job_count(20_000, quick=2000)
    subjects: list[tuple[Subject, int, float]] = [
        (JobfnOverHttp(DEFAULT, f"JOBS_CONCURRENCY={bench.options.concurrency}"), jobs, MAX_SECONDS),
        (JobfnOverHttp(HTTP_LIMIT, no_database=True), jobs, MAX_SECONDS),
        (JobfnOverHttp(NO_HISTORY, variables={"JOBS_HISTORY_DAYS": "0"}), jobs, MAX_SECONDS),
        (NodeStack(), jobs, 1.5 if bench.options.quick else 3.0),
    ]
    await drain_all(bench, family, subjects)
    jobfn = (DEFAULT, RATE_UNIT)
    family.compare("against the platform's Node stack", jobfn, [(NODE, RATE_UNIT)], at_least=8)
    family.compare("against the HTTP limit", jobfn, [(HTTP_LIMIT, RATE_UNIT)], at_least=0.6)
    family.compare("cost of history: the default against JOBS_HISTORY_DAYS=0", jobfn, [(NO_HISTORY, RATE_UNIT)])
    family.notes.append(f"{jobs:,} waiting jobs; the Node stack runs for some seconds")
    return family
