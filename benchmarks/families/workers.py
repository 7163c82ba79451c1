"""Family 9: one, two and four workers on one database, each with a function process.

Contention would show as CPU per job, PostgreSQL's included, which grows with the number of workers.
"""

import os

from benchmarks.bench import Bench
from benchmarks.drain import RATE_UNIT, TOTAL_CPU_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.subjects import Workers

USUAL_SECONDS = 65
ONE = Workers("jobfn, 1 worker", "defaults", count=1)
SEVERAL = [Workers("jobfn, 2 workers", "defaults", count=2), Workers("jobfn, 4 workers", "defaults", count=4)]


async def measure(bench: Bench) -> Family:
    family = Family(9, "Workers: several on one database, each with a function process")
    await drain_all(bench, family, [ONE, *SEVERAL], with_server_cpu=True)
    for subject in SEVERAL:
        cpu, one_cpu = (subject.name, TOTAL_CPU_UNIT), (ONE.name, TOTAL_CPU_UNIT)
        family.compare(f"total CPU per job, {subject.count} workers against 1", cpu, [one_cpu], at_most=1.1)
    for subject in SEVERAL:
        rate, one_rate = (subject.name, RATE_UNIT), (ONE.name, RATE_UNIT)
        family.compare(f"rate, {subject.count} workers against 1", rate, [one_rate])
    family.notes.append(f"{os.cpu_count()} cores for workers, functions and PostgreSQL")
    return family
