"""The schedule of a task in code, and the check of its shape. Pure.

Function images have no cron library: ``jobfn schedules sync`` checks the rule itself.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Schedule:
    """A recurring schedule, for ``@task(..., schedule=Schedule("0 9 * * *", payload={"report": "daily"}))``.

    Attributes:
        rule: A cron rule, or a ``schedule_info`` (contract, section 3).
        tz: The time zone, for example ``"Europe/Paris"``. Default None: UTC.
        payload: The payload of its jobs, of the handler's type. Default None: ``{}``.
        jitter: Delay each job by a random time of at most this. The delay of a due time is always the same, and never
            reaches the next due time. Default None: no delay.
        catch_up: Which missed runs get a job after a downtime: ``"one"``, ``"all"`` or ``"none"``. Default None:
            ``"one"``.
        catch_up_window: Skip missed runs that are later than this. Default None: no limit; with ``catch_up="none"``, a
            minute.
        expires_in: Do not start a job later than this after its due time, not even for a retry. Due times that are
            older than this are missed. Default None: no limit. Needs jobfn's schema.
        start: Earliest due time, inclusive. Default None: no limit.
        end: Latest due time, inclusive. Default None: no limit.
    """

    rule: str | Mapping[str, Any]
    _: KW_ONLY
    tz: str | None = None
    payload: Any = None
    jitter: timedelta | None = None
    catch_up: Literal["one", "all", "none"] | None = None
    catch_up_window: timedelta | None = None
    expires_in: timedelta | None = None
    start: datetime | None = None
    end: datetime | None = None

    def info(self) -> dict[str, Any]:
        """Return its ``schedule_info``.

        Raises:
            ValueError: An option is not valid.
        """
        options: dict[str, Any] = {
            "tz": self.tz,
            "jitter_seconds": _seconds("jitter", self.jitter),
            "catch_up": self.catch_up,
            "catch_up_window_seconds": _seconds("catch_up_window", self.catch_up_window),
            "expires_in_seconds": _seconds("expires_in", self.expires_in),
            "start": _iso("start", self.start),
            "end": _iso("end", self.end),
        }
        info = _rule_info(self.rule)
        for name, value in options.items():
            if value is not None and info.setdefault(name, value) != value:
                raise ValueError(f"{name}={value!r} contradicts the schedule's own {name} {info[name]!r}: remove one")
        return info


def schedule_info(schedule: str | Mapping[str, Any] | Schedule | None, tz: str | None) -> dict[str, Any] | None:
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
    info = schedule.info() if isinstance(schedule, Schedule) else _rule_info(schedule)
    if tz is not None and info.setdefault("tz", tz) != tz:
        raise ValueError(f"tz={tz!r} contradicts the schedule's own tz {info['tz']!r}: remove one")
    return info


def _rule_info(rule: object) -> dict[str, Any]:
    if isinstance(rule, Mapping):
        return dict(rule)
    if not isinstance(rule, str):
        raise ValueError(f'schedule={rule!r} is not a schedule: pass a cron rule, for example "0 9 * * *"')  # noqa: TRY004  - one kind of error for the caller
    fields = rule.split()
    if not rule.lstrip().startswith("@") and len(fields) not in (5, 6):
        raise ValueError(
            f"schedule={rule!r} has {len(fields)} fields: a cron rule has 5 (minute, hour, day of month, "
            "month, day of week), or 6 with seconds first"
        )
    return {"rule": rule}


def _seconds(name: str, value: object) -> float | None:
    if value is None:
        return None
    if not isinstance(value, timedelta) or value <= timedelta():
        raise ValueError(f"{name}={value!r} must be a timedelta above 0, or None")
    seconds = value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _iso(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise ValueError(f"{name}={value!r} must be a datetime, or None for no limit")  # noqa: TRY004  - as above
    return value.isoformat()
