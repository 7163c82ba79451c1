"""``jobfn jobs watch``."""

from datetime import UTC, datetime, timedelta

import pytest

from jobfn.cli.watch import counts_age_text
from jobfn.operations import JobCounts

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(("seconds", "text"), [(-1, ""), (0, ""), (2, ""), (6, ", counted 6s ago")])
def test_old_counts_are_shown_with_their_age(seconds: int, text: str) -> None:
    counts = JobCounts(NOW - timedelta(seconds=seconds), 0, 0, 0, 0, None, (), (), 0.3)
    assert counts_age_text(counts, NOW) == text
