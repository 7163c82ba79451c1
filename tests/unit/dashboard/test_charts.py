"""Coordinates of the charts."""

from datetime import UTC, datetime, timedelta

import pytest

from jobfn.dashboard.charts import SCALES, axis_maximum, durations, throughput
from jobfn.operations import ThroughputBucket, TimeRange

HOUR = SCALES[TimeRange.HOUR]
START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def minute(number: int, completed: int = 0, failed: int = 0, p50: float | None = None) -> ThroughputBucket:
    return ThroughputBucket(
        START + timedelta(minutes=number),
        completed,
        failed,
        p50_seconds=p50,
        p95_seconds=None if p50 is None else 2 * p50,
    )


@pytest.mark.parametrize(
    ("value", "maximum"),
    [(0, 1), (0.03, 0.03), (1, 1), (1.01, 1.5), (4, 4), (5.1, 6), (99, 100), (101, 150), (1e6, 1e6)],
)
def test_axis_maximum_is_a_round_number(value: float, maximum: float) -> None:
    assert axis_maximum(value) == maximum


def test_failed_bars_are_stacked_on_completed_bars() -> None:
    chart = throughput([minute(0, 60, 40), minute(1), minute(2, 1000, 1)], HOUR)
    assert (chart.maximum, chart.completed, chart.failed) == (1500, 1060, 41)
    first, empty, last = chart.bars
    assert (first.completed, first.failed) == ((96, 4), (93.33, 2.67))
    assert (empty.completed[1], empty.failed[1]) == (0, 0)
    assert (last.completed, last.failed) == ((33.33, 66.67), (31.83, 1.5))
    assert (last.x, last.width) == (401, 198)
    assert first.title == "12:00 UTC: 60 completed, 40 failed"


def test_curves_are_interrupted_at_minutes_without_attempts() -> None:
    chart = durations([minute(0, 1, p50=1), minute(1, 1, p50=2), minute(2), minute(3, 1, p50=0.5)], HOUR)
    assert chart.maximum == 4
    assert chart.p50 == "M75.00 75.00h.01L225.00 50.00M525.00 87.50h.01"
    assert [title for _, _, title in chart.tooltips][2:] == [
        "12:02 UTC: no attempts",
        "12:03 UTC: median 500 ms, 95th percentile 1 s",
    ]


def test_charts_without_jobs_are_empty() -> None:
    assert throughput([minute(number) for number in range(60)], HOUR).maximum == 1
    assert durations([minute(number) for number in range(60)], HOUR).p50 == ""


def test_periods_of_longer_ranges_are_named_with_their_day() -> None:
    assert throughput([minute(0, 1)], SCALES[TimeRange.DAY]).bars[0].title.startswith("Tue 12:00 UTC: 1 completed")
    assert durations([minute(0, 1)], SCALES[TimeRange.WEEK]).tooltips[0][2] == "Tue 24 Nov 12:00 UTC: no attempts"
