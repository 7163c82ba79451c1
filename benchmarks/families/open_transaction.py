"""Family 11: the whole path while a transaction stays open for as long as 500,000 jobs take to run.

The transaction's snapshot holds vacuum back: rows of completed jobs and their index entries stay. Two databases run the
same jobs, one with such a transaction and one without. The first jobs are claimed and settled by jobfn's store alone,
because that is faster. Then the whole path is measured on both in turn, while the transaction is still open.
"""

from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.cluster import connect, fetch_number
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.families.backlog import run_churn
from benchmarks.measurements import Family
from benchmarks.statements import COUNT_READY, TABLE_SIZE
from benchmarks.subjects import JobfnOverHttp

USUAL_SECONDS = 70
JOBS = 500_000
#: Maximum part of the family's time for the first jobs of a database.
CHURN_TIME_FRACTION = 0.3
WITH, WITHOUT = "jobfn, a transaction open", "jobfn, no transaction open"


@dataclass
class Aged(JobfnOverHttp):
    """jobfn over HTTP on a table that is neither truncated nor vacuumed by the benchmark.

    Attributes:
        url: Its database.
    """

    url: str = ""

    async def prepare(self, bench: Bench) -> str:  # noqa: ARG002
        return self.url

    async def fill(self, url: str, jobs: int) -> int:
        left = await fetch_number(url, COUNT_READY)
        await self.add(url, max(0, jobs - left))
        return max(jobs, left)


async def measure(bench: Bench) -> Family:
    family = Family(11, "Open transaction: the whole path while it holds vacuum back")
    url_with = await bench.create_migrated_database("jobfn_open_transaction")
    url_without = await bench.create_migrated_database("jobfn_no_transaction")
    max_seconds = CHURN_TIME_FRACTION * bench.family_seconds_left
    async with connect(url_with) as connection:
        await connection.execute("begin isolation level repeatable read")
        await connection.execute("select count(*) from app_jobs.jobs")  # takes the snapshot
        jobs = (await run_churn(bench, url_with, JOBS, max_seconds))[-1]["jobs"]
        await run_churn(bench, url_without, jobs, max_seconds)
        subjects = [Aged(WITH, "defaults", url=url_with), Aged(WITHOUT, "defaults", url=url_without)]
        await drain_all(bench, family, subjects)
    family.compare(
        f"rate after {jobs:,} jobs with a transaction open all the time, against without",
        (WITH, RATE_UNIT),
        [(WITHOUT, RATE_UNIT)],
        at_least=0.5,
    )
    sizes = [await fetch_number(url, TABLE_SIZE) / 1e6 for url in (url_with, url_without)]
    family.notes.append(
        f"before the rounds, {jobs:,} jobs are claimed and settled without HTTP; table and indexes have "
        f"{sizes[0]:.0f} MB with the transaction and {sizes[1]:.0f} MB without"
    )
    return family
