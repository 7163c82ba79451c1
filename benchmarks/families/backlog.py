"""Family 6: backlog. Draining with much waiting, much failed or much delayed; the table's size over time."""

import json
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.bench import Bench
from benchmarks.cluster import connected
from benchmarks.drain import UNIT, drain_all
from benchmarks.errors import NotMeasured
from benchmarks.figures import Family, Ratio
from benchmarks.programs import run
from benchmarks.subjects import JobfnLocal, JobfnOverHttp

ADD = """
    insert into app_jobs.jobs (task_identifier, payload, run_at, attempts, max_attempts, last_error)
    select 'noop', json_build_object('n', n), now() + $1 * interval '1 second', $2::int, 25, $3
    from generate_series(1, $4::int) n
"""
SETTLED = "select count(*) from app_jobs.jobs where not exhausted and run_at <= now()"
CHURN_SECONDS, BARE_SECONDS = 75.0, 15.0
ALONE, TABLE = "jobs/s, no HTTP and no handler", "MB, table and indexes"
VACUUMED, BARE = "claim and settle alone, batches of 500", "the same, with nobody vacuuming"
#: So many times its size at the beginning may the table have, and so much of the rate may that cost.
TWICE, CHEAP = 2.0, 0.97
#: So many times the jobs of the smallest backlog are run in a round.
DRAINED = 2.4
#: With fewer jobs, nothing is worth a vacuum in their first tenth.
MANY = 500_000


@dataclass(frozen=True)
class Rows:
    """What lies in the table: ready jobs, and others beside them."""

    ready: int
    failed: int = 0
    delayed: int = 0


class Backlog:
    """jobfn's service over rows that stay from round to round; only what was drained is added again."""

    note = ""

    def __init__(self, name: str, inner: JobfnOverHttp | JobfnLocal, rows: Rows) -> None:
        self.name = name
        self.running = inner.running
        self._inner = inner
        self._rows = rows

    async def prepare(self, bench: Bench) -> str:
        """Make the rows."""
        url = await self._inner.prepare(bench)
        async with connected(url) as connection:
            await connection.execute(ADD, 0, 25, "RuntimeError: boom", self._rows.failed)
            await connection.execute(ADD, 86_400, 0, None, self._rows.delayed)
            await _add_ready(connection, self._rows.ready)
            await connection.execute("vacuum analyze")
            await connection.execute("checkpoint")
        return url

    async def fill(self, url: str, jobs: int) -> None:  # noqa: ARG002  - how many there are is in the rows
        """Add again what was drained."""
        async with connected(url) as connection:
            left = await connection.fetchval(SETTLED)
            await _add_ready(connection, max(0, self._rows.ready - left))
            await connection.execute("vacuum analyze app_jobs.jobs")

    async def is_empty(self, url: str) -> bool:  # noqa: ARG002
        """Never asked for more than the handled jobs."""
        return True


async def measure(bench: Bench) -> Family:
    """Family 6."""
    family = Family(6, "Backlog: the rate of draining, whatever else lies in the table")
    few, many = bench.amount(10_000, 4000), bench.amount(1_000_000, 50_000)
    failed, delayed = bench.amount(500_000, 25_000), bench.amount(100_000, 10_000)
    cases = {
        f"{few:,} waiting": Rows(few),
        f"{many:,} waiting": Rows(many),
        f"{few:,} waiting, {failed:,} failed for good": Rows(few, failed=failed),
        f"{few:,} waiting, {delayed:,} delayed": Rows(few, delayed=delayed),
    }
    local = await _local(bench)
    seconds = 1.0 if bench.options.quick else 3.0
    # fewer than what is worth a vacuum; so many take less than a second, in which a machine may hesitate: more rounds
    drained = round(few * DRAINED)
    subjects = [
        (Backlog(name, JobfnLocal(name) if local else JobfnOverHttp(name), rows), drained, seconds)
        for name, rows in cases.items()
    ]
    await drain_all(bench, family, subjects, times=1 if bench.options.quick else 3, refill=_add_ready)
    first, *others = cases
    for name in others:
        family.compare(f"{name}, against {first}", (name, UNIT), [(first, UNIT)], at_least=0.9)
    where = "by local functions" if local else "over HTTP"
    family.notes.append(
        f"{drained:,} jobs run {where}, as many added meanwhile as have run; for at most {seconds:g} s a round"
    )
    await _churn(bench, family, bench.amount(1_000_000, 20_000))
    return family


