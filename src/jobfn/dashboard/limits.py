"""Run work on a function's data in another process, with limits on its time and memory.

A JSON Schema may hold a regular expression that never ends, and Python cannot interrupt one.
"""

from collections.abc import Callable
from typing import Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_process

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

TIMEOUT_SECONDS: Final = 5.0
#: Maximum address space of the process.
MAX_MEMORY_BYTES: Final = 1024**3


class LimitExceeded(Exception):
    """The work took too long or too much memory."""


async def run_limited(function: Callable[[*Ts], T], *arguments: *Ts, timeout_seconds: float = TIMEOUT_SECONDS) -> T:
    """Return ``function(*arguments)``. The process ends if it exceeds a limit, and else serves the next call.

    Args:
        function: A function of a module.
        arguments: Its arguments, which must be picklable.
        timeout_seconds: The limit on its time.

    Raises:
        LimitExceeded: A limit was exceeded.
    """
    try:
        with anyio.fail_after(timeout_seconds):
            return await anyio.to_process.run_sync(_run, function, arguments, cancellable=True)
    except TimeoutError:
        raise LimitExceeded(f"it takes more than {timeout_seconds:g} seconds") from None
    except (MemoryError, anyio.BrokenWorkerProcess):
        raise LimitExceeded(f"it takes more than {MAX_MEMORY_BYTES // 1024**2} MiB of memory") from None


def _run(function: Callable[[*Ts], T], arguments: tuple[*Ts]) -> T:  # pragma: no cover  - runs in the other process
    try:
        import resource  # noqa: PLC0415  - not available on Windows
    except ImportError:
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    return function(*arguments)
