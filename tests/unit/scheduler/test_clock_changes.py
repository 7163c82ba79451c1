"""Due times on the days when clocks change, in several zones. The expected times are computed by hand, in UTC."""

import itertools
from datetime import datetime
from typing import Any

import pytest

from jobfn.scheduler.rule import parse

NEW_YORK, PARIS, LORD_HOWE, CAIRO = "America/New_York", "Europe/Paris", "Australia/Lord_Howe", "Africa/Cairo"
DUBLIN, SANTIAGO, TROLL, APIA, KOLKATA = (
    "Europe/Dublin",
    "America/Santiago",
    "Antarctica/Troll",
    "Pacific/Apia",
    "Asia/Kolkata",
)

#: A fixed time runs once on each day.
FIXED_TIMES: list[tuple[str, Any, str, list[str]]] = [
    # New York, 8 March 2026: at 07:00 UTC clocks go from 02:00 to 03:00
    (NEW_YORK, "30 2 * * *", "2026-03-07T12:00Z", ["2026-03-08T07:00Z", "2026-03-09T06:30Z"]),
    (NEW_YORK, "0 2 * * *", "2026-03-07T12:00Z", ["2026-03-08T07:00Z", "2026-03-09T06:00Z"]),
    (NEW_YORK, "30 3 * * *", "2026-03-07T12:00Z", ["2026-03-08T07:30Z", "2026-03-09T07:30Z"]),
    (NEW_YORK, "0,30 2,3 * * *", "2026-03-08T06:00Z", ["2026-03-08T07:00Z", "2026-03-08T07:30Z", "2026-03-09T06:00Z"]),
    (NEW_YORK, "0 30 2 * * *", "2026-03-07T12:00Z", ["2026-03-08T07:00Z", "2026-03-09T06:30Z"]),
    (NEW_YORK, {"hour": 2, "minute": 30}, "2026-03-07T12:00Z", ["2026-03-08T07:00Z", "2026-03-09T06:30Z"]),
    (NEW_YORK, "0 0 * * *", "2026-03-08T05:00Z", ["2026-03-09T04:00Z"]),
    # New York, 1 November 2026: at 06:00 UTC clocks go from 02:00 back to 01:00
    (NEW_YORK, "30 1 * * *", "2026-11-01T04:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
    (NEW_YORK, "0 30 1 * * *", "2026-11-01T04:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
    (NEW_YORK, {"hour": 1, "minute": 30}, "2026-11-01T04:00Z", ["2026-11-01T05:30Z", "2026-11-02T06:30Z"]),
    (NEW_YORK, "45 1 * * *", "2026-11-01T06:40Z", ["2026-11-02T06:45Z"]),
    (NEW_YORK, "0 2 * * *", "2026-11-01T05:00Z", ["2026-11-01T07:00Z"]),
    # Paris, 29 March 2026: at 01:00 UTC from 02:00 to 03:00; 25 October: at 01:00 UTC from 03:00 back to 02:00
    (PARIS, "30 2 * * *", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
    (PARIS, "0 9 * * *", "2026-03-28T08:00Z", ["2026-03-29T07:00Z"]),
    (PARIS, "30 2 * * *", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
    (PARIS, "@daily", "2026-10-24T22:00Z", ["2026-10-25T23:00Z"]),
    # Lord Howe, by half an hour: 5 April 2026 at 15:00 UTC on the 4th from 02:00 back to 01:30
    (LORD_HOWE, "45 1 * * *", "2026-04-04T12:00Z", ["2026-04-04T14:45Z", "2026-04-05T15:15Z"]),
    # and 4 October at 15:30 UTC on the 3rd from 02:00 to 02:30
    (LORD_HOWE, "15 2 * * *", "2026-10-03T12:00Z", ["2026-10-03T15:30Z", "2026-10-04T15:15Z"]),
    # Cairo, at midnight: 24 April 2026 at 22:00 UTC on the 23rd from 00:00 to 01:00
    (CAIRO, "@daily", "2026-04-23T12:00Z", ["2026-04-23T22:00Z", "2026-04-24T21:00Z"]),
    # and 29 October at 21:00 UTC from 24:00 back to 23:00
    (CAIRO, "30 23 * * *", "2026-10-29T12:00Z", ["2026-10-29T20:30Z", "2026-10-30T21:30Z"]),
    (CAIRO, "@daily", "2026-10-29T12:00Z", ["2026-10-29T22:00Z", "2026-10-30T22:00Z"]),
    # Dublin, whose standard time is the summer's: 29 March 2026 at 01:00 UTC from 01:00 to 02:00; 25 October back
    (DUBLIN, "30 1 * * *", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
    (DUBLIN, "30 1 * * *", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T01:30Z"]),
    # Santiago, at midnight: 6 September 2026 at 04:00 UTC from 00:00 to 01:00; 5 April at 03:00 UTC from 24:00 to 23:00
    (SANTIAGO, "30 0 * * *", "2026-09-05T12:00Z", ["2026-09-06T04:00Z", "2026-09-07T03:30Z"]),
    (SANTIAGO, "30 23 * * *", "2026-04-04T12:00Z", ["2026-04-05T02:30Z", "2026-04-06T03:30Z"]),
    # Troll, by two hours: 29 March 2026 at 01:00 UTC from 01:00 to 03:00; 25 October at 01:00 UTC from 03:00 to 01:00
    (TROLL, "30 2 * * *", "2026-03-28T12:00Z", ["2026-03-29T01:00Z", "2026-03-30T00:30Z"]),
    (TROLL, "30 2 * * *", "2026-10-24T12:00Z", ["2026-10-25T00:30Z", "2026-10-26T02:30Z"]),
    # Apia had no 30 December 2011: at 10:00 UTC on the 30th the clock went from the end of the 29th to the 31st
    (APIA, "30 2 * * *", "2011-12-29T10:00Z", ["2011-12-29T12:30Z", "2011-12-30T10:00Z", "2011-12-30T12:30Z"]),
    # Kolkata has no changes
    (KOLKATA, "30 2 * * *", "2026-03-28T12:00Z", ["2026-03-28T21:00Z", "2026-03-29T21:00Z"]),
]

#: A wildcard follows the clock.
WILDCARDS: list[tuple[str, Any, str, list[str]]] = [
    (NEW_YORK, "*/30 * * * *", "2026-03-08T06:15Z", ["2026-03-08T06:30Z", "2026-03-08T07:00Z", "2026-03-08T07:30Z"]),
    (NEW_YORK, "*/10 2 * * *", "2026-03-08T00:00Z", ["2026-03-09T06:00Z"]),
    (NEW_YORK, {"hour": 2}, "2026-03-08T00:00Z", ["2026-03-09T06:00Z", "2026-03-09T06:01Z"]),
    (NEW_YORK, "*/30 * * * *", "2026-11-01T05:15Z", ["2026-11-01T05:30Z", "2026-11-01T06:00Z", "2026-11-01T06:30Z"]),
    (NEW_YORK, "*/30 1 * * *", "2026-11-01T05:15Z", ["2026-11-01T05:30Z", "2026-11-01T06:00Z", "2026-11-01T06:30Z"]),
    (NEW_YORK, "* * * * * *", "2026-11-01T05:59:59Z", ["2026-11-01T06:00:00Z", "2026-11-01T06:00:01Z"]),
    (NEW_YORK, "0 * * * *", "2026-11-01T05:00Z", ["2026-11-01T06:00Z", "2026-11-01T07:00Z"]),
    (NEW_YORK, "0 0 */6 * * *", "2026-11-01T04:00Z", ["2026-11-01T11:00Z"]),
    (PARIS, "15 * * * *", "2026-03-29T00:00Z", ["2026-03-29T00:15Z", "2026-03-29T01:15Z"]),
    (PARIS, "15 * * * *", "2026-10-25T00:00Z", ["2026-10-25T00:15Z", "2026-10-25T01:15Z", "2026-10-25T02:15Z"]),
    (LORD_HOWE, "*/15 * * * *", "2026-04-04T14:40Z", ["2026-04-04T14:45Z", "2026-04-04T15:00Z", "2026-04-04T15:15Z"]),
    (LORD_HOWE, "* 5 * * *", "2026-04-04T15:10Z", ["2026-04-04T18:30Z", "2026-04-04T18:31Z"]),
    (LORD_HOWE, "*/15 * * * *", "2026-10-03T15:15Z", ["2026-10-03T15:30Z", "2026-10-03T15:45Z"]),
    (CAIRO, "0 */2 * * 5", "2026-04-23T20:00Z", ["2026-04-23T23:00Z", "2026-04-24T01:00Z"]),
    # a rule without a match for years
    (NEW_YORK, "* * 29 2 *", "2026-03-01T00:00Z", ["2028-02-29T05:00Z", "2028-02-29T05:01Z"]),
]


@pytest.mark.parametrize(("zone", "rule", "after", "expected"), FIXED_TIMES + WILDCARDS)
def test_due_times_around_a_clock_change(zone: str, rule: Any, after: str, expected: list[str]) -> None:
    info = rule if isinstance(rule, dict) else {"rule": rule}
    due_times = itertools.islice(parse(info | {"tz": zone}).upcoming(datetime.fromisoformat(after)), len(expected))
    assert list(due_times) == [datetime.fromisoformat(time) for time in expected]
