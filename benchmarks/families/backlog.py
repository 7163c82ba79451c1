"""Family 6: drain rate next to waiting, failed and delayed jobs, and the size of the table over time."""

import json
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.bench import Bench
from benchmarks.cluster import connect, execute, fetch_number
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Family
from benchmarks.processes import run_command
from benchmarks.statements import COUNT_READY
from benchmarks.subjects import JobfnLocal

USUAL_SECONDS = 75
ADD_ROWS = """
    insert into app_jobs.jobs (task_identifier, payload, run_at, attempts, max_attempts, last_error)
    select 'noop', json_build_object('n', n), now() + $1 * interval '1 second', $2::int, 25, $3
    from generate_series(1, $4::int) n
"""
FEW = "jobfn, only the jobs of the round"
MANY_ROWS, CALIBRATION_ROWS = 1_000_000, 20_000
#: Maximum part of the family's time for adding ``MANY_ROWS``.
ADDING_TIME_FRACTION = 0.15
GROWTH_JOBS = 300_000
#: Maximum part of the family's time for one run of the growth.
GROWTH_TIME_FRACTION = 0.1
SIZE_UNIT = "MB, largest size of table and indexes"
FIRST_SIZE_UNIT = "MB, size after a tenth of the jobs"
#: With fewer jobs the service does not vacuum in the first tenth, and the target does not apply.
MIN_GROWTH_JOBS = 250_000


@dataclass
class Backlog(JobfnLocal):
    """Local functions with rows that stay from round to round. Only drained jobs are added again.

    Attributes:
        waiting: Minimum number of ready jobs.
        failed: Number of permanently failed jobs.
        delayed: Number of jobs that are not due.
    """

    waiting: int = 0
    failed: int = 0
    delayed: int = 0

    async def prepare(self, bench: Bench) -> str:
        url = await super().prepare(bench)
        async with connect(url) as connection:
            await connection.execute(ADD_ROWS, 0, 25, "RuntimeError: boom", self.failed)
            await connection.execute(ADD_ROWS, 86_400, 0, None, self.delayed)
        await self.fill(url, 0)
        await execute(url, "checkpoint")
        return url

    async def fill(self, url: str, jobs: int) -> int:
        waiting = max(jobs, self.waiting)
        await self.add(url, max(0, waiting - await fetch_number(url, COUNT_READY)))
        await execute(url, "vacuum analyze app_jobs.jobs")
        return waiting


async def measure(bench: Bench) -> Family:
    family = Family(6, "Backlog: drain rate next to waiting, failed and delayed jobs")
    many = await count_that_fits(bench)
    failed, delayed = many // 2, many // 10
    max_seconds = GROWTH_TIME_FRACTION * bench.family_seconds_left
    await _measure_growth(bench, family, max_seconds)
    others = [
        Backlog(f"jobfn, {many:,} waiting", "", waiting=many),
        Backlog(f"jobfn, {failed:,} permanently failed as well", "", failed=failed),
        Backlog(f"jobfn, {delayed:,} delayed as well", "", delayed=delayed),
    ]
    await drain_all(bench, family, [Backlog(FEW, ""), *others])
    for subject in others:
        rate, few_rate = (subject.name, RATE_UNIT), (FEW, RATE_UNIT)
        family.compare(
            f"{subject.name.removeprefix('jobfn, ')}, against only the jobs of the round",
            rate,
            [few_rate],
            at_least=0.9,
        )
    return family


async def count_that_fits(bench: Bench) -> int:
    """Return how many rows to add, so that adding them does not take too long on this machine."""
    url = await bench.create_migrated_database("jobfn_calibration")
    started_at = time.monotonic()
    await Backlog("calibration").add(url, CALIBRATION_ROWS)
    seconds_per_row = (time.monotonic() - started_at) / CALIBRATION_ROWS
    rows = round(ADDING_TIME_FRACTION * bench.family_seconds_left / seconds_per_row)
    return min(MANY_ROWS, max(CALIBRATION_ROWS, round(rows, -4)))


async def _measure_growth(bench: Bench, family: Family, max_seconds: float) -> None:
    """Measure the table's size while many jobs are added, claimed and settled."""
    subject = "jobfn's store, batches of 500"
    if not bench.includes(subject):
        return
    for _ in bench.rounds():
        url = await bench.create_migrated_database("jobfn_churn")
        samples = await run_churn(bench, url, GROWTH_JOBS, max_seconds)
        family.measurement(subject, FIRST_SIZE_UNIT).rounds.append(samples[0]["size"] / 1e6)
        family.measurement(subject, SIZE_UNIT).rounds.append(samples[-1]["largest"] / 1e6)
    jobs = samples[-1]["jobs"]
    family.compare(
        f"largest table size in {jobs:,} jobs, against after the first {samples[0]['jobs']:,}",
        (subject, SIZE_UNIT),
        [(subject, FIRST_SIZE_UNIT)],
        at_most=2 if jobs >= MIN_GROWTH_JOBS else None,
    )


async def run_churn(bench: Bench, url: str, jobs: int, max_seconds: float) -> list[dict[str, Any]]:
    """Return the samples of one run of ``peers/churn.py``: at each tenth of the jobs, and at the end."""
    command = bench.jobfn_python("-m", "benchmarks.peers.churn", str(jobs), f"{max_seconds:.1f}")
    variables = bench.jobfn_variables(DATABASE_URL=url)
    output = await run_command("churn", command, variables, timeout_seconds=max_seconds + 60)
    return [json.loads(line) for line in output.splitlines()]
