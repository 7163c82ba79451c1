"""How a handler says when it ran: lines in a file, with the machine's monotonic clock.

``Marks`` writes, in the process under measurement; ``read_marks`` reads, in the benchmark. Python's
``time.monotonic_ns`` and Node's ``process.hrtime`` read the same clock on Linux, so times of two processes compare.
"""

import os
import time
from pathlib import Path

#: A drain is marked at its first job, at every so many, and at its last.
EVERY = 50


class Marks:
    """Counts handled jobs and marks some of them; configured by the variables that the benchmark sets.

    ``BENCH_MARKS`` names the file, ``BENCH_JOBS`` how many jobs there are. With ``BENCH_EACH`` every job is marked,
    with its own number: for latencies.

    Attributes:
        each: Whether numbers are asked for.
    """

    def __init__(self) -> None:
        path = os.environ.get("BENCH_MARKS")
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._jobs = int(os.environ.get("BENCH_JOBS", "0"))
        self.each = "BENCH_EACH" in os.environ
        self._count = 0

    def seen(self, number: int = 0) -> None:
        """One job was handled."""
        self._count += 1
        if self.each:
            self._write(number)
        elif self._count == 1 or self._count % EVERY == 0 or self._count == self._jobs:
            self._write(self._count)

    def _write(self, number: int) -> None:
        if self._file is not None:
            os.write(self._file, b"%d %d\n" % (number, time.monotonic_ns()))


def read_marks(path: Path) -> list[tuple[int, float]]:
    """Numbers and seconds, in the order in which they were written."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    return [(int(number), int(nanoseconds) / 1e9) for number, nanoseconds in (line.split() for line in lines)]
