"""Check the shape of a task's schedule. Pure.

Function images have no cron library: ``jobfn schedules sync`` checks the rule itself.
"""

from collections.abc import Mapping
from typing import Any


def schedule_info(schedule: str | Mapping[str, Any] | None, tz: str | None) -> dict[str, Any] | None:
    """Return the ``scheduled_jobs.schedule_info`` of ``@task(..., schedule=, tz=)``.

    Returns:
        ``{"rule": ..., "tz": ...}``, the mapping with the time zone added, or None for no schedule.

    Raises:
        ValueError: The arguments are not a schedule.
    """
    if schedule is None:
        if tz is not None:
            raise ValueError(f'tz={tz!r} is the time zone of a schedule: add schedule="0 9 * * *"')
        return None
    if isinstance(schedule, Mapping):
        info = dict(schedule)
        if tz is not None and info.get("tz", tz) != tz:
            raise ValueError(f"tz={tz!r} contradicts the schedule's own tz {info['tz']!r}: remove one")
    elif isinstance(schedule, str):
        fields = schedule.split()
        if not schedule.lstrip().startswith("@") and len(fields) not in (5, 6):
            raise ValueError(
                f"schedule={schedule!r} has {len(fields)} fields: a cron rule has 5 (minute, hour, day of month, "
                "month, day of week), or 6 with seconds first"
            )
        info = {"rule": schedule}
    else:
        raise ValueError(f'schedule={schedule!r} is not a schedule: pass a cron rule, for example "0 9 * * *"')  # noqa: TRY004  - one kind of error for the caller
    return info | ({"tz": tz} if tz is not None else {})
