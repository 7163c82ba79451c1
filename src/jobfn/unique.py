"""When a job is a duplicate: the options ``unique``, ``unique_by`` and ``on_conflict`` (pure).

Used by ``@task`` and by ``enqueue``. The database decides (``add_unique_job``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

UniqueOption = timedelta | Literal["until_started", "until_done"]
ConflictOption = Literal["keep", "replace", "error"]

#: Maximum period, and maximum number of compared fields, as in the database.
MAX_PERIOD: Final = timedelta(days=366)
MAX_FIELDS: Final = 32
_CONFLICTS: Final = ("keep", "replace", "error")
_UNTIL: Final = {"until_started": "started", "until_done": "done"}


@dataclass(frozen=True, slots=True)
class Unique:
    """When a job is a duplicate, as the arguments of ``add_unique_job``.

    Attributes:
        period: Jobs added within this time of the first one are duplicates; None if ``until`` is set.
        until: ``started`` or ``done``; None if ``period`` is set.
        fields: The compared fields of the payload; None for the whole payload.
        on_conflict: What happens to a duplicate: ``keep``, ``replace`` or ``error``.
    """

    period: timedelta | None
    until: str | None
    fields: tuple[str, ...] | None
    on_conflict: str

    @property
    def interval(self) -> str | None:
        """The period as a PostgreSQL interval. Seconds, because a day of an interval depends on the time zone."""
        return None if self.period is None else as_interval(self.period)


def as_interval(period: timedelta) -> str:
    """Return a period as a PostgreSQL interval in seconds."""
    return f"{period.total_seconds():.6f} seconds"


def parse_unique(unique: object, unique_by: object = None, on_conflict: object = None) -> Unique | None:
    """Return the options as one value; None if jobs are not unique.

    Raises:
        ValueError: An option is not valid.
    """
    if unique is None:
        for name, value in (("unique_by", unique_by), ("on_conflict", on_conflict)):
            if value is not None:
                raise ValueError(f"{name} needs unique: set it to a timedelta, 'until_started' or 'until_done'")
        return None
    if on_conflict is not None and on_conflict not in _CONFLICTS:
        raise ValueError(f"on_conflict={on_conflict!r} must be 'keep', 'replace' or 'error'")
    period, until = None, None
    if isinstance(unique, timedelta):
        if not timedelta(milliseconds=1) <= unique <= MAX_PERIOD:
            raise ValueError(f"unique={unique!r} must be a timedelta of 1 millisecond to {MAX_PERIOD.days} days")
        period = unique
    elif isinstance(unique, str) and unique in _UNTIL:
        until = _UNTIL[unique]
    else:
        raise ValueError(f"unique={unique!r} must be a timedelta, 'until_started' or 'until_done'")
    return Unique(period, until, _parse_fields(unique_by), str(on_conflict or "keep"))


def _parse_fields(unique_by: object) -> tuple[str, ...] | None:
    if unique_by is None:
        return None
    fields = tuple(unique_by) if isinstance(unique_by, Sequence) and not isinstance(unique_by, str) else (None,)
    if not all(isinstance(field, str) and field and "\0" not in field for field in fields):
        raise ValueError(f"unique_by={unique_by!r} must be a list of fields of the payload, such as ['customer']")
    if len(fields) > MAX_FIELDS:
        raise ValueError(f"unique_by has {len(fields)} fields: use at most {MAX_FIELDS}")
    return fields
