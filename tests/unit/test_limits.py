from datetime import timedelta

import pytest

from jobfn.errors import ConfigurationError
from jobfn.limits import Rate, check_concurrency, check_per, parse_rate


@pytest.mark.parametrize(
    ("text", "count", "seconds", "normal"),
    [
        ("100/minute", 100, 60, "100/minute"),
        ("10/s", 10, 1, "10/second"),
        (" 5 / 30 Seconds ", 5, 30, "5/30 seconds"),
        ("5/30s", 5, 30, "5/30 seconds"),
        ("500/15 minutes", 500, 900, "500/15 minutes"),
        ("120/60sec", 120, 60, "120/minute"),
        ("1/2h", 1, 7200, "1/2 hours"),
        ("1000000/31 days", 1_000_000, 31 * 86400, "1000000/31 days"),
    ],
)
def test_a_rate_is_a_number_of_starts_per_time(text: str, count: int, seconds: int, normal: str) -> None:
    assert parse_rate(text) == Rate(count, timedelta(seconds=seconds))
    assert str(parse_rate(text)) == normal


@pytest.mark.parametrize(
    "text", ["", "100", "100/", "/minute", "1.5/s", "-1/s", "100/fortnight", "100/minute/2", "٣/s"]
)
def test_a_malformed_rate_is_rejected_with_an_example(text: str) -> None:
    with pytest.raises(ConfigurationError, match="100/minute"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0/s", "1000001/s"])
def test_the_number_of_starts_is_bounded(text: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 1,000,000 starts"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["1/0s", "1/32 days"])
def test_the_time_of_a_rate_is_bounded(text: str) -> None:
    with pytest.raises(ConfigurationError, match="1 second to 31 days"):
        parse_rate(text)


@pytest.mark.parametrize("per", ["tenant", "queue", "key", "task", "payload.customer", "payload.customer.id"])
def test_a_limit_counts_by_a_part_of_the_job(per: str) -> None:
    assert check_per(per) == per


@pytest.mark.parametrize(
    "per", ["", "payload", "payload.", "payload.a..b", "Tenant", "database", "payload." + "a" * 200]
)
def test_other_parts_are_rejected(per: str) -> None:
    with pytest.raises(ConfigurationError, match="use tenant, queue, key, task"):
        check_per(per)


def test_the_concurrency_is_bounded() -> None:
    assert check_concurrency(1) == 1
    for concurrency in (0, -1, 1_000_001, True):
        with pytest.raises(ConfigurationError, match="must be 1 to 1,000,000"):
            check_concurrency(concurrency)
