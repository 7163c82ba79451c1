"""Counters and histograms as plain numbers: what the hot paths touch. Pure.

They are read when somebody scrapes (``text.py``), in the same thread or another: a number that is a job behind does no
harm, so there is no lock.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Labels = tuple[str, ...]

#: What a job may take, and what it may wait, in seconds: from five milliseconds to half an hour.
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
#: Of one kind of name so many become labels. Each is a row in every scrape, and in Prometheus' memory.
MAX_NAMES: Final = 100
#: What all further ones are called. No task is called so by accident.
OTHER: Final = "(other)"


class Counts:
    """A counter for each set of labels.

    Args:
        known: Labels that are there from the start, at 0: a rate needs a number to begin with.
    """

    __slots__ = ("_counts",)

    def __init__(self, known: Iterable[Labels] = ()) -> None:
        self._counts: dict[Labels, int] = dict.fromkeys(known, 0)

    def add(self, *labels: str, times: int = 1) -> None:
        """Count something, or several at once."""
        self._counts[labels] = self._counts.get(labels, 0) + times

    def samples(self) -> list[tuple[Labels, float]]:
        """All labels, each with its count."""
        return list(self._counts.items())


class Histogram:
    """How values are spread, for each set of labels.

    Args:
        bounds: The upper bounds of the buckets, ascending; a value at a bound is within it. A last one, without
            bound, is always there.
    """

    __slots__ = ("_bounds", "_spreads")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds = tuple(bounds)
        self._spreads: dict[Labels, _Spread] = {}

    def observe(self, value: float, *labels: str) -> None:
        """Take a value in."""
        spread = self._spreads.get(labels)
        if spread is None:
            spread = self._spreads[labels] = _Spread([0] * (len(self._bounds) + 1))
        spread.counts[bisect_left(self._bounds, value)] += 1
        spread.total += value

    def samples(self) -> Iterator[tuple[Labels, list[tuple[str, float]], float]]:
        """All labels, each with its buckets (upper bound as text, and how many values up to there) and the sum."""
        for labels, spread in list(self._spreads.items()):
            counted = 0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*self._bounds, None), spread.counts, strict=True):
                counted += count
                buckets.append(("+Inf" if bound is None else repr(bound), float(counted)))
            yield labels, buckets, spread.total


@dataclass(slots=True)
class _Spread:
    """How many values fell into each bucket, and their sum."""

    counts: list[int]
    total: float = 0.0


class Names:
    """Bounds how many names become labels: whoever may enqueue chooses the names of tasks.

    Args:
        known: Names that are labels in any case.
        limit: How many others may become some.
    """

    __slots__ = ("_known", "_room")

    def __init__(self, known: Iterable[str] = (), *, limit: int = MAX_NAMES) -> None:
        self._known = {name: name for name in known}
        self._room = limit

    def label(self, name: str) -> str:
        """The name itself, or ``OTHER`` when there are too many already."""
        label = self._known.get(name)
        if label is not None:
            return label
        if self._room <= 0:
            return OTHER
        self._room -= 1
        self._known[name] = name
        return name


@dataclass(frozen=True, slots=True)
class Family:
    """One metric, as it is exposed.

    Attributes:
        name: With its unit, and ``_total`` where it is a counter.
        help: What it says, in one line.
        labels: The labels' names.
        kind: A counter, a gauge or a histogram.
        values: The numbers: of a gauge, by its labels' values.
    """

    name: str
    help: str
    labels: Labels
    kind: Literal["counter", "gauge", "histogram"]
    values: Counts | Histogram | Mapping[Labels, float]


def counter(name: str, text: str, labels: Labels, values: Counts) -> Family:
    """A counter."""
    return Family(name, text, labels, "counter", values)


def gauge(name: str, text: str, values: Mapping[Labels, float], labels: Labels = ()) -> Family:
    """A gauge."""
    return Family(name, text, labels, "gauge", values)


def histogram(name: str, text: str, labels: Labels, values: Histogram) -> Family:
    """A histogram."""
    return Family(name, text, labels, "histogram", values)
