"""Family 16: latency of a small tenant's jobs while another tenant has a flood of jobs waiting."""

import statistics
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.cluster import connect
from benchmarks.latencies import WARM_UP_JOBS, measure_latencies, percentile
from benchmarks.measurements import Family
from benchmarks.subjects import JobfnOverHttp

USUAL_SECONDS = 35
PINGS = 80
#: More than run in a round.
FLOOD = 200_000
ADD_FLOOD = """
    insert into app_jobs.jobs (task_identifier, database_id)
    select 'quiet', '8a0f6a54-9a1d-4c8e-9d1c-3d1f0f2b7a11' from generate_series(1, $1::int)
"""
MEDIAN, P99 = "ms, median", "ms, p99"
ALONE, FLOODED = "a small tenant alone", "a small tenant beside a flood"


@dataclass
class Flooded(JobfnOverHttp):
    """A service with jobs of a large tenant.

    Attributes:
        flood: Number of its waiting jobs.
    """

    flood: int = 0

    async def fill(self, url: str, jobs: int) -> int:
        await self.clear(url)
        async with connect(url) as connection:
            await connection.execute(ADD_FLOOD, self.flood)
            await connection.execute("vacuum analyze")
        await self.add(url, jobs)
        return jobs


async def measure(bench: Bench) -> Family:
    family = Family(16, "Tenants: latency of a small tenant beside a flood")
    jobs = PINGS + WARM_UP_JOBS
    subjects = [Flooded(ALONE, "defaults"), Flooded(FLOODED, f"{FLOOD:,} waiting jobs of another", flood=FLOOD)]
    urls = {subject.name: await subject.prepare(bench) for subject in subjects}
    for number in bench.rounds():
        for subject in bench.round_order(subjects, number):
            url = urls[subject.name]
            command = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", "tenant", str(jobs))
            variables = bench.jobfn_variables(DATABASE_URL=url)
            latencies = await measure_latencies(bench, subject, url, command, variables, jobs=jobs)
            family.measurement(subject.name, MEDIAN).note = subject.note
            family.measurement(subject.name, MEDIAN).rounds.append(statistics.median(latencies))
            family.measurement(subject.name, P99).rounds.append(percentile(latencies, 0.99))
    family.compare("p99 beside a flood, against alone", (FLOODED, P99), [(ALONE, P99)])
    return family
