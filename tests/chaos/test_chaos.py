"""Processes are killed, and requests cut, delayed and repeated, in each settlement mode.

Still every job must run, no job may stay locked or run at the same time as another job of its queue, and every
repetition must have a cause.
"""

import os
import sys
from pathlib import Path

import pytest

from chaos.evaluation import Evaluation
from chaos.faults import worker_names
from chaos.options import ChaosOptions
from chaos.run import run_chaos
from chaos.table import add_evaluation, chosen_seed
from jobfn.worker.settings import SettlementMode

SHORT_SEED = 20240607
KILLS_AND_CUTS = "processes killed, requests cut, delayed and repeated"


async def check(options: ChaosOptions, folder: Path, faults: str) -> Evaluation:
    evaluation = await run_chaos(options, folder)
    add_evaluation(f"{faults}, {' and '.join(dict.fromkeys(options.modes))}", evaluation)
    sys.stdout.write(f"\n{evaluation.summary}\n")
    assert not evaluation.violations, "\n".join([*evaluation.violations, evaluation.summary, f"logs: {folder}"])
    return evaluation


async def test_no_job_is_lost_in_short_chaos_of_all_modes(tmp_path: Path) -> None:
    options = ChaosOptions(
        modes=tuple(SettlementMode),
        seed=int(os.environ.get("CHAOS_SEED", SHORT_SEED)),
        jobs=500,
        fault_seconds=15.0,
        kill_interval_seconds=1.8,
        drain_timeout_seconds=60.0,
        min_batched_jobs=0,  # of each mode: a busy machine may deliver its few jobs alone
    )
    evaluation = await check(options, tmp_path, KILLS_AND_CUTS)
    assert evaluation.batched >= 2


@pytest.mark.long
@pytest.mark.parametrize("mode", SettlementMode)
async def test_no_job_is_lost_in_long_chaos(mode: SettlementMode, tmp_path: Path) -> None:
    """Options, divided among the modes: CHAOS_JOBS (3,600), CHAOS_SECONDS (450). CHAOS_SEED (random)."""
    jobs = int(os.environ.get("CHAOS_JOBS", "3600")) // len(SettlementMode)
    seconds = float(os.environ.get("CHAOS_SECONDS", "450")) / len(SettlementMode)
    options = ChaosOptions(
        modes=(mode, mode),
        seed=chosen_seed(),
        jobs=jobs,
        fault_seconds=min(seconds * 0.6, jobs / 25),
        kill_interval_seconds=3.0,
        drain_timeout_seconds=seconds * 0.4,
        min_batched_jobs=jobs // 40,
    )
    await check(options, tmp_path, KILLS_AND_CUTS)


@pytest.mark.long
@pytest.mark.parametrize("mode", SettlementMode)
async def test_no_job_is_lost_when_busy_workers_are_killed(mode: SettlementMode, tmp_path: Path) -> None:
    options = ChaosOptions(
        modes=(mode, mode),
        seed=chosen_seed(),
        jobs=6_000,
        fault_seconds=20.0,
        kill_interval_seconds=2.5,
        drain_timeout_seconds=150.0,
        min_batched_jobs=150,
        quick_share=1.0,
        kill_targets=worker_names((mode, mode)),
        injects_faults=False,
    )
    await check(options, tmp_path, "busy workers killed")


@pytest.mark.long
async def test_no_job_is_repeated_when_processes_are_restarted(tmp_path: Path) -> None:
    options = ChaosOptions(
        modes=tuple(SettlementMode),
        seed=chosen_seed(),
        jobs=1_000,
        fault_seconds=20.0,
        drain_timeout_seconds=90.0,
        min_batched_jobs=2,
        restarts=True,
        injects_faults=False,
    )
    await check(options, tmp_path, "processes restarted")
