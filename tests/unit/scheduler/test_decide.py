"""What a scheduler does with a schedule now: values in, a value out, at any time of any day."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobfn.database.due_schedules import DueSchedule, Step
from jobfn.scheduler.decide import decide
from jobfn.scheduler.rule import next_time

TAKEOVER = timedelta(minutes=1)
EVERY_HOUR = {"rule": "0 * * * *"}


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-02T{text}Z")


def found(now: str, info: Any = EVERY_HOUR, **known: Any) -> DueSchedule:
    """A schedule looked at on 2 March 2026, known since 08:30 unless said otherwise."""
    return DueSchedule(1, "sweep", json.dumps(info), now=at(now), **({"since": at("08:30")} | known))


STEPS: list[tuple[str, DueSchedule, Step]] = [
    ("a new schedule is planned", found("08:45"), Step(next_due=at("09:00"))),
    ("a schedule is due to the microsecond", found("09:00", due_at=at("09:00")), Step(at("10:00"), due=at("09:00"))),
    ("and not before", found("08:59:59.999999", due_at=at("09:00")), Step(next_due=at("09:00"))),
    ("a new schedule whose time has passed is run", found("09:30"), Step(at("10:00"), due=at("09:00"))),
    (
        "after a downtime one job stands for all that was missed",
        found("13:30", due_at=at("09:00")),
        Step(at("14:00"), due=at("13:00"), let_go=4, last_let_go=at("12:00")),
    ),
    (
        "catch_up all makes a job of each, one after the other",
        found("13:30", EVERY_HOUR | {"catch_up": "all"}, due_at=at("09:00")),
        Step(at("10:00"), due=at("09:00"), waits=True),
    ),
    (
        "but of a hundred at most, the latest",
        found("23:30", {"rule": "* * * * *", "catch_up": "all"}, due_at=at("20:00")),
        Step(at("21:52"), due=at("21:51"), waits=True, let_go=100, last_let_go=at("21:50")),
    ),
    (
        "catch_up none lets go what is more than a minute late",
        found("13:01:01", EVERY_HOUR | {"catch_up": "none"}, due_at=at("09:00")),
        Step(at("14:00"), let_go=5, last_let_go=at("13:00")),
    ),
    (
        "and runs what is not",
        found("13:00:59", EVERY_HOUR | {"catch_up": "none"}, due_at=at("09:00")),
        Step(at("14:00"), due=at("13:00"), let_go=4, last_let_go=at("12:00")),
    ),
    ("after the end there is no more", found("09:30", {"rule": "0 * * * *", "end": "2026-03-02T08:00Z"}), Step()),
    (
        "the last time is followed by none",
        found("09:00", {"rule": "0 9 * * *", "end": "2026-03-02T09:00Z"}, due_at=at("09:00")),
        Step(None, due=at("09:00")),
    ),
    (
        "times before a change of the rule do not count",
        found("09:30", since=at("09:15")),
        Step(next_due=at("10:00")),
    ),
    (
        "what the platform's scheduler holds is left to it for a while",
        found("09:00:30", due_at=at("09:00"), holder="node-1"),
        Step(next_due=at("09:00")),
    ),
    (
        "and altogether when it sees to it",
        found("09:01:30", due_at=at("09:00"), holder="node-1", last_scheduled=at("09:00:00.2")),
        Step(next_due=at("10:00")),
    ),
    (
        "but not when it let the time pass",
        found("09:01:30", due_at=at("09:00"), holder="node-1", last_scheduled=at("08:00:00.2")),
        Step(at("10:00"), due=at("09:00")),
    ),
]


@pytest.mark.parametrize(("schedule", "step"), [case[1:] for case in STEPS], ids=[case[0] for case in STEPS])
def test_the_step_follows_from_schedule_and_time(schedule: DueSchedule, step: Step) -> None:
    """Which time it makes a job for, when it is due next, what is let go."""
    assert decide(schedule, takeover=TAKEOVER) == step


def test_a_broken_schedule_makes_no_job_and_says_why() -> None:
    """Its step carries the reason, in the words of the refusal."""
    step = decide(found("09:30", {"rule": "0 25 * * *"}), takeover=TAKEOVER)
    assert (step.due, step.next_due) == (None, None)
    assert step.problem is not None
    assert "hour (field 2 of 5) cannot be '25'" in step.problem


INFOS = [
    {"rule": rule, "tz": zone, "catch_up": catch_up} | limits
    for rule in ("* * * * * *", "30 2 * * *", "*/7 * * * *", "0 0 29 2 *", "0 0 * * MON#5", "30-40 0 0 1 1 *")
    for zone in ("UTC", "America/New_York", "Australia/Lord_Howe")
    for catch_up in ("one", "all", "none")
    for limits in ({}, {"start": "2027-05-01"}, {"end": "2027-05-01"})
]
MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  - naive bounds


@settings(deadline=None)
@given(
    info=st.sampled_from(INFOS),
    since=MOMENTS,
    now=MOMENTS,
    planned=st.booleans(),
    holder=st.sampled_from([None, "node-1"]),
    last_scheduled=st.none() | MOMENTS,
)
def test_every_step_leads_on(
    info: dict[str, Any],
    since: datetime,
    now: datetime,
    *,
    planned: bool,
    holder: str | None,
    last_scheduled: datetime | None,
) -> None:
    """Whatever the row and the time: no time is served early or twice, and the next one is not behind."""
    due_at = next_time(info, since) if planned else None
    schedule = DueSchedule(1, "t", json.dumps(info), now, since, due_at, last_scheduled, holder)
    step = decide(schedule, takeover=TAKEOVER)
    assert step.problem is None
    assert step.let_go <= 100
    if step.due is not None:
        assert since < step.due <= now
        assert step.next_due is None or step.next_due > step.due
        assert step.last_let_go is None or since < step.last_let_go < step.due
    if step.next_due is not None and not step.waits and holder is None:
        assert step.next_due > now
