"""Family 7: enqueueing from SQL, in bulk from Python against the peers' bulk calls, and by a trigger."""

from benchmarks.bench import Bench
from benchmarks.cluster import execute
from benchmarks.drain import RATE_UNIT
from benchmarks.errors import BenchError, SubjectUnavailable
from benchmarks.measurements import Family
from benchmarks.peer_libraries import Peer, chancy, graphile, oban, pgqueuer, procrastinate
from benchmarks.processes import run_command

SINGLE, STATEMENT, MANY = "jobfn, add_job one by one", "jobfn, add_job in one statement", "jobfn, enqueue_many"
#: Verbs of ``peers/jobfn_enqueue.py``.
VERBS = {SINGLE: "single", STATEMENT: "statement", MANY: "many"}
TRIGGER, NO_TRIGGER = "jobfn, INSERT with a DataJobTrigger", "the same INSERT without one"
ROWS_UNIT = "rows/s"
FAST_PEERS = {"pgqueuer", "graphile-worker"}


async def measure(bench: Bench) -> Family:
    family = Family(7, "Enqueueing: durable commits, jobs per second")
    jobs, rows = bench.job_count(20_000, quick=4000), bench.job_count(100_000, quick=10_000)
    url = await bench.create_migrated_database("jobfn_enqueue")
    peers = {
        peer.package: (peer, peer_url)
        for peer in (pgqueuer(), graphile(), procrastinate(), oban(), chancy())
        if (peer_url := await _prepare(bench, family, peer)) is not None
    }
    for number in bench.rounds(family):
        for name in VERBS:
            if bench.includes(name) and family.measurement(name, RATE_UNIT).skip_reason is None:
                await _enqueue(bench, family, name, url=url, jobs=jobs)
        for peer, peer_url in bench.round_order(list(peers.values()), number):
            peer_jobs = jobs if peer.package in FAST_PEERS else jobs // 4
            await execute(peer_url, peer.clear_sql)
            rate = peer_jobs / await peer.enqueue(peer_url, peer_jobs)
            family.measurement(f"{peer.package}, bulk", RATE_UNIT).rounds.append(rate)
        if bench.includes(TRIGGER):
            command = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", "trigger", str(rows))
            output = await run_command(TRIGGER, command, bench.jobfn_variables(DATABASE_URL=url))
            without_seconds, with_seconds = map(float, output.split())
            family.measurement(TRIGGER, ROWS_UNIT).rounds.append(rows / with_seconds)
            family.measurement(NO_TRIGGER, ROWS_UNIT).rounds.append(rows / without_seconds)
        rates = (f"{each.subject} {each.rounds[-1]:,.0f}" for each in family.measurements if each.rounds)
        bench.log(f"  round {number}: " + "; ".join(rates))
    many, pgqueuer_bulk = (MANY, RATE_UNIT), [("pgqueuer, bulk", RATE_UNIT)]
    family.compare("enqueue_many, against pgqueuer's bulk", many, pgqueuer_bulk, at_least=2)
    family.compare("add_job in one statement, against pgqueuer's bulk", (STATEMENT, RATE_UNIT), pgqueuer_bulk)
    family.compare("enqueue_many, against graphile-worker's bulk", many, [("graphile-worker, bulk", RATE_UNIT)])
    family.notes.append(f"{jobs:,} jobs per round, a quarter of them for slow peers; an INSERT of {rows:,} rows")
    return family


async def _prepare(bench: Bench, family: Family, peer: Peer) -> str | None:
    """Return the peer's database, or None if it is not measured."""
    if not bench.includes(peer.name):
        return None
    try:
        return await peer.prepare(bench)
    except SubjectUnavailable as reason:
        family.skip(f"{peer.package}, bulk", RATE_UNIT, str(reason))
        return None


async def _enqueue(bench: Bench, family: Family, name: str, *, url: str, jobs: int) -> None:
    await execute(url, "truncate app_jobs.jobs cascade")
    command = bench.jobfn_python("-m", "benchmarks.peers.jobfn_enqueue", VERBS[name], str(jobs))
    measurement = family.measurement(name, RATE_UNIT)
    try:
        seconds = float(await run_command(name, command, bench.jobfn_variables(DATABASE_URL=url)))
    except BenchError as error:
        measurement.fail(error)
        bench.log_skipped(name, measurement.skip_reason)
        return
    measurement.rounds.append(jobs / seconds)
