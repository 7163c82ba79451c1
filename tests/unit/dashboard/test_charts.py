"""Minutes become coordinates, and nothing is drawn that was not."""

from datetime import UTC, datetime, timedelta

import pytest

from jobfn.dashboard.charts import HEIGHT, WIDTH, durations, nice_top, throughput
from jobfn.operations import ThroughputBucket

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def minute(number: int, completed: int = 0, failed: int = 0, p50: float | None = None) -> ThroughputBucket:
    """One minute; its 95th percentile is twice its median."""
    return ThroughputBucket(
        START + timedelta(minutes=number),
        completed,
        failed,
        p50_seconds=p50,
        p95_seconds=None if p50 is None else 2 * p50,
    )


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.03, 0.03), (1, 1), (1.01, 1.5), (4, 4), (5.1, 6), (99, 100), (101, 150), (1e6, 1e6)]
)
def test_the_top_reads_well(value: float, top: float) -> None:
    """A round number, never below the highest value, and never far above it."""
    assert nice_top(value) == top


def test_bars_stand_on_each_other() -> None:
    """Failed ones on completed ones; the highest fits; one of a thousand is still seen."""
    drawn = throughput([minute(0, 60, 40), minute(1), minute(2, 1000, 1)])
    assert (drawn.highest, drawn.completed, drawn.failed) == (1500, 1060, 41)
    first, empty, last = drawn.bars
    assert first.completed[0] + first.completed[1] == HEIGHT
    assert first.failed[0] + first.failed[1] == pytest.approx(first.completed[0], abs=0.02)
    assert (empty.completed[1], empty.failed[1]) == (0, 0)
    assert last.failed[1] > 1
    assert last.x + last.width <= WIDTH
    assert first.title == "12:00 UTC: 60 completed, 40 failed"


def test_curves_break_where_nothing_ran() -> None:
    """A minute between two gaps is a dot."""
    drawn = durations([minute(0, 1, p50=1), minute(1, 1, p50=2), minute(2), minute(3, 1, p50=0.5)])
    assert drawn.highest == 4
    assert drawn.median == "M75.00 75.00h.01L225.00 50.00M525.00 87.50h.01"
    assert [title for _, _, title in drawn.slots][2:] == [
        "12:02 UTC: nothing ran",
        "12:03 UTC: half within 500 ms, 95 % within 1 s",
    ]


def test_an_hour_without_jobs_is_an_empty_box() -> None:
    """No bar, no curve, no division by nothing."""
    assert throughput([minute(number) for number in range(60)]).highest == 1
    assert durations([minute(number) for number in range(60)]).median == ""
