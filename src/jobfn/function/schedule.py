"""The schedule of a task, as far as a function image can judge it: its shape.

What the rule means is the platform side's to say, which has the library for it: ``jobfn schedules sync`` refuses
what is broken, by file and line.
"""

from collections.abc import Mapping
from typing import Any


def schedule_info(schedule: str | Mapping[str, Any] | None, tz: str | None) -> dict[str, Any] | None:
    """What ``@task(..., schedule=, tz=)`` says, as ``scheduled_jobs.schedule_info`` holds it.

    Returns:
        ``{"rule": ..., "tz": ...}``, the mapping with the zone added, or None for no schedule.

    Raises:
        ValueError: It is no schedule; says what would be.
    """
    if schedule is None:
        if tz is not None:
            raise ValueError(f'tz={tz!r} is the time zone of a schedule: give schedule="0 9 * * *" too')
        return None
    if isinstance(schedule, Mapping):
        info = dict(schedule)
        if tz is not None and info.get("tz", tz) != tz:
            raise ValueError(f"tz={tz!r} and the schedule's own tz {info['tz']!r} disagree: give one of them")
    elif isinstance(schedule, str):
        fields = schedule.split()
        if not schedule.lstrip().startswith("@") and len(fields) not in (5, 6):
            raise ValueError(
                f"schedule={schedule!r} has {len(fields)} fields: a cron rule has 5 (minute, hour, day of month, "
                "month, day of week), or 6 with seconds first"
            )
        info = {"rule": schedule}
    else:
        raise ValueError(f'schedule={schedule!r} is no schedule: give a cron rule, such as "0 9 * * *"')  # noqa: TRY004  - one kind of error for the caller
    return info | ({"tz": tz} if tz is not None else {})
