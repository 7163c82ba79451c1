"""Family 6: drain rate next to waiting, failed and delayed jobs, and the size of the table over time."""

import json
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.bench import Bench
from benchmarks.cluster import connect
from benchmarks.drain import RATE_UNIT, drain_all
from benchmarks.measurements import Comparison, Family
from benchmarks.processes import run_command
from benchmarks.subjects import JobfnLocal

ADD_JOBS = """
    insert into app_jobs.jobs (task_identifier, payload, run_at, attempts, max_attempts, last_error)
    select 'noop', json_build_object('n', n), now() + $1 * interval '1 second', $2::int, 25, $3
    from generate_series(1, $4::int) n
"""
COUNT_READY = "select count(*) from app_jobs.jobs where not exhausted and run_at <= now()"
#: Jobs of a round, as a multiple of the smallest backlog. With fewer jobs a round is too short, with more the service
#: vacuums during some rounds and not during others.
DRAIN_FACTOR = 2.4
STORE_RATE_UNIT, SIZE_UNIT = "jobs/s, no HTTP and no handler", "MB, table and indexes"
WITH_VACUUM, WITHOUT_VACUUM = "jobfn's store, batches of 500", "jobfn's store without vacuum"
CHURN_MAX_SECONDS, COST_MAX_SECONDS = 75.0, 15.0
#: Maximum table size, as a multiple of the size after a tenth of the jobs.
MAX_GROWTH = 2.0
#: Minimum rate with vacuum, as a fraction of the rate without.
MIN_VACUUM_RATE = 0.97
#: With fewer jobs the service does not vacuum in the first tenth, so that the targets do not apply.
MIN_JOBS_FOR_TARGETS = 500_000


@dataclass(frozen=True)
class Rows:
    """Rows in the table: ready jobs, and jobs that are not ready."""

    ready: int
    failed: int = 0
    delayed: int = 0


class Backlog(JobfnLocal):
    """Local functions with rows that stay from round to round. Only drained jobs are added again."""

    def __init__(self, name: str, rows: Rows) -> None:
        super().__init__(name, note="")
        self._rows = rows

    async def prepare(self, bench: Bench) -> str:
        """Create the database and its rows."""
        url = await super().prepare(bench)
        async with connect(url) as connection:
            await connection.execute(ADD_JOBS, 0, 25, "RuntimeError: boom", self._rows.failed)
            await connection.execute(ADD_JOBS, 86_400, 0, None, self._rows.delayed)
            await _add_ready_jobs(connection, self._rows.ready)
            await connection.execute("vacuum analyze")
            await connection.execute("checkpoint")
        return url

    async def fill(self, url: str, jobs: int) -> None:  # noqa: ARG002  - the number of rows is fixed
        """Add drained jobs again."""
        async with connect(url) as connection:
            ready = await connection.fetchval(COUNT_READY)
            await _add_ready_jobs(connection, max(0, self._rows.ready - ready))
            await connection.execute("vacuum analyze app_jobs.jobs")

    async def is_empty(self, url: str) -> bool:  # noqa: ARG002
        """Return True, because a round ends after its last handled job."""
        return True


async def measure(bench: Bench) -> Family:
    family = Family(6, "Backlog: drain rate next to waiting, failed and delayed jobs")
    few, many = bench.job_count(10_000, quick=4000), bench.job_count(1_000_000, quick=50_000)
    failed, delayed = bench.job_count(500_000, quick=25_000), bench.job_count(100_000, quick=10_000)
    cases = {
        f"{few:,} waiting": Rows(few),
        f"{many:,} waiting": Rows(many),
        f"{few:,} waiting, {failed:,} permanently failed": Rows(few, failed=failed),
        f"{few:,} waiting, {delayed:,} delayed": Rows(few, delayed=delayed),
    }
    max_seconds = 1.0 if bench.options.quick else 3.0
    drained = round(few * DRAIN_FACTOR)
    subjects = [(Backlog(name, rows), drained, max_seconds) for name, rows in cases.items()]
    # A round takes less than a second, in which a machine may stall. Hence more rounds.
    await drain_all(bench, family, subjects, factor=1 if bench.options.quick else 3, refill=_add_ready_jobs)
    smallest, *others = cases
    for name in others:
        family.compare(f"{name}, against {smallest}", (name, RATE_UNIT), [(smallest, RATE_UNIT)], at_least=0.9)
    family.notes.append(
        f"{drained:,} jobs run by local functions, as many added meanwhile; at most {max_seconds:g} s per round"
    )
    await _measure_table_size(bench, family, bench.job_count(1_000_000, quick=20_000))
    return family


