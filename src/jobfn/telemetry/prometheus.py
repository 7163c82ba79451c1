"""From numbers to Prometheus' text format, when somebody scrapes. Only this loads prometheus-client.

What a process says of itself (memory, CPU, file descriptors), and metrics that a handler's own code registers with
prometheus-client, come after ours: one scrape has all of them.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from starlette.responses import Response

from jobfn.telemetry.metrics import Counts, Family, Histogram

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

#: The oldest text format, which whoever scrapes understands; nothing here needs a newer one.
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def scrape(families: Iterable[Family]) -> Response:
    """The answer to a scrape: these, and what prometheus-client's own registry holds."""
    from prometheus_client import REGISTRY  # noqa: PLC0415  - 20 ms and 0.8 MB, for those who are scraped
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415  - as above

    body = generate_latest(_Ours(families)) + generate_latest(REGISTRY)
    return Response(body, headers={"Content-Type": _CONTENT_TYPE, "Cache-Control": "no-store"})


class _Ours:
    """A collector, as prometheus-client reads one.

    Args:
        families: What to collect.
    """

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> "Iterator[Metric]":
        return map(_metric, self._families)


def _metric(family: Family) -> "Metric":
    from prometheus_client.metrics_core import (  # noqa: PLC0415  - as above
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if isinstance(family.values, Histogram):
        histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
        for labels, buckets, total in family.values.samples():
            histogram.add_metric(labels, buckets, total)
        return histogram
    if isinstance(family.values, Counts):
        counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
        for labels, count in family.values.samples():
            counter.add_metric(labels, count)
        return counter
    gauge = GaugeMetricFamily(family.name, family.help, labels=family.labels)
    for labels, value in family.values.items():
        gauge.add_metric(labels, value)
    return gauge
