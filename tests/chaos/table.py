"""The results of faults: one row each, shown together at the end of the session."""

from chaos.silence import Result, Timing

HEADER = (
    "| fault | timeouts | jobs | lost | stuck | doubled | recovery in s |",
    "| --- | --- | --- | --- | --- | --- | --- |",
)
#: The rows of this session.
rows: list[str] = []


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
    rows.append(
        f"| {result.case} | {timing.name} | {result.committed} | {_count(result.lost, lost_because)} "
        f"| {len(result.stuck)} | {_count(result.doubled, doubled_because)} | {result.recovery_seconds:.1f} |"
    )
    assert result.stuck == []
    assert lost_because is not None or result.lost == []
    assert doubled_because is not None or result.doubled == []
    assert result.recovery_seconds < timing.max_recovery_seconds


def _count(numbers: list[int], because: str | None) -> str:
    return f"{len(numbers)}: {because or 'no reason'}" if numbers else "0"
