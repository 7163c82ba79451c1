"""``make simulate``: many workers on many databases, with failures, on a virtual clock.

The workers are jobfn's (``jobfn.worker``): claim loop, throttle, prefetch, settlement batches and leases. Database and
functions are simulated. The same seed gives the same result. What it shows: whether work is shared fairly, how often
workers wake up, and how long jobs wait after workers died and databases were down.
"""

import argparse
import asyncio
import json
import logging
import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from benchmarks.scaling_page import write_simulation
from benchmarks.simulated_database import SimulatedDatabase, SimulatedJob, SimulatedWorker
from benchmarks.virtual_clock import run_virtually
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.worker import Worker

#: Tasks: how long a handler runs, and how many jobs arrive per second and worker.
TASKS = {"quick": (0.02, 2.0), "usual": (0.2, 1.0), "slow": (10.0, 1.2)}
#: Statements that add jobs, per second and database.
STATEMENTS_PER_SECOND = 2.0
RESULT_FILE = Path(__file__).parent / "results" / "simulation.json"


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    Attributes:
        workers: Number of workers, spread evenly over the databases.
        databases: Number of databases.
        seconds: Time in which jobs arrive.
        killed: Fraction of the workers that is killed at a third of the time.
        down: Fraction of the databases that is down at two thirds of the time.
        down_seconds: For how long.
        failure_rate: Fraction of the attempts that fail.
        seed: Seed of all random numbers.
    """

    workers: int = 1000
    databases: int = 50
    seconds: float = 60.0
    killed: float = 0.1
    down: float = 0.1
    down_seconds: float = 10.0
    failure_rate: float = 0.02
    seed: int = 1


@dataclass(frozen=True)
class SimulationResult:
    """Figures of a simulation. Times in seconds.

    Attributes:
        jobs: Number of jobs that were added.
        lost: Jobs that did not end within ten minutes after the last one was added.
        doubled: Jobs whose handler ended more than once.
        fairness: Jain's index of the jobs per surviving worker, the lowest of all databases; 1: all the same.
        waits: Median and 99th percentile of the time until a job starts, by task, without failures' databases.
        polls_per_second: Claims per second and worker.
        empty_polls: Fraction of the claims that found nothing.
        polls_per_notification: Claims for each notification of a worker.
        recovery_seconds: Until the jobs of the killed workers ran again: the last of them.
        catch_up_seconds: From the end of the outage until no usual or quick job had waited for more than a second.
    """

    plan: Plan
    jobs: int
    lost: int
    doubled: int
    fairness: float
    waits: dict[str, tuple[float, float]]
    polls_per_second: float
    empty_polls: float
    polls_per_notification: float
    recovery_seconds: float
    catch_up_seconds: float


def simulate(plan: Plan) -> SimulationResult:
    """Run a simulation."""
    random.seed(plan.seed)  # of jobfn's jitter
    configuration = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return run_virtually(_simulate(plan))
    finally:
        structlog.configure(**configuration)


async def _simulate(plan: Plan) -> SimulationResult:
    loop, rng = asyncio.get_running_loop(), random.Random(plan.seed)  # noqa: S311  - a simulation
    databases = [SimulatedDatabase(rng) for _ in range(plan.databases)]
    workers = [start_worker(f"worker-{n:05}", databases[n % plan.databases], rng, plan) for n in range(plan.workers)]
    arrivals = [loop.create_task(_add_jobs(database, plan, rng)) for database in databases]

    await asyncio.sleep(plan.seconds / 3)
    killed = rng.sample(workers, int(plan.killed * plan.workers))
    for worker in killed:
        worker.is_alive = False
    lost_ids = {database: database.held_by({worker.worker_id for worker in killed}) for database in databases}
    recovery = loop.create_task(_until_recovered(lost_ids))

    await asyncio.sleep(plan.seconds / 3)
    down = rng.sample(databases, int(plan.down * plan.databases))
    for database in down:
        database.is_up = False
    await asyncio.sleep(plan.down_seconds)
    for database in down:
        database.is_up = True
    catch_up = loop.create_task(_until_caught_up(down))

    count = sum(await asyncio.gather(*arrivals))
    polls = sum(worker.polls for worker in workers) / loop.time() / plan.workers
    await _until(lambda: not any(database.jobs for database in databases), max_seconds=600)
    healthy = [database for database in databases if database not in down]
    waits = {task: _percentiles([wait for database in healthy for wait in database.waits[task]]) for task in TASKS}
    alive = [worker for worker in workers if worker.is_alive]
    notified = sum(database.notifications * len(database.listeners) for database in databases)
    return SimulationResult(
        plan=plan,
        jobs=count,
        lost=sum(len(database.jobs) for database in databases),
        doubled=sum(database.doubled for database in databases),
        fairness=round(
            min(
                _fairness([w.database.ended_by[w.worker_id] for w in alive if w.database is each]) for each in databases
            ),
            3,
        ),
        waits=waits,
        polls_per_second=round(polls, 3),
        empty_polls=round(sum(each.empty_claims for each in databases) / sum(each.claims for each in databases), 3),
        polls_per_notification=round(sum(worker.polls for worker in workers) / notified, 3),
        recovery_seconds=round(await recovery, 1),
        catch_up_seconds=round(await catch_up, 1),
    )


def start_worker(name: str, database: SimulatedDatabase, rng: random.Random, plan: Plan) -> SimulatedWorker:
    """Start one of jobfn's workers with default settings on a simulated database and function."""
    simulated = SimulatedWorker(name, database, rng, plan.failure_rate)
    wake_event = asyncio.Event()
    database.listeners.append(wake_event)
    worker = Worker(
        store=simulated,
        settlements=SettlementBatcher(simulated),
        deliverer=simulated,
        settings=ServiceSettings.from_environ({}, worker_id=name),
        wake_event=wake_event,
    )
    simulated.running = asyncio.create_task(worker.run(asyncio.Event()))
    return simulated


