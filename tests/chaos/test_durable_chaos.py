"""Function, workers, callback server and PostgreSQL are killed between and inside steps, waits and children.

Still every run must end, no recorded result may change, and a step may run twice only if a process died inside it.
"""

import os
import sys
from pathlib import Path

import pytest

from chaos.durable_run import DurableOptions, run_durable_chaos
from chaos.table import add_durable_run, chosen_seed
from chaos.test_chaos import SHORT_SEED


async def check(options: DurableOptions, folder: Path) -> None:
    result = await run_durable_chaos(options, folder)
    add_durable_run(options.runs, lost=result.lost, stuck=result.left, repeated_steps=result.repeated_steps)
    sys.stdout.write(f"\n{result}\n")
    assert not result.violations, "\n".join([*result.violations[:50], f"logs: {folder}"])


async def test_durable_runs_end_in_short_chaos(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", SHORT_SEED))
    await check(
        DurableOptions(seed, runs=60, fault_seconds=6.0, kill_interval_seconds=0.8, drain_timeout_seconds=60.0),
        tmp_path,
    )


@pytest.mark.long
async def test_durable_runs_end_in_long_chaos(tmp_path: Path) -> None:
    await check(
        DurableOptions(
            chosen_seed(), runs=2_000, fault_seconds=180.0, kill_interval_seconds=1.5, drain_timeout_seconds=300.0
        ),
        tmp_path,
    )
