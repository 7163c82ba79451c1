"""Family 3: fewer requests, with reports in batches or without reports."""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.subjects import JobfnOverHttp

DEFAULT, RESPONSE, SINGLE = "jobfn", "jobfn, JOBS_SETTLE_ON=response", "jobfn, JOBS_CALLBACK_BATCH=false"
#: JOBS_SETTLE is the name of JOBS_SETTLE_ON in older source trees (``--source``).
RESPONSE_VARIABLES = {"JOBS_SETTLE_ON": "response", "JOBS_SETTLE": "response"}
MAX_SECONDS = 20.0


async def measure(bench: Bench) -> Family:
    family = Family(3, "Fewer requests: reports in batches, or none")
    jobs = bench.job_count(20_000, quick=2000)
    subjects = (
        JobfnOverHttp(DEFAULT, f"JOBS_CONCURRENCY={bench.options.concurrency}"),
        JobfnOverHttp(RESPONSE, variables=RESPONSE_VARIABLES),
        JobfnOverHttp(SINGLE, variables={"JOBS_CALLBACK_BATCH": "false"}),
    )
    await drain_all(bench, family, [(subject, jobs, MAX_SECONDS) for subject in subjects])
    default = (DEFAULT, RATE_UNIT)
    family.compare("JOBS_SETTLE_ON=response against the default", (RESPONSE, RATE_UNIT), [default], at_least=1.6)
    family.compare("the default against single reports", default, [(SINGLE, RATE_UNIT)])
    family.notes.append(f"{jobs:,} waiting jobs")
    return family
