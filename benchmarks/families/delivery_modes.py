"""Family 3: how jobs are delivered and settled: the defaults, settlement by reports, one job per request."""

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.subjects import JobfnOverHttp

USUAL_SECONDS = 40
DEFAULT = JobfnOverHttp("jobfn", "defaults")
REPORT = JobfnOverHttp("jobfn, JOBS_SETTLE_ON=report", variables={"JOBS_SETTLE_ON": "report"})
SINGLE = JobfnOverHttp("jobfn, JOBS_DELIVERY_BATCH=false", variables={"JOBS_DELIVERY_BATCH": "false"})


async def measure(bench: Bench) -> Family:
    family = Family(3, "Delivery modes: settlement by response or report, many jobs or one in a request")
    await drain_all(bench, family, [DEFAULT, REPORT, SINGLE])
    default = (DEFAULT.name, RATE_UNIT)
    for subject in (REPORT, SINGLE):
        name = f"the defaults against {subject.name.removeprefix('jobfn, ')}"
        family.compare(name, default, [(subject.name, RATE_UNIT)])
    return family
