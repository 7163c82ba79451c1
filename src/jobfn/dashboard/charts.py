"""The last hour as pictures: from minutes to coordinates. Pure; ``templates/charts.html`` draws the SVG.

A chart is drawn in a box of 600 by 100 that the page stretches to its own width; its words stand around it in HTML,
so that they are never stretched. The lowest value is always 0.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC

from jobfn.dashboard.render import duration
from jobfn.operations import ThroughputBucket

WIDTH, HEIGHT = 600.0, 100.0
_GAP = 2.0
#: A bar that stands for something is seen, however much higher the others are.
_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute of the throughput.

    Attributes:
        x, width: Where it stands.
        completed, failed: Its two parts, each its top and its height.
        title: What it says when pointed at.
    """

    x: float
    width: float
    completed: tuple[float, float]
    failed: tuple[float, float]
    title: str


@dataclass(frozen=True, slots=True)
class Throughput:
    """How many jobs ended in each minute.

    Attributes:
        bars: Oldest first.
        highest: What the top of the box stands for.
        completed, failed: In the whole hour.
    """

    bars: tuple[Bar, ...]
    highest: float
    completed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Durations:
    """How long runs took in each minute.

    Attributes:
        median, high: The paths of the 50th and the 95th percentile; a minute without runs breaks them.
        slots: For each minute its left edge, its width, and what it says when pointed at.
        highest: What the top of the box stands for, in seconds.
    """

    median: str
    high: str
    slots: tuple[tuple[float, float, str], ...]
    highest: float


def throughput(minutes: Sequence[ThroughputBucket]) -> Throughput:
    """The bars of these minutes."""
    highest = nice_top(max((minute.completed + minute.failed for minute in minutes), default=0), whole=True)
    width = WIDTH / max(1, len(minutes))
    bars = []
    for number, minute in enumerate(minutes):
        done, failed = _height(minute.completed, highest), _height(minute.failed, highest)
        bars.append(
            Bar(
                x=round(number * width + _GAP / 2, 2),
                width=round(width - _GAP, 2),
                completed=(round(HEIGHT - done, 2), round(done, 2)),
                failed=(round(HEIGHT - done - failed, 2), round(failed, 2)),
                title=f"{_clock(minute)}: {minute.completed:,} completed, {minute.failed:,} failed",
            )
        )
    return Throughput(
        tuple(bars),
        highest,
        sum(minute.completed for minute in minutes),
        sum(minute.failed for minute in minutes),
    )


def durations(minutes: Sequence[ThroughputBucket]) -> Durations:
    """The curves of these minutes."""
    highest = nice_top(max((minute.p95_seconds or 0.0 for minute in minutes), default=0.0))
    width = WIDTH / max(1, len(minutes))
    return Durations(
        median=_path(minutes, lambda minute: minute.p50_seconds, width=width, highest=highest),
        high=_path(minutes, lambda minute: minute.p95_seconds, width=width, highest=highest),
        slots=tuple(
            (round(number * width, 2), round(width, 2), _durations_title(minute))
            for number, minute in enumerate(minutes)
        ),
        highest=highest,
    )


def nice_top(value: float, *, whole: bool = False) -> float:
    """The next number at or above it that reads well, such as 1.5, 40 or 800; 1 for nothing, 2 or more for jobs."""
    if value <= 0:
        return 1.0
    if whole and value <= 2:
        return 2.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(round(step * power, 9) for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))


def _height(number: float, highest: float) -> float:
    return max(_LEAST, HEIGHT * number / highest) if number else 0.0


def _path(
    minutes: Sequence[ThroughputBucket],
    value_of: Callable[[ThroughputBucket], float | None],
    *,
    width: float,
    highest: float,
) -> str:
    """A path through the middles of the minutes; one that stands alone becomes a dot."""
    parts: list[str] = []
    is_broken = True
    for number, minute in enumerate(minutes):
        value = value_of(minute)
        if value is not None:
            x, y = (number + 0.5) * width, HEIGHT - HEIGHT * min(value, highest) / highest
            parts.append(f"M{x:.2f} {y:.2f}h.01" if is_broken else f"L{x:.2f} {y:.2f}")
        is_broken = value is None
    return "".join(parts)


def _clock(minute: ThroughputBucket) -> str:
    return f"{minute.at.astimezone(UTC):%H:%M} UTC"


def _durations_title(minute: ThroughputBucket) -> str:
    if minute.p50_seconds is None:
        return f"{_clock(minute)}: nothing ran"
    return f"{_clock(minute)}: half within {duration(minute.p50_seconds)}, 95 % within {duration(minute.p95_seconds)}"
