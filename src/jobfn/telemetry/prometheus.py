"""Metrics in Prometheus' text format. Only this module loads prometheus-client, on the first scrape.

The output ends with prometheus-client's own registry: process metrics (memory, CPU, file descriptors) and the metrics
that a user's handlers register.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from starlette.responses import Response

from jobfn.telemetry.metrics import Counter, Histogram, Metric

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as PrometheusMetric

#: The oldest text format, which every scraper understands.
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def scrape(metrics: Iterable[Metric]) -> Response:
    """Return the response to a scrape: these metrics and prometheus-client's own registry."""
    from prometheus_client import REGISTRY  # noqa: PLC0415  - 20 ms and 0.8 MB, only when scraped
    from prometheus_client.exposition import generate_latest  # noqa: PLC0415  - as above

    body = generate_latest(_Collector(metrics)) + generate_latest(REGISTRY)
    return Response(body, headers={"Content-Type": _CONTENT_TYPE, "Cache-Control": "no-store"})


class _Collector:
    """A prometheus-client collector."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> "Iterator[PrometheusMetric]":
        return map(_to_prometheus, self._metrics)


def _to_prometheus(metric: Metric) -> "PrometheusMetric":
    from prometheus_client.metrics_core import (  # noqa: PLC0415  - as above
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )

    if isinstance(metric.values, Histogram):
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, buckets, total in metric.values.samples():
            histogram.add_metric(labels, buckets, total)
        return histogram
    if isinstance(metric.values, Counter):
        counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for labels, count in metric.values.samples():
            counter.add_metric(labels, count)
        return counter
    gauge = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in metric.values.items():
        gauge.add_metric(labels, value)
    return gauge
