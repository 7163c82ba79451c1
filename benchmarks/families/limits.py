"""Family 15: drain rate with limits: next to 1,000 limited keys that hold jobs, and of jobs that a limit counts."""

from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.cluster import connect
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.families.backlog import Backlog, count_that_fits
from benchmarks.measurements import Family

USUAL_SECONDS = 55
KEYS = 1000
MAX_HELD = 100_000
SET_LIMIT = "select app_jobs.set_limit('keys', per := 'payload.key', concurrency := $1)"
#: So that the limit holds every job, and none runs.
PAUSE_KEYS = """
    insert into app_jobs.limit_keys (limit_name, key, paused_until)
    select 'keys', n::text, now() + interval '1 day' from generate_series(1, $1::int) n
"""
HOLD = """
    select app_jobs.add_jobs('limited', array_agg(json_build_object('key', 1 + n % $1::int)))
    from generate_series(1, $2::int) n
"""


@dataclass
class Limited(Backlog):
    """Local functions with a limit.

    Attributes:
        held: Number of jobs of other tasks that the limit holds.
        counts_drained: Whether the limit also counts the jobs that are drained.
    """

    held: int = 0
    counts_drained: bool = False

    async def prepare(self, bench: Bench) -> str:
        url = await super().prepare(bench)
        async with connect(url) as connection:
            if self.counts_drained:
                await connection.execute(SET_LIMIT, 1_000_000)
            else:
                await connection.execute(SET_LIMIT.replace("per :=", "task_identifier := 'limited', per :="), 1)
                await connection.execute(PAUSE_KEYS, KEYS)
                await connection.execute(HOLD, KEYS, self.held)
            await connection.execute("vacuum analyze")
        return url


async def measure(bench: Bench) -> Family:
    family = Family(15, "Limits: drain rate next to held jobs, and of limited jobs")
    held = min(MAX_HELD, await count_that_fits(bench) // 10)  # holding a job takes longer than adding one
    next_to = Limited(f"jobfn, {KEYS:,} limited keys hold {held:,} other jobs", "", held=held)
    limited = Limited("jobfn, all jobs are limited, and none is held", "", counts_drained=True)
    delayed = Backlog(f"jobfn, no limits, {held:,} delayed jobs", "", delayed=held)  # a table of the same size
    await drain_all(bench, family, [delayed, next_to, limited])
    rate, delayed_rate = (next_to.name, RATE_UNIT), (delayed.name, RATE_UNIT)
    family.compare("next to held jobs, against delayed ones", rate, [delayed_rate], at_least=0.9)
    return family
