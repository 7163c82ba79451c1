"""Family 3: fewer exchanges where worker and function are both jobfn: the response settles the job, no report."""

from benchmarks.bench import Bench
from benchmarks.drains import UNIT, drain_all
from benchmarks.figures import Family
from benchmarks.subjects import JobfnOverHttp

DEFAULT, RESPONSE = "jobfn", "jobfn, JOBS_SETTLE=response"
SECONDS = 20.0


async def measure(bench: Bench) -> Family:
    """Family 3."""
    family = Family(3, "Fewer exchanges: the response settles the job")
    jobs = bench.amount(8000, 2000)
    subjects = [
        (JobfnOverHttp(DEFAULT, f"concurrency {bench.options.concurrency}"), jobs, SECONDS),
        (JobfnOverHttp(RESPONSE, service={"JOBS_SETTLE": "response"}, needs="JOBS_SETTLE"), jobs, SECONDS),
    ]
    await drain_all(bench, family, subjects)
    family.compare("against the default", (RESPONSE, UNIT), [(DEFAULT, UNIT)], at_least=1.6)
    family.notes.append(f"{jobs} jobs waiting, concurrency {bench.options.concurrency}")
    return family
