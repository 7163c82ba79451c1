"""Everything is killed, cut, delayed and repeated, and yet every job is done, none stays locked, none runs beside
another of its queue, and what is done twice has a reason."""

import os
import random
import sys
from pathlib import Path

import pytest

from chaos.run import Form, run

SHORT_SEED = 20240607
SHORT_JOBS = 400


async def check(form: Form, folder: Path) -> None:
    verdict = await run(form, folder)
    sys.stdout.write(f"\n{verdict.figures}\n")
    assert not verdict.troubles, "\n".join([*verdict.troubles, verdict.figures, f"logs: {folder}"])


async def test_nothing_is_lost_in_half_a_minute_of_chaos(tmp_path: Path) -> None:
    """Some hundred jobs while each process, PostgreSQL too, is killed at least once."""
    seed = int(os.environ.get("CHAOS_SEED", SHORT_SEED))
    await check(Form(seed, SHORT_JOBS, seconds=15.0, kill_every_seconds=1.8, calm_seconds=60.0), tmp_path)


@pytest.mark.long
async def test_nothing_is_lost_in_minutes_of_chaos(tmp_path: Path) -> None:
    """CHAOS_JOBS jobs (5,000) within CHAOS_SECONDS (600), from CHAOS_SEED or a seed of the moment."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**31))
    sys.stdout.write(f"\nCHAOS_SEED={seed}\n")
    jobs, seconds = int(os.environ.get("CHAOS_JOBS", "5000")), float(os.environ.get("CHAOS_SECONDS", "600"))
    breaking = min(seconds * 0.6, jobs / 20)
    await check(Form(seed, jobs, breaking, kill_every_seconds=3.0, calm_seconds=seconds * 0.3), tmp_path)
