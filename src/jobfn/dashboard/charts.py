"""Compute the coordinates of the charts of the last hour. Pure; ``templates/charts.html`` writes the SVG.

A chart is a box of 600 by 100 that is stretched to the width of the page. Its labels are HTML outside of the SVG, so
that they are not stretched. The bottom of the box is 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Final

from jobfn.dashboard.render import duration
from jobfn.operations import ThroughputBucket

WIDTH: Final = 600.0
HEIGHT: Final = 100.0
_GAP: Final = 2.0
#: Minimum height of a bar, so that a single job is visible.
_MIN_BAR_HEIGHT: Final = 1.5
#: Leading digits of axis maximums.
_ROUND_NUMBERS: Final = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute of the throughput chart."""

    x: float
    width: float
    completed: tuple[float, float]
    failed: tuple[float, float]
    title: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """Number of jobs that ended in each minute."""

    bars: tuple[Bar, ...]
    maximum: float
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Durations:
    """Duration of the attempts in each minute.

    Attributes:
        p50, p95: SVG paths of the median and the 95th percentile, interrupted at minutes without attempts.
        tooltips: Left edge, width and text of each minute's tooltip.
        maximum: Duration at the top of the box, in seconds.
    """

    p50: str
    p95: str
    tooltips: tuple[tuple[float, float, str], ...]
    maximum: float


def throughput(minutes: Sequence[ThroughputBucket]) -> Throughput:
    """Return the bars of the throughput chart."""
    maximum = axis_maximum(max((minute.completed + minute.failed for minute in minutes), default=0), is_integer=True)
    width = WIDTH / max(1, len(minutes))
    bars = []
    for index, minute in enumerate(minutes):
        completed, failed = _bar_height(minute.completed, maximum), _bar_height(minute.failed, maximum)
        bars.append(
            Bar(
                x=round(index * width + _GAP / 2, 2),
                width=round(width - _GAP, 2),
                completed=(round(HEIGHT - completed, 2), round(completed, 2)),
                failed=(round(HEIGHT - completed - failed, 2), round(failed, 2)),
                title=f"{_clock(minute)}: {minute.completed:,} completed, {minute.failed:,} failed",
            )
        )
    return Throughput(
        tuple(bars), maximum, sum(minute.completed for minute in minutes), sum(minute.failed for minute in minutes)
    )


def durations(minutes: Sequence[ThroughputBucket]) -> Durations:
    """Return the curves of the duration chart."""
    maximum = axis_maximum(max((minute.p95_seconds or 0.0 for minute in minutes), default=0.0))
    width = WIDTH / max(1, len(minutes))
    return Durations(
        p50=_path(minutes, lambda minute: minute.p50_seconds, width=width, maximum=maximum),
        p95=_path(minutes, lambda minute: minute.p95_seconds, width=width, maximum=maximum),
        tooltips=tuple(
            (round(index * width, 2), round(width, 2), _durations_title(minute)) for index, minute in enumerate(minutes)
        ),
        maximum=maximum,
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
    minutes: Sequence[ThroughputBucket],
    value_of: Callable[[ThroughputBucket], float | None],
    *,
    width: float,
    maximum: float,
) -> str:
    """Return a path through the minutes; a minute between two gaps becomes a dot."""
    parts: list[str] = []
    is_interrupted = True
    for index, minute in enumerate(minutes):
        value = value_of(minute)
        if value is not None:
            x, y = (index + 0.5) * width, HEIGHT - HEIGHT * min(value, maximum) / maximum
            parts.append(f"M{x:.2f} {y:.2f}h.01" if is_interrupted else f"L{x:.2f} {y:.2f}")
        is_interrupted = value is None
    return "".join(parts)


def _clock(minute: ThroughputBucket) -> str:
    return f"{minute.at.astimezone(UTC):%H:%M} UTC"


def _durations_title(minute: ThroughputBucket) -> str:
    if minute.p50_seconds is None:
        return f"{_clock(minute)}: no attempts"
    return f"{_clock(minute)}: median {duration(minute.p50_seconds)}, 95th percentile {duration(minute.p95_seconds)}"
