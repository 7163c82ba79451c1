"""Families of measurements, one module each with ``async def measure(bench) -> Family``.

``USUAL_SECONDS`` of a module is its part of a run, and the most that it gets in one of 12 minutes.
"""

from types import ModuleType

from benchmarks.families import (
    backlog,
    cold_start,
    delivery_modes,
    durable,
    enqueueing,
    function_app,
    latency,
    limits,
    local_functions,
    open_transaction,
    parked,
    signals,
    slow_network,
    tenants,
    whole_path,
    workers,
)

#: By the number of ``--family``.
FAMILIES: dict[int, ModuleType] = {
    1: function_app,
    2: whole_path,
    3: delivery_modes,
    4: local_functions,
    5: latency,
    6: backlog,
    7: enqueueing,
    8: cold_start,
    9: workers,
    10: slow_network,
    11: open_transaction,
    12: durable,
    13: signals,
    14: parked,
    15: limits,
    16: tenants,
}
#: Families with a row in the table of the README. They run first, and alone in a quick run.
TARGET_FAMILIES = (2, 4, 7, 5, 1, 9, 11)
