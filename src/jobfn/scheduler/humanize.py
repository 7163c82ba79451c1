"""Describe a schedule in English, so that people can check that it means what they intended.

Example: ``at 09:00 every day, Europe/Paris``. cronsim describes the cron fields; zone, limits and catch-up follow.
"""

from datetime import datetime, timedelta

from cronsim import CronSim

from jobfn.scheduler.rule import CatchUp, Schedule

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_UNITS = ((86_400, "day"), (3600, "hour"), (60, "minute"))
#: CronSim needs a start time, which the description does not depend on.
_ANY_TIME = datetime(2000, 1, 1)  # noqa: DTZ001  - wall-clock time, without a zone


def humanize(schedule: Schedule) -> str:
    """Return the schedule as a phrase that begins in lower case."""
    calendar = schedule.calendar
    rule = CronSim(" ".join(calendar.fields), _ANY_TIME).explain()
    phrases = [rule[:1].lower() + rule[1:]]
    if calendar.weekdays is not None:
        phrases.append(f"if it is a {_join([_WEEKDAYS[day] for day in sorted(calendar.weekdays)], last='or')}")
    if calendar.years is not None:
        phrases.append(f"in {_join([str(year) for year in calendar.years], last='and')}")
    phrases.append(schedule.zone.key)
    if schedule.start is not None:
        phrases.append(f"from {format_time(schedule.start, schedule)}")
    if schedule.end is not None:
        phrases.append(f"until {format_time(schedule.end, schedule)}")
    if schedule.jitter:
        phrases.append(f"up to {_duration(schedule.jitter)} later")
    if schedule.catch_up is CatchUp.ALL:
        phrases.append("every missed run is caught up")
    if schedule.catch_up is CatchUp.NONE:
        phrases.append("missed runs are skipped")
    if schedule.catch_up_window is not None:
        phrases.append(f"runs that are more than {_duration(schedule.catch_up_window)} late are skipped")
    if schedule.expires_in is not None:
        phrases.append(f"jobs expire {_duration(schedule.expires_in)} after their time")
    return ", ".join(phrases)


def format_time(time: datetime, schedule: Schedule) -> str:
    """Return a time in the schedule's zone, with the offset from UTC: ``2026-03-29 09:00:00+02:00``."""
    local = time.astimezone(schedule.zone).replace(microsecond=0)
    return local.isoformat(sep=" ", timespec="seconds" if local.second else "minutes")


def _duration(duration: timedelta) -> str:
    parts, rest = [], duration.total_seconds()
    for size, name in _UNITS:
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number:.0f} {name}{'' if number == 1 else 's'}")
    if rest or not parts:
        parts.append(f"{rest:g} second{'' if rest == 1 else 's'}")
    return " ".join(parts)


def _join(words: list[str], *, last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
