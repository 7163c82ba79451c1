"""The jobs of a chaos run, derived from the seed. Pure.

Each job has a number. A job with a key is added several times, each time as a new version. Only the last version must
have its effect. Quick jobs come in bursts, so that workers send several of them in one request.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

QUEUES = 5
SLOW_TASKS = ("work", "work_in_thread", "work_in_background")
#: Number of jobs after which the quick ones go into another burst.
JOBS_PER_BURST = 250
#: Number of other jobs that are added in one transaction.
JOBS_PER_TRANSACTION = 10


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One call of add_job.

    Attributes:
        at: Time of its transaction, as a fraction of the time in which jobs are added.
    """

    at: float
    number: int
    version: int
    task: str
    seconds: float
    failures: int = 0
    fails_permanently: bool = False
    queue: str | None = None
    key: str | None = None
    delay_seconds: float = 0.0

    def payload(self) -> dict[str, object]:
        """Return the payload of its handler."""
        names = ("number", "version", "seconds", "failures", "fails_permanently", "queue")
        return {name: value for name, value in dataclasses.asdict(self).items() if name in names}


def plan_jobs(seed: int, jobs: int, *, quick_share: float, max_delay_seconds: float) -> Sequence[PlannedJob]:
    """Return the calls of add_job in order. Those with the same time share a transaction."""
    rand = random.Random(f"{seed} plan")  # noqa: S311  - repeatable, not secret
    planned: list[PlannedJob] = []
    burst_at = 0.0
    for number in range(1, jobs + 1):
        is_quick = rand.random() < quick_share
        if (number - 1) % JOBS_PER_BURST == 0:
            burst_at = rand.random()
        task = "work_quickly" if is_quick else rand.choices(SLOW_TASKS, [70, 15, 15])[0]
        key = f"key-{number}" if rand.random() < 0.08 else None
        fails_permanently = key is None and rand.random() < 0.04
        failures = 0 if fails_permanently or rand.random() < 0.88 else rand.choice([1, 1, 2])
        queue = f"queue-{rand.randrange(QUEUES)}" if rand.random() < 0.2 else None
        delay_seconds = rand.uniform(0.1, max_delay_seconds) if rand.random() < 0.1 else 0.0
        position = burst_at * jobs if is_quick else float(number)
        for version in range(1, rand.choice([2, 3]) + 1 if key else 2):
            seconds = _choose_seconds(rand, task)
            job = PlannedJob(
                min(position // JOBS_PER_TRANSACTION * JOBS_PER_TRANSACTION / jobs, 1.0),
                number,
                version,
                task,
                round(seconds, 3),
                failures,
                fails_permanently,
                queue,
                key,
                delay_seconds,
            )
            planned.append(job)
            # The next version comes while this one waits, while it may run, or much later.
            position += rand.choice([0, 1, rand.uniform(0, jobs / 4)])
    return sorted(planned, key=lambda job: (job.at, job.number, job.version))


def _choose_seconds(rand: random.Random, task: str) -> float:
    """Return the duration of a handler. A few quick jobs take longer than a batch may, so that it is streamed."""
    if task == "work_in_background":
        return rand.uniform(0.3, 1.2)
    if task == "work_quickly":
        return rand.uniform(0.06, 0.12) if rand.random() < 0.01 else 0.0
    return rand.expovariate(1 / 0.03)
