"""The number of snoozes in the last error of a job on the platform's schema."""

from datetime import UTC, datetime, timedelta

import pytest

from jobfn.database.platform_snooze import next_snooze

NOW = datetime(2030, 1, 31, 9, 0, 0, 500_000, tzinfo=UTC)
FIRST = "the bank is closed (snoozed 1 time since 2030-01-31T09:00:00+00:00)"


@pytest.mark.parametrize(
    ("last_error", "stored", "is_over"),
    [
        (None, FIRST, False),
        ("boom", FIRST, False),
        ("x (snoozed 1 time since 2030-01-30T09:00:00+00:00)",
         "the bank is closed (snoozed 2 times since 2030-01-30T09:00:00+00:00)", False),
        ("x (snoozed 99 times since 2030-01-30T10:00:00+01:00)",
         "the bank is closed (snoozed 100 times since 2030-01-30T10:00:00+01:00)", False),
        ("x (snoozed 9 times since 2030-01-24T09:00:00+00:00)",
         "the bank is closed (snoozed 9 times since 2030-01-24T09:00:00+00:00)", True),
        ("x (snoozed 9 times since yesterday)", FIRST, False),
        ("x (snoozed 9 times since 2030-01-24T09:00:00)", FIRST, False),
        ("x (snoozed 9 times since 2030-01-24T09:00:00+00:00) and more", FIRST, False),
    ],
)  # fmt: skip
def test_snooze_counts_on_from_the_last_one(last_error: str | None, stored: str, *, is_over: bool) -> None:
    snooze = next_snooze(last_error, "the bank is closed", now=NOW, max_age=timedelta(days=7))
    assert snooze == (stored, is_over)


def test_long_reason_leaves_room_for_the_number() -> None:
    stored, _ = next_snooze(None, "x" * 10_000, now=NOW, max_age=timedelta(days=7))
    assert len(stored) < 10_000
    again, _ = next_snooze(stored, "y", now=NOW, max_age=timedelta(days=7))
    assert again == "y (snoozed 2 times since 2030-01-31T09:00:00+00:00)"