async def _add_ready_jobs(connection: "asyncpg.Connection[Any]", jobs: int) -> None:
    await connection.execute(ADD_JOBS, 0, 0, None, jobs)


async def _measure_table_size(bench: Bench, family: Family, jobs: int) -> None:
    """Measure the table's size while many jobs are added and settled, and the cost of vacuum."""
    name = f"{jobs:,} jobs run"
    if not bench.includes(name):
        return
    without_vacuum = await _measure_vacuum_cost(bench, family, jobs // 5)
    samples = await _churn(bench, "jobfn_churn", jobs, CHURN_MAX_SECONDS)
    if not samples:
        family.skip(name, SIZE_UNIT, "the time was up before a tenth of the jobs had run")
        return
    sizes, last = [sample["size"] / 1e6 for sample in samples], samples[-1]
    measurement = family.measurement(name, SIZE_UNIT)
    measurement.rounds, measurement.is_series = sizes, True
    handled, largest = last["jobs"], last["largest"] / 1e6
    measurement.note = "at each tenth" if handled >= jobs else f"at each tenth, up to {handled:,} when the time was up"
    if jobs >= MIN_JOBS_FOR_TARGETS:
        for text, size in ((f"table size after {handled:,} jobs", sizes[-1]), ("largest table size", largest)):
            family.comparisons.append(
                Comparison(f"{text}, against after the first tenth", [size / sizes[0]], at_most=MAX_GROWTH)
            )
    family.notes.append(
        f"{handled:,} jobs added, claimed and settled in batches of 500: {sizes[0]:.1f} MB after the first tenth, "
        f"{sizes[-1]:.1f} MB at the end, at most {largest:.1f} MB, {last['vacuums']} vacuums"
    )
    if without_vacuum is not None:
        family.notes[-1] += f"; without vacuum {without_vacuum['size'] / 1e6:.1f} MB after {without_vacuum['jobs']:,}"
    bench.log(f"  {family.notes[-1]}")


async def _measure_vacuum_cost(bench: Bench, family: Family, jobs: int) -> dict[str, Any] | None:
    """Measure the rate with and without vacuum in turn. Return the last sample of a run without."""
    without_vacuum = None
    for number in range(1 if bench.options.quick else bench.options.rounds):
        for name in bench.round_order([WITHOUT_VACUUM, WITH_VACUUM], number):
            options = ["--no-vacuum"] if name == WITHOUT_VACUUM else []
            samples = await _churn(bench, "jobfn_churn_cost", jobs, COST_MAX_SECONDS, *options)
            if not samples or samples[-1]["jobs"] < jobs:
                return without_vacuum
            family.measurement(name, STORE_RATE_UNIT).rounds.append(jobs / samples[-1]["seconds"])
            without_vacuum = samples[-1] if name == WITHOUT_VACUUM else without_vacuum
    if jobs >= MIN_JOBS_FOR_TARGETS // 5:
        family.compare(
            f"rate with vacuum, against without, {jobs:,} jobs",
            (WITH_VACUUM, STORE_RATE_UNIT),
            [(WITHOUT_VACUUM, STORE_RATE_UNIT)],
            at_least=MIN_VACUUM_RATE,
        )
    return without_vacuum


async def _churn(bench: Bench, database: str, jobs: int, max_seconds: float, *options: str) -> list[dict[str, Any]]:
    """Return the samples of one run of ``peers/churn.py``, or none if the time is up."""
    seconds = min(max_seconds, bench.seconds_left - 15)
    if seconds < 1:
        return []
    url = await bench.create_migrated_database(database)
    command = bench.jobfn_python("-m", "benchmarks.peers.churn", str(jobs), str(seconds), *options)
    variables = bench.jobfn_variables(DATABASE_URL=url)
    output = await run_command("churn", command, variables, timeout_seconds=seconds + 60)
    return [json.loads(line) for line in output.splitlines()]
