"""Family 7: enqueueing. From SQL, in bulk from Python against the peers' bulk, and by a trigger on a bulk INSERT."""

from benchmarks.bench import Bench
from benchmarks.drain import UNIT, execute
from benchmarks.errors import BenchError, NotMeasured
from benchmarks.figures import Family
from benchmarks.programs import run
from benchmarks.subjects import Peer, chancy, graphile, oban, pgqueuer, procrastinate

SINGLE, SQL, MANY = "jobfn, add_job one by one", "jobfn, add_job in one statement", "jobfn, enqueue_many"
VERBS = {SINGLE: "single", SQL: "sql", MANY: "many"}
TRIGGER, BARE = "jobfn, INSERT with a DataJobTrigger", "the same INSERT without one"
ROWS = "rows/s"
#: What the script says where there is none.
NONE = "no enqueue_many"


async def measure(bench: Bench) -> Family:
    """Family 7."""
    family = Family(7, "Enqueueing: durable commits, jobs per second")
    jobs, rows = bench.amount(20_000, 4000), bench.amount(100_000, 10_000)
    url = await bench.migrated("jobfn_enqueue")
    peers = [
        (peer, await _prepared(bench, family, peer))
        for peer in (pgqueuer(), graphile(), procrastinate(), oban(), chancy())
    ]
    for number in bench.rounds(family):
        for name in VERBS:
            if bench.wants(name) and family.figure(name, UNIT).missing is None:
                await _own(bench, family, name, url=url, jobs=jobs)
        for peer, peer_url in bench.in_order(peers, number):
            if peer_url is None or not bench.wants(peer.name):
                continue
            few = jobs if peer.package in {"pgqueuer", "graphile-worker"} else jobs // 4
            await execute(peer_url, peer.clear)
            family.figure(f"{peer.package}, bulk", UNIT).rounds.append(few / await peer.enqueue(peer_url, few))
        if bench.wants(TRIGGER):
            command = bench.jobfn("-m", "benchmarks.peers.jobfn_trigger", str(rows))
            bare, fired = map(float, (await run(TRIGGER, command, bench.jobfn_variables(DATABASE_URL=url))).split())
            family.figure(TRIGGER, ROWS).rounds.append(rows / fired)
            family.figure(BARE, ROWS).rounds.append(rows / bare)
        shown = (f"{figure.subject} {figure.rounds[-1]:,.0f}" for figure in family.figures if figure.rounds)
        bench.say(f"  round {number}: " + "; ".join(shown))
    family.compare("enqueue_many, against pgqueuer's bulk", (MANY, UNIT), [("pgqueuer, bulk", UNIT)], at_least=2)
    family.compare("add_job in one statement, against pgqueuer's bulk", (SQL, UNIT), [("pgqueuer, bulk", UNIT)])
    family.compare("enqueue_many, against graphile-worker's bulk", (MANY, UNIT), [("graphile-worker, bulk", UNIT)])
    family.notes.append(f"{jobs:,} jobs a round (a quarter of them for the slower peers), an INSERT of {rows:,} rows")
    return family


async def _prepared(bench: Bench, family: Family, peer: Peer) -> str | None:
    """The peer's database; None where it is not there."""
    if not bench.wants(peer.name):
        return None
    try:
        return await peer.prepare(bench)
    except NotMeasured as reason:
        family.missing(f"{peer.package}, bulk", UNIT, str(reason))
        return None


async def _own(bench: Bench, family: Family, name: str, *, url: str, jobs: int) -> None:
    await execute(url, "truncate app_jobs.jobs cascade")
    command = bench.jobfn("-m", "benchmarks.peers.jobfn_bulk", VERBS[name], str(jobs))
    try:
        seconds = float(await run(name, command, bench.jobfn_variables(DATABASE_URL=url)))
    except BenchError as error:
        reason = "this jobfn has no enqueue_many" if NONE in str(error) else f"it failed: {error}"
        family.missing(name, UNIT, reason)
        bench.say(f"  {name}: not measured: {reason}")
        return
    family.figure(name, UNIT).rounds.append(jobs / seconds)
