"""Metrics of several groups with a further label."""

from jobfn.telemetry.metrics import Counter, Histogram, Metric, merge_metrics


def group(count: int) -> list[Metric]:
    jobs, seconds = Counter(), Histogram((1.0,))
    jobs.add("t", amount=count)
    seconds.observe(count, "t")
    return [
        Metric("jobs", "Jobs.", ("task",), jobs),
        Metric("seconds", "Time.", ("task",), seconds),
        Metric("up", "Up.", (), {(): float(count)}),
    ]


def test_groups_are_samples_of_the_same_metrics() -> None:
    jobs, seconds, up = merge_metrics("database", {"a": group(1), "b": group(2)})
    assert (jobs.name, jobs.labels) == ("jobs", ("database", "task"))
    assert isinstance(jobs.values, Counter)
    assert jobs.values.samples() == [(("a", "t"), 1), (("b", "t"), 2)]
    assert isinstance(seconds.values, Histogram)
    assert list(seconds.values.samples()) == [
        (("a", "t"), [("1.0", 1.0), ("+Inf", 1.0)], 1.0),
        (("b", "t"), [("1.0", 0.0), ("+Inf", 1.0)], 2.0),
    ]
    assert (up.labels, up.values) == (("database",), {("a",): 1.0, ("b",): 2.0})


def test_group_without_a_metric_is_left_out() -> None:
    merged = merge_metrics("database", {"a": group(1), "b": group(1)[2:]})
    assert [metric.name for metric in merged] == ["jobs", "seconds", "up"]
    assert merged[2].values == {("a",): 1.0, ("b",): 1.0}