async def _add_ready(connection: "asyncpg.Connection[Any]", jobs: int) -> None:
    await connection.execute(ADD, 0, 0, None, jobs)


async def _local(bench: Bench) -> bool:
    """Whether the quicker way is there, which leaves the database more of the work."""
    try:
        await JobfnLocal().prepare(bench)
    except NotMeasured:
        return False
    return True


async def _churn(bench: Bench, family: Family, jobs: int) -> None:
    """The table's size while many jobs come and go, and what it costs to keep it."""
    name = f"{jobs:,} jobs run"
    if not bench.wants(name):
        return
    bare = await _cost(bench, family, jobs // 5)
    stops = await _churned(bench, "jobfn_churn", jobs, CHURN_SECONDS)
    if not stops:
        family.missing(name, TABLE, "the time was up before a tenth of them had run")
        return
    sizes, last = [stop["size"] / 1e6 for stop in stops], stops[-1]
    figure = family.figure(name, TABLE)
    figure.rounds = sizes
    ran, largest = last["jobs"], last["largest"] / 1e6
    figure.note = "at each tenth, on the way" if ran >= jobs else f"on the way to {ran:,}, when the time was up"
    if jobs >= MANY:
        kept = f"the table after {ran:,} jobs, against after the first tenth of {jobs:,}"
        family.ratios.append(Ratio(kept, [sizes[-1] / sizes[0]], at_most=TWICE))
        most = "the largest it was on the way, against the same"
        family.ratios.append(Ratio(most, [largest / sizes[0]], at_most=TWICE))
    family.notes.append(
        f"{ran:,} jobs added, claimed and settled in batches of 500: {sizes[0]:.1f} MB after a tenth of {jobs:,}, "
        f"{sizes[-1]:.1f} MB at the end, {largest:.1f} MB at most, {last['vacuums']} vacuums"
        + (f"; without vacuuming {bare['size'] / 1e6:.1f} MB after {bare['jobs']:,}" if bare else "")
    )
    bench.say(f"  {family.notes[-1]}")


async def _cost(bench: Bench, family: Family, jobs: int) -> dict[str, Any] | None:
    """The rate with somebody vacuuming and with nobody, in turn. Returns how a run without ended."""
    bare = None
    for number in range(1 if bench.options.quick else bench.options.rounds):
        for name, arguments in bench.in_order([(BARE, ["bare"]), (VACUUMED, [])], number):
            stops = await _churned(bench, "jobfn_churn_cost", jobs, BARE_SECONDS, *arguments)
            if not stops or stops[-1]["jobs"] < jobs:
                return bare
            family.figure(name, ALONE).rounds.append(jobs / stops[-1]["seconds"])
            bare = stops[-1] if name == BARE else bare
    if jobs >= MANY // 5:
        name = f"with vacuuming over without, {jobs:,} jobs"
        family.compare(name, (VACUUMED, ALONE), [(BARE, ALONE)], at_least=CHEAP)
    return bare


async def _churned(bench: Bench, database: str, jobs: int, most: float, *arguments: str) -> list[dict[str, Any]]:
    """The stops of one run; none where the time is up."""
    seconds = min(most, bench.seconds_left - 15)
    if seconds < 1:
        return []
    url = await bench.migrated(database)
    command = bench.jobfn("-m", "benchmarks.peers.churn", str(jobs), str(seconds), *arguments)
    text = await run("churn", command, bench.jobfn_variables(DATABASE_URL=url), seconds=seconds + 60)
    return [json.loads(line) for line in text.splitlines()]
