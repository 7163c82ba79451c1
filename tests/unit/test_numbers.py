"""Counters, histograms and their text: what a scrape reads is what happened."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobfn.telemetry.metrics import OVERFLOW_LABEL, Counter, Histogram, LabelLimiter, Metric
from jobfn.telemetry.prometheus import scrape


def exposed(*families: Metric) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """The samples that a scrape of these holds, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(bytes(scrape(families).body).decode())
        for sample in family.samples
    }


def test_a_counter_counts_by_its_labels() -> None:
    """What is known from the start is there at 0; several at once count as several."""
    counts = Counter([("done",), ("never",)])
    counts.add("done")
    counts.add("done", amount=2)
    counts.add("else")
    assert dict(counts.samples()) == {("done",): 3, ("never",): 0, ("else",): 1}


def test_a_histogram_keeps_bounds_sum_and_count() -> None:
    """A value at a bound is within it; one beyond the last is in the bucket without one."""
    spread = Histogram((1, 10))
    for value in (0.5, 1, 2, 100):
        spread.observe(value, "a")
    assert list(spread.samples()) == [(("a",), [("1", 2.0), ("10", 3.0), ("+Inf", 4.0)], 103.5)]


def test_names_are_bounded() -> None:
    """Known ones are always labels; of others as many as fit, and those stay; the rest is one label."""
    names = LabelLimiter(["known"], limit=2)
    assert [names.label(name) for name in ("a", "b", "c", "a", "known", "d")] == [
        "a",
        "b",
        OVERFLOW_LABEL,
        "a",
        "known",
        OVERFLOW_LABEL,
    ]


def test_a_scrape_has_every_kind() -> None:
    """Counters, gauges and histograms, each with labels and without, read by Prometheus' own parser."""
    counts, spread = Counter([()]), Histogram((1.0,))
    counts.add()
    spread.observe(0.5, "x")
    samples = exposed(
        Metric("things_total", "Things.", (), counts),
        Metric("wait_seconds", "Waits.", ("task",), spread),
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
def test_any_task_name_is_a_label(name: str) -> None:
    """Quotes, line ends and whatever else a name holds come back as they were."""
    counts = Counter()
    counts.add(name)
    assert exposed(Metric("jobs_total", "Jobs.", ("task",), counts))["jobs_total", (("task", name),)] == 1


def test_a_scrape_also_says_how_the_process_is() -> None:
    """Memory and CPU come from prometheus-client's own registry, and so does what a handler's code registers there."""
    assert ("process_resident_memory_bytes", ()) in exposed()
