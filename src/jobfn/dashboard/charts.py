"""Compute the coordinates of the charts of the history. Pure; ``templates/charts.html`` writes the SVG.

A chart is a box of 600 by 100 that is stretched to the width of the page. Its labels are HTML outside of the SVG, so
that they are not stretched. The bottom of the box is 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from jobfn.dashboard.render import duration
from jobfn.operations import ThroughputBucket, TimeRange

WIDTH: Final = 600.0
HEIGHT: Final = 100.0
_GAP: Final = 2.0
#: Minimum height of a bar, so that a single job is visible.
_MIN_BAR_HEIGHT: Final = 1.5
#: Leading digits of axis maximums.
_ROUND_NUMBERS: Final = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Scale:
    """Texts of a range of time.

    Attributes:
        period: Name of a period.
        span: Name of the range.
        labels: Labels of the axis; narrow screens show every other one.
        clock: Format of the time of a period.
    """

    period: str
    span: str
    labels: tuple[str, str, str, str, str]
    clock: str


SCALES: Final = {
    TimeRange.HOUR: Scale("minute", "the last hour", ("1 h ago", "45 min", "30 min", "15 min", "now"), "%H:%M"),
    TimeRange.DAY: Scale("15 minutes", "the last 24 hours", ("24 h ago", "18 h", "12 h", "6 h", "now"), "%a %H:%M"),
    TimeRange.WEEK: Scale(
        "2 hours", "the last 7 days", ("7 d ago", "5 d 6 h", "3 d 12 h", "1 d 18 h", "now"), "%a %d %b %H:%M"
    ),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One period of the throughput chart."""

    x: float
    width: float
    completed: tuple[float, float]
    failed: tuple[float, float]
    title: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """Number of jobs that ended in each period."""

    bars: tuple[Bar, ...]
    maximum: float
    completed: int
    failed: int
    scale: Scale


@dataclass(frozen=True, slots=True)
class Durations:
    """Duration of the attempts in each period.

    Attributes:
        p50, p95: SVG paths of the median and the 95th percentile, interrupted at periods without attempts.
        tooltips: Left edge, width and text of each period's tooltip.
        maximum: Duration at the top of the box, in seconds.
    """

    p50: str
    p95: str
    tooltips: tuple[tuple[float, float, str], ...]
    maximum: float
    scale: Scale


def throughput(periods: Sequence[ThroughputBucket], scale: Scale) -> Throughput:
    """Return the bars of the throughput chart."""
    maximum = axis_maximum(max((period.completed + period.failed for period in periods), default=0), is_integer=True)
    width = WIDTH / max(1, len(periods))
    bars = []
    for index, period in enumerate(periods):
        completed, failed = _bar_height(period.completed, maximum), _bar_height(period.failed, maximum)
        bars.append(
            Bar(
                x=round(index * width + _GAP / 2, 2),
                width=round(width - _GAP, 2),
                completed=(round(HEIGHT - completed, 2), round(completed, 2)),
                failed=(round(HEIGHT - completed - failed, 2), round(failed, 2)),
                title=f"{_clock(period, scale)}: {period.completed:,} completed, {period.failed:,} failed",
            )
        )
    return Throughput(
        tuple(bars),
        maximum,
        sum(period.completed for period in periods),
        sum(period.failed for period in periods),
        scale,
    )


def durations(periods: Sequence[ThroughputBucket], scale: Scale) -> Durations:
    """Return the curves of the duration chart."""
    maximum = axis_maximum(max((period.p95_seconds or 0.0 for period in periods), default=0.0))
    width = WIDTH / max(1, len(periods))
    return Durations(
        p50=_path(periods, lambda period: period.p50_seconds, width=width, maximum=maximum),
        p95=_path(periods, lambda period: period.p95_seconds, width=width, maximum=maximum),
        tooltips=tuple(
            (round(index * width, 2), round(width, 2), _durations_title(period, scale))
            for index, period in enumerate(periods)
        ),
        maximum=maximum,
        scale=scale,
    )


def axis_maximum(value: float, *, is_integer: bool = False) -> float:
    """Round up to a readable number, for example 1.5, 40 or 800; at least 1 for zero and 2 for integers."""
    if value <= 0:
        return 1.0
    if is_integer and value <= 2:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(round(step * power, 9) for step in _ROUND_NUMBERS if step * power >= value * (1 - 1e-9))


def _bar_height(number: float, maximum: float) -> float:
    return max(_MIN_BAR_HEIGHT, HEIGHT * number / maximum) if number else 0.0


def _path(
    periods: Sequence[ThroughputBucket],
    value_of: Callable[[ThroughputBucket], float | None],
    *,
    width: float,
    maximum: float,
) -> str:
    """Return a path through the periods; a period between two gaps becomes a dot."""
    parts: list[str] = []
    is_interrupted = True
    for index, period in enumerate(periods):
        value = value_of(period)
        if value is not None:
            x, y = (index + 0.5) * width, HEIGHT - HEIGHT * min(value, maximum) / maximum
            parts.append(f"M{x:.2f} {y:.2f}h.01" if is_interrupted else f"L{x:.2f} {y:.2f}")
        is_interrupted = value is None
    return "".join(parts)


def _clock(period: ThroughputBucket, scale: Scale) -> str:
    return f"{period.at.astimezone(UTC):{scale.clock}} UTC"


def _durations_title(period: ThroughputBucket, scale: Scale) -> str:
    if period.p50_seconds is None:
        return f"{_clock(period, scale)}: no attempts"
    high = duration(period.p95_seconds)
    return f"{_clock(period, scale)}: median {duration(period.p50_seconds)}, 95th percentile {high}"
