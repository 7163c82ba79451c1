"""Families of measurements, one module each with ``async def measure(bench) -> Family``."""

from types import ModuleType

from benchmarks.families import (
    backlog,
    cold_start,
    enqueueing,
    fewer_requests,
    function_app,
    latency,
    local_functions,
    whole_path,
)

#: By the number of ``--family``.
FAMILIES: dict[int, ModuleType] = {
    1: function_app,
    2: whole_path,
    3: fewer_requests,
    4: local_functions,
    5: latency,
    6: backlog,
    7: enqueueing,
    8: cold_start,
}
