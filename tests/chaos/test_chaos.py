"""Processes are killed, and requests cut, delayed and repeated.

Still every job must run, no job may stay locked or run at the same time as another job of its queue, and every
repetition must have a cause.
"""

import os
import random
import sys
from pathlib import Path

import pytest

from chaos.run import ChaosOptions, run_chaos

SHORT_SEED = 20240607
SHORT_JOBS = 400


async def check(options: ChaosOptions, folder: Path) -> None:
    evaluation = await run_chaos(options, folder)
    sys.stdout.write(f"\n{evaluation.summary}\n")
    assert not evaluation.violations, "\n".join([*evaluation.violations, evaluation.summary, f"logs: {folder}"])


async def test_no_job_is_lost_in_short_chaos(tmp_path: Path) -> None:
    seed = int(os.environ.get("CHAOS_SEED", SHORT_SEED))
    options = ChaosOptions(seed, SHORT_JOBS, fault_seconds=15.0, kill_interval_seconds=1.8, drain_timeout_seconds=60.0)
    await check(options, tmp_path)


@pytest.mark.long
async def test_no_job_is_lost_in_long_chaos(tmp_path: Path) -> None:
    """Options: CHAOS_JOBS (5,000), CHAOS_SECONDS (600), CHAOS_SEED (random)."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**31))
    sys.stdout.write(f"\nCHAOS_SEED={seed}\n")
    jobs, seconds = int(os.environ.get("CHAOS_JOBS", "5000")), float(os.environ.get("CHAOS_SECONDS", "600"))
    options = ChaosOptions(
        seed,
        jobs,
        fault_seconds=min(seconds * 0.6, jobs / 20),
        kill_interval_seconds=3.0,
        drain_timeout_seconds=seconds * 0.3,
    )
    await check(options, tmp_path)
