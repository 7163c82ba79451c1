"""The jobs of a chaos run, derived from the seed. Pure.

Each job has a number. A job with a key is added several times, each time as a new version. Only the last version must
have its effect.
"""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass

QUEUES = 5


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One call of add_job."""

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


def plan_jobs(seed: int, jobs: int, *, max_delay_seconds: float) -> Sequence[PlannedJob]:
    """Return the calls of add_job in order."""
    rand = random.Random(f"{seed} plan")  # noqa: S311  - repeatable, not secret
    planned: list[tuple[float, PlannedJob]] = []
    for number in range(1, jobs + 1):
        task = rand.choices(["work", "work_in_thread", "work_in_background"], [70, 15, 15])[0]
        key = f"key-{number}" if rand.random() < 0.08 else None
        fails_permanently = key is None and rand.random() < 0.04
        failures = 0 if fails_permanently or rand.random() < 0.88 else rand.choice([1, 1, 2])
        queue = f"queue-{rand.randrange(QUEUES)}" if rand.random() < 0.2 else None
        delay_seconds = rand.uniform(0.1, max_delay_seconds) if rand.random() < 0.1 else 0.0
        position = float(number)
        for version in range(1, rand.choice([2, 3]) + 1 if key else 2):
            seconds = rand.uniform(0.3, 1.2) if task == "work_in_background" else rand.expovariate(1 / 0.03)
            job = PlannedJob(
                number, version, task, round(seconds, 3), failures, fails_permanently, queue, key, delay_seconds
            )
            planned.append((position, job))
            # The next version comes while this one waits, while it may run, or much later.
            position += rand.choice([0, 1, rand.uniform(0, jobs / 4)])
    return [job for _, job in sorted(planned, key=lambda each: (each[0], each[1].number, each[1].version))]
