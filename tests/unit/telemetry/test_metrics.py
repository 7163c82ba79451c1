import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobfn.telemetry.metrics import Counter, Histogram, LabelLimiter, Metric
from jobfn.telemetry.prometheus import scrape


def scraped(*metrics: Metric) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the samples of a scrape by name and labels, read by Prometheus' own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(bytes(scrape(metrics).body).decode())
        for sample in family.samples
    }


def test_counter_counts_by_labels_from_zero() -> None:
    counter = Counter([("done",), ("never",)])
    counter.add("done")
    counter.add("done", amount=2)
    counter.add("else")
    assert dict(counter.samples()) == {("done",): 3, ("never",): 0, ("else",): 1}


def test_histogram_buckets_are_cumulative_and_include_their_bound() -> None:
    histogram = Histogram((1, 10))
    for value in (0.5, 1, 2, 100):
        histogram.observe(value, "a")
    assert list(histogram.samples()) == [(("a",), [("1", 2.0), ("10", 3.0), ("+Inf", 4.0)], 103.5)]


def test_label_limiter_replaces_names_beyond_the_limit() -> None:
    limiter = LabelLimiter(["known"], limit=2)
    labels = [limiter.label(name) for name in ("a", "b", "c", "a", "known", "d")]
    assert labels == ["a", "b", "(other)", "a", "known", "(other)"]


def test_scrape_exposes_counters_histograms_and_gauges() -> None:
    counter, histogram = Counter([()]), Histogram((1.0,))
    counter.add()
    histogram.observe(0.5, "x")
    samples = scraped(
        Metric("things_total", "Things.", (), counter),
        Metric("wait_seconds", "Waits.", ("task",), histogram),
        Metric("now", "Now.", ("state",), {("x",): 2.0}),
        Metric("alone", "Alone.", (), {(): 7.0}),
    )
    assert samples["things_total", ()] == 1
    assert samples["wait_seconds_bucket", (("le", "1.0"), ("task", "x"))] == 1
    assert samples["wait_seconds_count", (("task", "x"),)] == 1
    assert samples["wait_seconds_sum", (("task", "x"),)] == 0.5
    assert samples["now", (("state", "x"),)] == 2
    assert samples["alone", ()] == 7


@pytest.mark.parametrize("name", ['say "hello"', "back\\slash", "a\nb", "работа", "{}", "\U0001f600"])
def test_scrape_escapes_label_values(name: str) -> None:
    counter = Counter()
    counter.add(name)
    assert scraped(Metric("jobs_total", "Jobs.", ("task",), counter))["jobs_total", (("task", name),)] == 1


def test_scrape_includes_prometheus_client_s_own_registry() -> None:
    assert ("process_resident_memory_bytes", ()) in scraped()
