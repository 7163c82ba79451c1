"""Family 7: enqueueing from SQL, in bulk from Python against the peers' bulk calls, and by a trigger."""

from benchmarks.bench import Bench
from benchmarks.cluster import execute
from benchmarks.drain import RATE_UNIT
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.measurements import Family
from benchmarks.peer_libraries import Peer, graphile, oban, pgqueuer, procrastinate
from benchmarks.processes import run_command

USUAL_SECONDS = 35
SINGLE, STATEMENT, MANY = "jobfn, add_job one by one", "jobfn, add_job in one statement", "jobfn, enqueue_many"
#: Verbs of ``peers/jobfn_enqueue.py``.
VERBS = {STATEMENT: "statement", MANY: "many", SINGLE: "single"}
TRIGGER, NO_TRIGGER = "jobfn, INSERT with a DataJobTrigger", "the same INSERT without one"
ROWS_UNIT = "rows/s"
#: The others add jobs so slowly that they get a quarter of them.
FAST = {MANY, STATEMENT, "pgqueuer, bulk", "graphile-worker, bulk"}
WARM_UP_JOBS, MIN_JOBS, MAX_JOBS = 5000, 4000, 40_000
#: The warm-up call of ``add_job`` in one statement gives the number of jobs that takes about this long.
STATEMENT_SECONDS = 2.0


async def measure(bench: Bench) -> Family:
    family = Family(7, "Enqueueing: durable commits, jobs per second")
    url = await bench.create_migrated_database("jobfn_enqueue")
    peers = {}
    for peer in (pgqueuer(), graphile(), *([] if bench.options.quick else [procrastinate(), oban()])):
        name = f"{peer.package}, bulk"
        try:
            peers[name] = (peer, await peer.prepare(bench))
        except SubjectUnavailable as reason:
            bench.skip(family, name, RATE_UNIT, reason)
    rate = WARM_UP_JOBS / await _enqueue(bench, "statement", url, WARM_UP_JOBS)
    jobs = min(MAX_JOBS, max(MIN_JOBS, round(round(rate * STATEMENT_SECONDS), -3)))
    for number in bench.rounds():
        for name in bench.round_order([*VERBS, *peers], number):
            if not bench.includes(name) or family.measurement(name, RATE_UNIT).skip_reason is not None:
                continue
            count = jobs if name in FAST else jobs // 4
            try:
                seconds = await (
                    _enqueue(bench, VERBS[name], url, count) if name in VERBS else _bulk(*peers[name], count)
                )
            except BenchError as error:
                bench.fail(family, name, RATE_UNIT, error)
                continue
            family.measurement(name, RATE_UNIT).rounds.append(count / seconds)
        if bench.includes(TRIGGER):
            await _measure_trigger(bench, family, url, 2 * jobs)
        rates = (f"{each.subject} {each.rounds[-1]:,.0f}" for each in family.measurements if each.rounds)
        bench.log(f"  round {number}: " + "; ".join(rates))
    many, statement, pgqueuer_bulk = (MANY, RATE_UNIT), (STATEMENT, RATE_UNIT), [("pgqueuer, bulk", RATE_UNIT)]
    family.compare("enqueue_many, against pgqueuer's bulk", many, pgqueuer_bulk, at_least=2.5)
    family.compare("add_job in one statement, against pgqueuer's bulk", statement, pgqueuer_bulk, at_least=1)
    family.compare(
        "INSERT with a DataJobTrigger, against without", (TRIGGER, ROWS_UNIT), [(NO_TRIGGER, ROWS_UNIT)], at_least=0.4
    )
    family.compare("enqueue_many, against graphile-worker's bulk", many, [("graphile-worker, bulk", RATE_UNIT)])
    family.notes.append(f"{jobs:,} jobs per round, a quarter of them for slow ways; an INSERT of {2 * jobs:,} rows")
    return family


async def _enqueue(bench: Bench, verb: str, url: str, jobs: int) -> float:
    """Add jobs to an empty table. Return the seconds."""
    await execute(url, "truncate app_jobs.jobs cascade")
    command = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", verb, str(jobs))
    return float(await run_command(f"jobfn: {verb}", command, bench.jobfn_variables(DATABASE_URL=url)))


async def _bulk(peer: Peer, url: str, jobs: int) -> float:
    """Call a peer's bulk enqueue on an empty table. Return the seconds."""
    await execute(url, peer.clear_sql)
    return await peer.enqueue(url, jobs)


async def _measure_trigger(bench: Bench, family: Family, url: str, rows: int) -> None:
    command = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", "trigger", str(rows))
    output = await run_command(TRIGGER, command, bench.jobfn_variables(DATABASE_URL=url))
    without_seconds, with_seconds = map(float, output.split())
    family.measurement(TRIGGER, ROWS_UNIT).rounds.append(rows / with_seconds)
    family.measurement(NO_TRIGGER, ROWS_UNIT).rounds.append(rows / without_seconds)
