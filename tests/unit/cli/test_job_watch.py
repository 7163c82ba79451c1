"""What is shown while somebody watches."""

from datetime import UTC, datetime, timedelta

import pytest

from jobfn.cli.watch import counted
from jobfn.operations import Counts

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "text"), [(-1, ""), (0, ""), (2, ""), (6, ", counted 6s ago")])
def test_counts_that_are_not_fresh_say_so(seconds: int, text: str) -> None:
    """Of a large table they are taken less often than the rest is shown."""
    counts = Counts(NOW - timedelta(seconds=seconds), 0, 0, 0, 0, None, (), (), 0.3)
    assert counted(counts, NOW) == text
