"""Family 14: drain rate next to durable jobs that are parked."""

from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.cluster import connect
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.families.backlog import Backlog, count_that_fits
from benchmarks.measurements import Family

USUAL_SECONDS = 40
#: Jobs that wait for a signal, each with a recorded step.
ADD_PARKED = """
    with parked as (
        insert into app_jobs.jobs (
            task_identifier, payload, run_at, attempts, max_attempts, snoozes, parked_attempt, has_steps
        )
        select 'wait', json_build_object('n', n), 'infinity', 1, 26, 1, 1, true from generate_series(1, $1::int) n
        returning id
    )
    insert into app_jobs.job_steps (job_id, position, name, kind, state, wait_group, attempt, event, started_at)
    select id, 1, 'wait:go', 'wait', 'waiting', 1, 1, 'go', now() from parked
"""
NONE = "jobfn, no parked jobs"


@dataclass
class Parked(Backlog):
    """Local functions with rows of parked jobs.

    Attributes:
        parked: Number of parked jobs.
    """

    parked: int = 0

    async def prepare(self, bench: Bench) -> str:
        url = await super().prepare(bench)
        async with connect(url) as connection:
            await connection.execute(ADD_PARKED, self.parked)
            await connection.execute("vacuum analyze")
        return url


async def measure(bench: Bench) -> Family:
    family = Family(14, "Parked jobs: drain rate next to them")
    count = await count_that_fits(bench)
    many = Parked(f"jobfn, {count:,} parked", "", parked=count)
    await drain_all(bench, family, [Parked(NONE, ""), many])
    family.compare("next to parked jobs, against none", (many.name, RATE_UNIT), [(NONE, RATE_UNIT)], at_least=0.9)
    return family
