"""The results of faults: one row each, shown together at the end of the session, as docs/production.md has them."""

import functools
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from chaos.evaluation import Evaluation
from chaos.silence import Result, Timing
from chaos.single_fault import Outcome

HEADER = (
    "| fault | jobs | lost | stuck | doubled | recovery in s |",
    "| --- | ---: | ---: | ---: | --- | ---: |",
)
#: The rows of this session.
rows: list[str] = []


@functools.cache
def chosen_seed() -> int:
    """Return CHAOS_SEED, or a random number for this session, which the output shows."""
    seed = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(2**31))
    sys.stdout.write(f"\nCHAOS_SEED={seed}\n")
    return seed


def lines() -> Iterator[str]:
    """Yield the lines of the table, with the date and the seed."""
    yield f"On {datetime.now(UTC):%Y-%m-%d}, CHAOS_SEED={chosen_seed()}:"
    yield ""
    yield from (*HEADER, *rows)


def check(
    result: Result, timing: Timing, *, doubled_because: str | None = None, lost_because: str | None = None
) -> None:
    """Add a row. Fail if jobs are stuck or it took too long, or if jobs are lost or doubled for no reason.

    Args:
        result: The result of a fault.
        timing: The durations of its run.
        doubled_because: Why jobs may run twice. Default: they may not.
        lost_because: Why jobs may be lost. Default: they may not.
    """
    _add(
        f"{result.case}, {timing.name} timeouts",
        result.committed,
        _count(len(result.lost), lost_because),
        len(result.stuck),
        _count(len(result.doubled), doubled_because),
        result.recovery_seconds,
    )
    assert result.stuck == []
    assert lost_because is not None or result.lost == []
    assert doubled_because is not None or result.doubled == []
    assert result.recovery_seconds < timing.max_recovery_seconds


def add_outcome(outcome: Outcome) -> None:
    """Add the row of a single fault."""
    _add(
        outcome.case,
        outcome.jobs,
        str(len(outcome.lost)),
        len(outcome.stuck),
        _causes(outcome.causes),
        outcome.recovery_seconds,
    )


def add_evaluation(case: str, evaluation: Evaluation) -> None:
    """Add the row of a run with many faults, which has no recovery: the faults overlap."""
    _add(case, evaluation.jobs, str(evaluation.lost), evaluation.stuck, _causes(evaluation.doubled), None)


def add_durable_run(runs: int, *, lost: int, stuck: int, repeated_steps: int) -> None:
    """Add the row of a run of durable functions."""
    doubled = _count(repeated_steps, "steps in which a process died")
    _add("durable functions, processes killed", runs, str(lost), stuck, doubled, None)


def _add(case: str, jobs: int, lost: str, stuck: int, doubled: str, recovery_seconds: float | None) -> None:
    recovery = "" if recovery_seconds is None else f"{recovery_seconds:.1f}"
    rows.append(f"| {case} | {jobs} | {lost} | {stuck} | {doubled} | {recovery} |")


def _count(count: int, because: str | None) -> str:
    return f"{count}: {because or 'no reason'}" if count else "0"


def _causes(causes: Counter[str]) -> str:
    if not causes:
        return "0"
    return f"{causes.total()}: " + ", ".join(f"{cause} {count}" for cause, count in causes.most_common())
