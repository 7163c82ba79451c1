"""A schedule in words, for people who check whether it says what they mean: pure.

``at 09:00 every day, Europe/Paris``. What a cron rule means is cronsim's wording; the rest is ours.
"""

from datetime import datetime

from cronsim import CronSim

from jobfn.scheduler.rule import CatchUp, Schedule

_WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
#: Which one does not matter: the words are about the rule.
_ANY_TIME = datetime(2000, 1, 1)  # noqa: DTZ001  - wall-clock time, in no zone


def in_words(schedule: Schedule) -> str:
    """The schedule as a phrase that begins in lower case."""
    calendar = schedule.calendar
    said = CronSim(" ".join(calendar.fields), _ANY_TIME).explain()
    phrases = [said[:1].lower() + said[1:]]
    if calendar.weekdays is not None:
        phrases.append(f"if it is a {_joined([_WEEKDAYS[day] for day in sorted(calendar.weekdays)], last='or')}")
    if calendar.years is not None:
        phrases.append(f"in {_joined([str(year) for year in calendar.years], last='and')}")
    phrases.append(schedule.zone.key)
    if schedule.start is not None:
        phrases.append(f"from {shown(schedule.start, schedule)}")
    if schedule.end is not None:
        phrases.append(f"until {shown(schedule.end, schedule)}")
    if schedule.catch_up is CatchUp.ALL:
        phrases.append("every missed time is caught up")
    if schedule.catch_up is CatchUp.NONE:
        phrases.append("missed times are let go")
    return ", ".join(phrases)


def shown(moment: datetime, schedule: Schedule) -> str:
    """A moment as the schedule's own clock shows it, with the offset from UTC: ``2026-03-29 09:00:00+02:00``."""
    local = moment.astimezone(schedule.zone)
    exact = local.replace(microsecond=0) if local.microsecond else local
    return exact.isoformat(sep=" ", timespec="seconds" if exact.second else "minutes")


def _joined(words: list[str], *, last: str) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
