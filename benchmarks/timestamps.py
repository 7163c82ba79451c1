"""Timestamps that handlers write to a file, on the machine's monotonic clock.

``TimestampWriter`` writes in the measured process and ``read_timestamps`` reads in the benchmark. Python's
``time.monotonic_ns`` and Node's ``process.hrtime`` read the same clock on Linux, so that times of processes compare.
"""

import os
import time
from pathlib import Path

#: A drain records its first job, every job with this interval, and its last.
RECORD_INTERVAL_JOBS = 50


class TimestampWriter:
    """Count handled jobs and write timestamps.

    ``BENCH_TIMESTAMPS`` names the file and ``BENCH_JOBS`` is the number of jobs. With ``BENCH_EVERY_JOB`` each job is
    recorded with its own number, for latencies.

    Attributes:
        records_every_job: Whether ``record`` needs the job's number.
    """

    def __init__(self) -> None:
        path = os.environ.get("BENCH_TIMESTAMPS")
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._jobs = int(os.environ.get("BENCH_JOBS", "0"))
        self.records_every_job = "BENCH_EVERY_JOB" in os.environ
        self._count = 0

    def record(self, number: int = 0) -> None:
        """Record that a job was handled."""
        self._count += 1
        if self.records_every_job:
            self._write(number)
        elif self._count == 1 or self._count % RECORD_INTERVAL_JOBS == 0 or self._count == self._jobs:
            self._write(self._count)

    def _write(self, number: int) -> None:
        if self._file is not None:
            os.write(self._file, b"%d %d\n" % (number, time.monotonic_ns()))


def read_timestamps(path: Path) -> list[tuple[int, float]]:
    """Return job numbers and seconds in the order of writing. Skip a last line that is still being written."""
    if not path.exists():
        return []
    lines = path.read_text().rpartition("\n")[0].splitlines()
    return [(int(number), int(nanoseconds) / 1e9) for number, nanoseconds in (line.split() for line in lines)]
