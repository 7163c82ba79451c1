"""Family 2: from row to report over HTTP, against the platform's Node stack and against HTTP alone.

One worker process, one function process; reports and responses are real. The HTTP limit is the same two processes
exchanging the same requests, on a store that makes jobs out of nothing and forgets them: what is missing from it to
the whole path is what the database costs.
"""

from benchmarks.bench import Bench
from benchmarks.drain import UNIT, Subject, drain_all
from benchmarks.figures import Family
from benchmarks.subjects import JobfnOverHttp, NodeStack

DEFAULT, LIMIT = "jobfn", "the HTTP limit: no database"
NO_HISTORY = "jobfn, JOBS_HISTORY_DAYS=0"
NODE = NodeStack().name
SECONDS = 20.0


async def measure(bench: Bench) -> Family:
    """Family 2."""
    family = Family(2, "Whole path over HTTP: claim, POST, handler, report, settle")
    jobs = bench.amount(20000, 2000)
    subjects: list[tuple[Subject, int, float]] = [
        (JobfnOverHttp(DEFAULT, f"concurrency {bench.options.concurrency}"), jobs, SECONDS),
        (JobfnOverHttp(LIMIT, no_database=True), jobs, SECONDS),
        (JobfnOverHttp(NO_HISTORY, service={"JOBS_HISTORY_DAYS": "0"}, needs="JOBS_HISTORY_DAYS"), jobs, SECONDS),
        (NodeStack(), jobs, 3.0 if not bench.options.quick else 1.5),
    ]
    await drain_all(bench, family, subjects)
    family.compare("against the platform's Node stack", (DEFAULT, UNIT), [(NODE, UNIT)], at_least=8)
    family.compare("against the HTTP limit", (DEFAULT, UNIT), [(LIMIT, UNIT)], at_least=0.6)
    family.compare("what history costs: default over JOBS_HISTORY_DAYS=0", (DEFAULT, UNIT), [(NO_HISTORY, UNIT)])
    family.notes.append(f"{jobs} jobs waiting; the Node stack is measured for some seconds of them")
    return family
