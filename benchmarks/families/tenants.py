"""Family 16: latency of a small tenant's jobs beside a flood of another tenant's, and the rate of the flood."""

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from benchmarks.bench import Bench
from benchmarks.cluster import connect
from benchmarks.latencies import WARM_UP_JOBS, measure_latencies, percentile
from benchmarks.measurements import Family
from benchmarks.processes import BenchProcess
from benchmarks.subjects import JobfnOverHttp

USUAL_SECONDS = 35
PINGS = 80
#: More than run in a round.
FLOOD = 200_000
ADD_FLOOD = """
    insert into app_jobs.jobs (task_identifier, database_id)
    select 'quiet', '8a0f6a54-9a1d-4c8e-9d1c-3d1f0f2b7a11' from generate_series(1, $1::int)
"""
COUNT_FLOOD = "select count(*) from app_jobs.jobs where task_identifier = 'quiet'"
#: Time from the start of the processes to the first count: they run and have warmed up.
WARM_UP_SECONDS = 2.0
MEDIAN, P99, RATE = "ms, median", "ms, p99", "jobs/s of the flood"
ALONE, FLOODED = "a small tenant alone", "a small tenant beside a flood"


@dataclass
class Flooded(JobfnOverHttp):
    """A service with jobs of a large tenant.

    Attributes:
        flood: Number of its waiting jobs.
        rates: How many of them ended in each second, one for each round.
    """

    flood: int = 0
    rates: list[float] = field(default_factory=list)

    async def fill(self, url: str, jobs: int) -> int:
        await self.clear(url)
        async with connect(url) as connection:
            await connection.execute(ADD_FLOOD, self.flood)
            await connection.execute("vacuum analyze")
        await self.add(url, jobs)
        return jobs

    @contextlib.asynccontextmanager
    async def running(self, bench: Bench, url: str, variables: dict[str, str]) -> AsyncIterator[Sequence[BenchProcess]]:
        async with super().running(bench, url, variables) as processes, connect(url) as connection:
            counting = asyncio.create_task(self._count_later(url))
            yield processes
            counted_at, count = await counting
            self.rates.append((count - await connection.fetchval(COUNT_FLOOD)) / (time.monotonic() - counted_at))

    async def _count_later(self, url: str) -> tuple[float, int]:
        await asyncio.sleep(WARM_UP_SECONDS)
        async with connect(url) as connection:
            count = await connection.fetchval(COUNT_FLOOD)
        return time.monotonic(), count


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
            if subject.flood:
                family.measurement(subject.name, RATE).rounds.append(subject.rates[-1])
    family.compare("p99 beside a flood, against alone", (FLOODED, P99), [(ALONE, P99)])
    return family
