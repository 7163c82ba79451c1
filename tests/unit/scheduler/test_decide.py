"""Which job a scheduler enqueues for a schedule, and when the schedule is due next."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfn.database.due_schedules import DueSchedule, ScheduleDecision
from jobfn.scheduler.decide import decide
from jobfn.scheduler.rule import parse
from support.schedules import EVERY_HOUR, at

JITTER = EVERY_HOUR | {"jitter_seconds": 3600}
#: The first due times with jitter.
FIRST, SECOND = "09:08:17.046794", "10:39:57.136962"
TAKEOVER_DELAY = timedelta(minutes=1)


def schedule(now: str, info: Any = EVERY_HOUR, **fields: Any) -> DueSchedule:
    """A schedule at a time of 2 March 2026, by default added at 08:30."""
    return DueSchedule(1, "sweep", json.dumps(info), now=at(now), **({"after": at("08:30")} | fields))


CASES: dict[str, tuple[DueSchedule, ScheduleDecision]] = {
    "new": (schedule("08:45"), ScheduleDecision(at("09:00"))),
    "due to the microsecond": (
        schedule("09:00", due_at=at("09:00")),
        ScheduleDecision(at("10:00"), due_at=at("09:00")),
    ),
    "not due yet": (schedule("08:59:59.999999", due_at=at("09:00")), ScheduleDecision(at("09:00"))),
    "new and already due": (schedule("09:30"), ScheduleDecision(at("10:00"), due_at=at("09:00"))),
    "after a downtime": (
        schedule("13:30", due_at=at("09:00")),
        ScheduleDecision(at("14:00"), due_at=at("13:00"), missed_count=4, last_missed_at=at("12:00")),
    ),
    "missed, and its job would have expired": (
        schedule("13:30", EVERY_HOUR | {"expires_in_seconds": 1200}, due_at=at("13:00")),
        ScheduleDecision(at("14:00"), missed_count=1, last_missed_at=at("13:00")),
    ),
    "missed, and its job would not have expired": (
        schedule(
            "13:30", EVERY_HOUR | {"expires_in_seconds": 2400, "catch_up_window_seconds": 7200}, due_at=at("12:00")
        ),
        ScheduleDecision(at("14:00"), due_at=at("13:00"), missed_count=1, last_missed_at=at("12:00")),
    ),
    "catch_up all": (
        schedule("13:30", EVERY_HOUR | {"catch_up": "all"}, due_at=at("09:00")),
        ScheduleDecision(at("10:00"), due_at=at("09:00"), wait_for_previous=True),
    ),
    "catch_up all, more than 100 missed": (
        schedule("23:30", {"rule": "* * * * *", "catch_up": "all"}, due_at=at("20:00")),
        ScheduleDecision(
            at("21:52"), due_at=at("21:51"), wait_for_previous=True, missed_count=100, last_missed_at=at("21:50")
        ),
    ),
    "catch_up none, over a minute late": (
        schedule("13:01:01", EVERY_HOUR | {"catch_up": "none"}, due_at=at("09:00")),
        ScheduleDecision(at("14:00"), missed_count=5, last_missed_at=at("13:00")),
    ),
    "catch_up none, under a minute late": (
        schedule("13:00:59", EVERY_HOUR | {"catch_up": "none"}, due_at=at("09:00")),
        ScheduleDecision(at("14:00"), due_at=at("13:00"), missed_count=4, last_missed_at=at("12:00")),
    ),
    "catch_up none, with a window": (
        schedule("13:04", EVERY_HOUR | {"catch_up": "none", "catch_up_window_seconds": 300}, due_at=at("13:00")),
        ScheduleDecision(at("14:00"), due_at=at("13:00")),
    ),
    "later than its window": (
        schedule("13:05:01", EVERY_HOUR | {"catch_up_window_seconds": 300}, due_at=at("12:00")),
        ScheduleDecision(at("14:00"), missed_count=2, last_missed_at=at("13:00")),
    ),
    "within its window": (
        schedule("13:05", EVERY_HOUR | {"catch_up_window_seconds": 300}, due_at=at("12:00")),
        ScheduleDecision(at("14:00"), due_at=at("13:00"), missed_count=1, last_missed_at=at("12:00")),
    ),
    "catch_up all, some later than the window": (
        schedule("13:30", EVERY_HOUR | {"catch_up": "all", "catch_up_window_seconds": 7200}, due_at=at("09:00")),
        ScheduleDecision(
            at("13:00"), due_at=at("12:00"), wait_for_previous=True, missed_count=3, last_missed_at=at("11:00")
        ),
    ),
    "new, with jitter": (schedule("08:45", JITTER), ScheduleDecision(at(FIRST))),
    "not due before its jitter": (schedule("09:05", JITTER, due_at=at(FIRST)), ScheduleDecision(at(FIRST))),
    "due with its jitter": (schedule(FIRST, JITTER, due_at=at(FIRST)), ScheduleDecision(at(SECOND), due_at=at(FIRST))),
    "jitter of the next due time not over": (
        schedule("10:00:01", JITTER, due_at=at(FIRST)),
        ScheduleDecision(at(SECOND), due_at=at(FIRST)),
    ),
    "held by the platform's scheduler, which ran it without jitter": (
        schedule("09:58", JITTER, due_at=at(FIRST), locked_by="node-1", last_scheduled=at("09:00:00.2")),
        ScheduleDecision(at(SECOND)),
    ),
    "past its end": (schedule("09:30", EVERY_HOUR | {"end": "2026-03-02T08:00Z"}), ScheduleDecision()),
    "last run": (
        schedule("09:00", {"rule": "0 9 * * *", "end": "2026-03-02T09:00Z"}, due_at=at("09:00")),
        ScheduleDecision(None, due_at=at("09:00")),
    ),
    "due time before the rule changed": (schedule("09:30", after=at("09:15")), ScheduleDecision(at("10:00"))),
    "held by another scheduler": (
        schedule("09:00:30", due_at=at("09:00"), locked_by="node-1"),
        ScheduleDecision(at("09:00")),
    ),
    "held by another scheduler that ran it": (
        schedule("09:01:30", due_at=at("09:00"), locked_by="node-1", last_scheduled=at("09:00:00.2")),
        ScheduleDecision(at("10:00")),
    ),
    "held by another scheduler that missed it": (
        schedule("09:01:30", due_at=at("09:00"), locked_by="node-1", last_scheduled=at("08:00:00.2")),
        ScheduleDecision(at("10:00"), due_at=at("09:00")),
    ),
}


@pytest.mark.parametrize(("due_schedule", "decision"), CASES.values(), ids=CASES)
def test_decision_follows_from_schedule_and_time(due_schedule: DueSchedule, decision: ScheduleDecision) -> None:
    assert decide(due_schedule, takeover_delay=TAKEOVER_DELAY) == decision


def test_invalid_schedule_is_never_due_and_has_an_error() -> None:
    decision = decide(schedule("09:30", {"rule": "0 25 * * *"}), takeover_delay=TAKEOVER_DELAY)
    assert (decision.due_at, decision.next_due_at) == (None, None)
    assert decision.error is not None
    assert "hour (field 2 of 5) cannot be '25'" in decision.error


INFOS = [
    {"rule": rule, "tz": zone, "catch_up": catch_up} | limits
    for rule in ("* * * * * *", "30 2 * * *", "*/7 * * * *", "0 0 29 2 *", "0 0 * * MON#5", "30-40 0 0 1 1 *")
    for zone in ("UTC", "America/New_York", "Australia/Lord_Howe")
    for catch_up in ("one", "all", "none")
    for limits in (
        {},
        {"start": "2027-05-01"},
        {"end": "2027-05-01"},
        {"jitter_seconds": 90, "catch_up_window_seconds": 3600},
    )
]
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  - naive bounds


@settings(deadline=None)
@given(
    info=st.sampled_from(INFOS),
    after=TIMES,
    now=TIMES,
    planned=st.booleans(),
    locked_by=st.sampled_from([None, "node-1"]),
    last_scheduled=st.none() | TIMES,
)
def test_no_due_time_runs_early_or_twice(
    info: dict[str, Any],
    after: datetime,
    now: datetime,
    *,
    planned: bool,
    locked_by: str | None,
    last_scheduled: datetime | None,
) -> None:
    rule = parse(info)
    due_at = rule.next_after(after) if planned else None
    if due_at is not None:
        due_at = rule.with_jitter(due_at, 1)
    due_schedule = DueSchedule(1, "t", json.dumps(info), now, after, due_at, last_scheduled, locked_by)
    decision = decide(due_schedule, takeover_delay=TAKEOVER_DELAY)
    assert decision.error is None
    assert decision.missed_count <= 100
    if decision.due_at is not None:
        assert after < decision.due_at <= now
        assert decision.next_due_at is None or decision.next_due_at > decision.due_at
        assert decision.last_missed_at is None or after < decision.last_missed_at < decision.due_at
    if decision.next_due_at is not None and not decision.wait_for_previous and locked_by is None:
        assert decision.next_due_at > now
