"""The jobs of a chaos run, from its seed. Pure.

Each job has a number; one with a key is added several times, and each time is a version of it. Only the last version
must have its effect: that is what a key means.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

QUEUES = 5


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One call of add_job.

    Attributes:
        number: Which job.
        version: Which time it is added, 1 for the first.
        task: Its task.
        seconds: How long it works.
        fails: In how many attempts it fails before it succeeds.
        hopeless: Whether it fails for good.
        queue: Its named queue.
        key: Its key.
        delay_seconds: How long after it is added it may run.
    """

    number: int
    version: int
    task: str
    seconds: float
    fails: int = 0
    hopeless: bool = False
    queue: str | None = None
    key: str | None = None
    delay_seconds: float = 0.0

    def payload(self) -> dict[str, object]:
        """What its handler is told."""
        return {
            "number": self.number,
            "version": self.version,
            "seconds": self.seconds,
            "fails": self.fails,
            "hopeless": self.hopeless,
            "queue": self.queue,
        }


def plan(seed: int, jobs: int, *, longest_delay_seconds: float) -> Sequence[PlannedJob]:
    """All the calls, in order: so many jobs, and some of them again.

    Args:
        seed: The run's.
        jobs: How many numbers.
        longest_delay_seconds: Of a delayed job.
    """
    chance = random.Random(f"{seed} plan")  # noqa: S311  - repeatable, not secret
    placed: list[tuple[float, PlannedJob]] = []
    for number in range(1, jobs + 1):
        task = chance.choices(["work", "work_in_thread", "work_long"], [70, 15, 15])[0]
        key = f"key-{number}" if chance.random() < 0.08 else None
        hopeless = key is None and chance.random() < 0.04
        fails = 0 if hopeless or chance.random() < 0.88 else chance.choice([1, 1, 2])
        queue = f"queue-{chance.randrange(QUEUES)}" if chance.random() < 0.2 else None
        delay_seconds = chance.uniform(0.1, longest_delay_seconds) if chance.random() < 0.1 else 0.0
        position = float(number)
        for version in range(1, chance.choice([2, 3]) + 1 if key else 2):
            seconds = chance.uniform(0.3, 1.2) if task == "work_long" else chance.expovariate(1 / 0.03)
            job = PlannedJob(number, version, task, round(seconds, 3), fails, hopeless, queue, key, delay_seconds)
            placed.append((position, job))
            # at once (it waits still), soon (it runs perhaps), or much later
            position += chance.choice([0, 1, chance.uniform(0, jobs / 4)])
    return [job for _, job in sorted(placed, key=lambda each: (each[0], each[1].number, each[1].version))]