async def _add_jobs(database: SimulatedDatabase, plan: Plan, rng: random.Random) -> int:
    """Add jobs in bursts at random times. Return their number."""
    clock, number = asyncio.get_running_loop().time, 0
    ends_at = clock() + plan.seconds
    while True:
        await asyncio.sleep(rng.expovariate(STATEMENTS_PER_SECOND))
        if clock() >= ends_at:
            return number
        jobs = []
        for task, (seconds, per_worker) in TASKS.items():
            expected = per_worker * plan.workers / plan.databases / STATEMENTS_PER_SECOND
            for _ in range(math.floor(expected + rng.random())):
                number += 1
                jobs.append(SimulatedJob(number, task, seconds, clock()))
        database.add(jobs)


async def _until(condition: Callable[[], bool], *, max_seconds: float) -> float:
    """Wait for a condition. Return the time that took."""
    clock = asyncio.get_running_loop().time
    started_at = clock()
    while not condition() and clock() - started_at < max_seconds:  # noqa: ASYNC110  - virtual
        await asyncio.sleep(0.1)
    return clock() - started_at


async def _until_recovered(held: dict[SimulatedDatabase, set[int]]) -> float:
    """Wait until no job has the lock of a worker that died. Return the time that took."""
    waiting = [(database, database.jobs[job_id].attempt, job_id) for database, ids in held.items() for job_id in ids]

    def is_recovered() -> bool:
        while waiting:
            database, attempt, job_id = waiting[-1]
            if job_id in database.jobs and database.jobs[job_id].attempt == attempt:
                return False
            waiting.pop()
        return True

    return await _until(is_recovered, max_seconds=600)


async def _until_caught_up(databases: Sequence[SimulatedDatabase]) -> float:
    """Wait until no usual or quick job has waited for more than a second. Return the time that took."""
    clock = asyncio.get_running_loop().time

    def is_caught_up() -> bool:
        return not any(
            job.started_at is None and job.task != "slow" and clock() - job.added_at > 1.0
            for database in databases
            for job in database.jobs.values()
        )

    return await _until(is_caught_up, max_seconds=600)


def _fairness(counts: Sequence[int]) -> float:
    """Return Jain's index: 1 if all counts are the same, 1/n if one has everything."""
    squares = len(counts) * sum(count * count for count in counts)
    return sum(counts) ** 2 / squares if squares else 1.0


def _percentiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (0.0, 0.0)
    cuts = statistics.quantiles(values, n=100)
    return round(cuts[49], 3), round(cuts[98], 3)


def main() -> None:
    """Run a simulation, print its result and write it."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    for name, default in asdict(Plan()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--output", type=Path, default=RESULT_FILE)
    arguments = vars(parser.parse_args())
    output: Path = arguments.pop("output")
    result = simulate(Plan(**arguments))
    text = json.dumps(asdict(result), indent=2)
    output.write_text(f"{text}\n", "utf-8")
    print(text)
    if output == RESULT_FILE:
        write_simulation(result)


if __name__ == "__main__":
    main()
