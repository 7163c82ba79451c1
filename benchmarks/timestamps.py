"""Timestamps that handlers write to files, on the machine's monotonic clock.

``TimestampWriter`` writes in a measured process and ``TimestampReader`` reads in the benchmark. Python's
``time.monotonic_ns`` and Node's ``process.hrtime`` read the same clock on Linux, so that times of processes compare.
"""

import os
import time
from dataclasses import dataclass, field
from pathlib import Path

#: A process records its first job and every job with this interval.
RECORD_INTERVAL_JOBS = 50


class TimestampWriter:
    """Count the jobs that this process has handled and write timestamps.

    ``BENCH_TIMESTAMPS`` names a folder in which each process writes a file. With ``BENCH_EVERY_JOB`` each job is
    recorded with its own number, for latencies.

    Attributes:
        records_every_job: Whether ``record`` needs the job's number.
    """

    def __init__(self) -> None:
        folder = os.environ.get("BENCH_TIMESTAMPS")
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND  # a peer may import its script twice
        self._file = None if folder is None else os.open(f"{folder}/{os.getpid()}", flags, 0o600)
        self.records_every_job = "BENCH_EVERY_JOB" in os.environ
        self._count = 0

    def record(self, number: int = 0) -> None:
        """Record that a job was handled."""
        self._count += 1
        if self.records_every_job:
            self._write(number)
        elif self._count == 1 or self._count % RECORD_INTERVAL_JOBS == 0:
            self._write(self._count)

    def _write(self, number: int) -> None:
        if self._file is not None:
            os.write(self._file, b"%d %d\n" % (number, time.monotonic_ns()))


@dataclass
class _ProcessFile:
    """State of one process's file: the position after the last complete line, and its lines."""

    offset: int = 0
    lines: list[tuple[int, float]] = field(default_factory=list)


class TimestampReader:
    """Read the files of a folder while they are written.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[Path, _ProcessFile] = {}

    def update(self) -> None:
        """Read what is new. A line that is only half written is read when it is complete."""
        for path in self.folder.iterdir():
            known = self._files.setdefault(path, _ProcessFile())
            with path.open("rb") as file:
                file.seek(known.offset)
                complete, newline, _ = file.read().rpartition(b"\n")
            known.offset += len(complete) + len(newline)
            for line in complete.splitlines():
                number, nanoseconds = line.split()
                known.lines.append((int(number), int(nanoseconds) / 1e9))

    @property
    def lines(self) -> list[tuple[int, float]]:
        """Numbers and seconds of all processes, in the order of time."""
        return sorted((line for file in self._files.values() for line in file.lines), key=lambda line: line[1])

    @property
    def first(self) -> float | None:
        """Time of the first line. None: there is no line."""
        return min((file.lines[0][1] for file in self._files.values() if file.lines), default=None)

    @property
    def handled(self) -> tuple[int, float]:
        """Number of recorded jobs of all processes, and the time of the last one."""
        last = [file.lines[-1] for file in self._files.values() if file.lines]
        return sum(count for count, _ in last), max((at for _, at in last), default=0.0)

    @property
    def unrecorded(self) -> int:
        """Maximum number of handled jobs that are not recorded yet."""
        return (RECORD_INTERVAL_JOBS - 1) * len(self._files)
