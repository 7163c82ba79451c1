"""Counters and histograms for the hot paths, as plain numbers. Pure.

``prometheus.py`` reads them for a scrape, possibly in another thread. There is no lock: a value that is one job behind
does no harm.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Labels = tuple[str, ...]

#: Default histogram buckets for run and wait times: five milliseconds to half an hour.
DURATION_BUCKETS_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
#: Maximum number of distinct values of one label. Each value is a line in every scrape and a series in Prometheus.
MAX_LABEL_VALUES: Final = 100
#: Label of all values beyond the limit. Parentheses keep it apart from real task identifiers.
OVERFLOW_LABEL: Final = "(other)"


class Counter:
    """A count for each set of labels.

    Args:
        initial: Label sets that exist from the start at 0, because ``rate()`` needs a first sample.
    """

    __slots__ = ("_counts",)

    def __init__(self, initial: Iterable[Labels] = ()) -> None:
        self._counts: dict[Labels, int] = dict.fromkeys(initial, 0)

    def labeled(self, first: str) -> "Counter":
        """Return a copy whose label sets begin with a further label."""
        labeled = Counter()
        labeled._counts = {(first, *labels): count for labels, count in self._counts.items()}
        return labeled

    def __or__(self, other: "Counter") -> "Counter":
        """Return a counter with the label sets of both, which differ."""
        both = Counter()
        both._counts = self._counts | other._counts
        return both

    def add(self, *labels: str, amount: int = 1) -> None:
        """Increase the count of one label set."""
        self._counts[labels] = self._counts.get(labels, 0) + amount

    def samples(self) -> list[tuple[Labels, float]]:
        """Return every label set with its count."""
        return list(self._counts.items())


class Histogram:
    """A distribution of values for each set of labels.

    Args:
        bounds: Inclusive upper bounds of the buckets, ascending. A ``+Inf`` bucket is added.
    """

    __slots__ = ("_bounds", "_buckets")

    def __init__(self, bounds: Sequence[float] = DURATION_BUCKETS_SECONDS) -> None:
        self._bounds = tuple(bounds)
        self._buckets: dict[Labels, _Buckets] = {}

    def labeled(self, first: str) -> "Histogram":
        """Return a view whose label sets begin with a further label."""
        labeled = Histogram(self._bounds)
        labeled._buckets = {(first, *labels): buckets for labels, buckets in self._buckets.items()}
        return labeled

    def __or__(self, other: "Histogram") -> "Histogram":
        """Return a histogram with the label sets of both, which differ."""
        both = Histogram(self._bounds)
        both._buckets = self._buckets | other._buckets
        return both

    def observe(self, value: float, *labels: str) -> None:
        """Record a value."""
        buckets = self._buckets.get(labels)
        if buckets is None:
            buckets = self._buckets[labels] = _Buckets([0] * (len(self._bounds) + 1))
        buckets.counts[bisect_left(self._bounds, value)] += 1
        buckets.total += value

    def samples(self) -> Iterator[tuple[Labels, list[tuple[str, float]], float]]:
        """Yield every label set with its cumulative buckets (upper bound as text, count) and the sum of its values."""
        for labels, buckets in list(self._buckets.items()):
            cumulative = 0
            samples: list[tuple[str, float]] = []
            for bound, count in zip((*self._bounds, None), buckets.counts, strict=True):
                cumulative += count
                samples.append(("+Inf" if bound is None else repr(bound), float(cumulative)))
            yield labels, samples, buckets.total


@dataclass(slots=True)
class _Buckets:
    """Counts per bucket, not cumulative, and the sum of all values."""

    counts: list[int]
    total: float = 0.0


class LabelLimiter:
    """Limit on the number of unknown label values, because anyone who may enqueue can invent task names."""

    __slots__ = ("_labels", "_limit")

    def __init__(self, known: Iterable[str] = (), *, limit: int = MAX_LABEL_VALUES) -> None:
        self._labels = set(known)
        self._limit = len(self._labels) + limit

    def label(self, name: str) -> str:
        """Return the name, or ``OVERFLOW_LABEL`` once the limit is reached."""
        if name not in self._labels:
            if len(self._labels) >= self._limit:
                return OVERFLOW_LABEL
            self._labels.add(name)
        return name


MetricValues = Counter | Histogram | Mapping[Labels, float]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is exposed. The type of ``values`` decides its kind; a mapping is a gauge."""

    name: str
    help: str
    labels: Labels
    values: MetricValues


def merge_metrics(label: str, groups: Mapping[str, Iterable[Metric]]) -> list[Metric]:
    """Return the metrics of several groups, with a further label for the group.

    Args:
        label: Name of the label.
        groups: The metrics by the label's value.
    """
    merged: dict[str, Metric] = {}
    for value, metrics in groups.items():
        for metric in metrics:
            values = _labeled(metric.values, value)
            if (others := merged.get(metric.name)) is not None:
                values = others.values | values  # type: ignore[operator]  # both are of the same kind
            merged[metric.name] = Metric(metric.name, metric.help, (label, *metric.labels), values)
    return list(merged.values())


def _labeled(values: MetricValues, first: str) -> MetricValues:
    if isinstance(values, Counter | Histogram):
        return values.labeled(first)
    return {(first, *labels): number for labels, number in values.items()}
