"""Limits of concurrency and rate: list them with what they count, set and remove them, pause a key."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from jobfn.errors import ConfigurationError
from jobfn.limits import Rate
from jobfn.operations.statements import Database

#: Maximum number of keys of a limit that are listed: those with the most held and running jobs.
MAX_LISTED_KEYS = 20
#: Maximum number of running jobs of a key that are listed: those that were added first.
MAX_LISTED_JOBS = 5
_NO_LIMITS = "has no limits: use jobfn's schema (`jobfn db migrate`)"


@dataclass(frozen=True, slots=True)
class LimitKey:
    """One value that a limit counts separately.

    Attributes:
        key: The value; empty for jobs without one, and for a limit that counts all jobs together.
        running: Running jobs. Only limits with a concurrency count them.
        held: Jobs that are due, and that the limit holds back.
        starts: Starts in the current window of the rate.
        paused_until: No job starts before, as after a Retry-After; None if the key is not paused.
        wakes_at: When held jobs may start; None if they wait for a running job to end.
        job_ids: The first ``MAX_LISTED_JOBS`` of the running jobs.
    """

    key: str
    running: int
    held: int
    starts: int
    paused_until: datetime | None
    wakes_at: datetime | None
    job_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit, with what it counts now.

    Attributes:
        task: Only jobs of this task; None: of any.
        queue: Only jobs of this named queue; None: of any, and without a queue.
        per: What is counted separately; None: nothing.
        concurrency: Maximum number of running jobs.
        rate: Maximum number of starts in any window of time, as in ``100/minute``.
        set_by: ``operator`` or ``code``.
        pauses_on_retry_later: Whether a ``RetryLater`` or a ``Retry-After`` of one job pauses its key.
        running: Running jobs, of all keys.
        held: Held jobs, of all keys.
        starts: Starts in the current window, of all keys.
        keys: The keys with the most held and running jobs, at most ``MAX_LISTED_KEYS``.
    """

    name: str
    task: str | None
    queue: str | None
    per: str | None
    concurrency: int | None
    rate: str | None
    set_by: str
    pauses_on_retry_later: bool
    running: int
    held: int
    starts: int
    keys: tuple[LimitKey, ...]


async def list_limits(database: Database) -> tuple[LimitRow, ...]:
    """See ``Operations.limits``."""
    database.require_native(_NO_LIMITS)
    keys: dict[str, list[LimitKey]] = {}
    for row in await database.fetch("list_limit_keys", MAX_LISTED_KEYS, MAX_LISTED_JOBS):
        values = {name: value for name, value in row.items() if name != "limit_name"}
        values["job_ids"] = tuple(values["job_ids"])
        keys.setdefault(row["limit_name"], []).append(LimitKey(**values))
    limits = []
    for row in await database.fetch("list_limits"):
        values = dict(row)
        count, interval = values.pop("rate_count"), values.pop("rate_interval")
        rate = None if count is None else str(Rate(count, interval))
        limits.append(LimitRow(**values, rate=rate, keys=tuple(keys.get(row["name"], ()))))
    return tuple(limits)


async def set_limit(
    database: Database,
    name: str,
    *,
    task: str | None,
    queue: str | None,
    per: str | None,
    concurrency: int | None,
    rate: Rate | None,
    pauses_on_retry_later: bool,
) -> None:
    """See ``Operations.set_limit``."""
    database.require_native(_NO_LIMITS)
    if concurrency is None and rate is None:
        raise ConfigurationError(f"limit {name!r} has no bound: give it a concurrency, a rate or both")
    interval = None if rate is None else rate.interval
    count = None if rate is None else rate.count
    values = (name, task, queue, per, concurrency, count, interval, pauses_on_retry_later)
    await database.fetch("set_limit", *values)


async def remove_limit(database: Database, name: str) -> None:
    """See ``Operations.remove_limit``."""
    database.require_native(_NO_LIMITS)
    [row] = await database.fetch("remove_limit", name)
    _check_found(name, is_found=row["is_found"])


async def pause_limit_key(database: Database, name: str, key: str, duration: timedelta | None) -> None:
    """See ``Operations.pause_limit_key``."""
    database.require_native(_NO_LIMITS)
    [row] = await database.fetch("pause_limit_key", name, key, duration)
    _check_found(name, is_found=row["is_found"])
    if not row["is_changed"]:
        raise ConfigurationError(f"limit {name!r} has no pause of this key: `jobfn limits list --keys` shows pauses")


def _check_found(name: str, *, is_found: bool) -> None:
    if not is_found:
        raise ConfigurationError(f"there is no limit {name!r}: `jobfn limits list` shows them")
