"""Fixed CPU sets for measured processes, so that they do not migrate and the load generator has a separate CPU.

Every subject gets the same two CPUs. A worker and its function process have one each; a subject that is one process has
both, for the threads of its runtime. PostgreSQL and the benchmark use all CPUs. On a machine with one CPU, or where
Linux does not permit it, nothing is pinned.
"""

import contextlib
import os
import sys
from collections.abc import Iterator

CpuSet = frozenset[int]


def cpu_set(first: int, count: int = 1) -> CpuSet:
    """Return CPUs by their position, from the first one again after the last. Empty: nothing is pinned."""
    if len(_CPUS) < 2:
        return frozenset()
    return frozenset(_CPUS[position % len(_CPUS)] for position in range(first, first + count))


@contextlib.contextmanager
def pinned(cpus: CpuSet) -> Iterator[None]:
    """Pin the calling thread, and with it the processes that it starts in the block."""
    if sys.platform != "linux" or not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def available_cpus() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def describe_cpu_sets() -> str:
    """Return the sets of this machine, for the result."""
    if len(_CPUS) < 2:
        return "none: one CPU, or no permission"
    worker, function, both = (", ".join(map(str, sorted(each))) for each in (WORKER, FUNCTION, SUBJECT))
    return f"worker or server {worker}; function or load generator {function}; other subjects {both}; PostgreSQL all"


def _available() -> tuple[int, ...]:
    if sys.platform != "linux":
        return ()
    cpus = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cpus)
    except OSError:
        return ()
    return tuple(sorted(cpus))


_CPUS = _available()
#: The CPUs of a worker or of a server under load, of a function or of a load generator, and of other subjects.
WORKER, FUNCTION, SUBJECT = cpu_set(0), cpu_set(1), cpu_set(0, 2)
