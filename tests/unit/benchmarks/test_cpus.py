import os
import sys

import pytest

from benchmarks.cpus import cpu_set
from benchmarks.processes import run_command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has CPU sets")


async def test_process_runs_on_its_set_and_the_benchmark_on_all() -> None:
    before = os.sched_getaffinity(0)
    cpus = cpu_set(1)
    command = [sys.executable, "-c", "import os; print(*os.sched_getaffinity(0))"]
    output = await run_command("affinity", command, {}, cpus=cpus)
    assert {int(cpu) for cpu in output.split()} == (cpus or before)
    assert os.sched_getaffinity(0) == before


def test_positions_start_again_after_the_last_cpu() -> None:
    available = sorted(os.sched_getaffinity(0))
    expected = frozenset({available[0]}) if len(available) > 1 else frozenset()
    assert cpu_set(len(available)) == cpu_set(0) == expected
