"""Family 3: fewer exchanges: reports that travel together, and no reports at all, where both sides are jobfn."""

from benchmarks.bench import Bench
from benchmarks.drain import UNIT, drain_all
from benchmarks.figures import Family
from benchmarks.subjects import JobfnOverHttp

DEFAULT, RESPONSE, SINGLE = "jobfn", "jobfn, JOBS_SETTLE_ON=response", "jobfn, JOBS_CALLBACK_BATCH=false"
SECONDS = 20.0


async def measure(bench: Bench) -> Family:
    """Family 3."""
    family = Family(3, "Fewer exchanges: reports together, or none")
    jobs = bench.amount(20000, 2000)
    subjects = [
        (JobfnOverHttp(DEFAULT, f"concurrency {bench.options.concurrency}"), jobs, SECONDS),
        (JobfnOverHttp(RESPONSE, service={"JOBS_SETTLE_ON": "response"}, needs="JOBS_SETTLE_ON"), jobs, SECONDS),
        (JobfnOverHttp(SINGLE, service={"JOBS_CALLBACK_BATCH": "false"}, needs="JOBS_CALLBACK_BATCH"), jobs, SECONDS),
    ]
    await drain_all(bench, family, subjects)
    family.compare("JOBS_SETTLE_ON=response against the default", (RESPONSE, UNIT), [(DEFAULT, UNIT)], at_least=1.6)
    family.compare("the default against reports one by one", (DEFAULT, UNIT), [(SINGLE, UNIT)])
    family.notes.append(f"{jobs} jobs waiting, concurrency {bench.options.concurrency}")
    return family
