"""The clock of a test's jobs, which the test freezes and advances. Handlers and PostgreSQL keep the real time."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class JobsClock:
    """Clock for ``run_at``, retries and schedules, as ``drain_jobs`` uses it."""

    def __init__(self, real: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._real = real
        self._frozen_at: datetime | None = None
        self._offset = timedelta(0)
        #: Each setting: real time of the change, frozen time, offset.
        self._changes: list[tuple[datetime, datetime | None, timedelta]] = []

    def now(self) -> datetime:
        """Return the current time of this clock: the real time, unless it was frozen or advanced."""
        return self._real() + self._offset if self._frozen_at is None else self._frozen_at

    def at(self, real_time: datetime) -> datetime:
        """Return what this clock showed at a real time."""
        for changed_at, frozen_at, offset in reversed(self._changes):
            if changed_at <= real_time:
                return real_time + offset if frozen_at is None else frozen_at
        return real_time

    def offset(self) -> timedelta:
        """Return how far this clock is ahead of the real time."""
        return max(self.now() - self._real(), timedelta(0))

    def freeze(self, at: datetime) -> None:
        """Stop the clock.

        Args:
            at: A time in the future, with a time zone. PostgreSQL's clock, which dates new jobs, cannot be set back.

        Raises:
            ValueError: The time has no time zone, or is in the past.
        """
        if getattr(at, "tzinfo", None) is None:
            raise ValueError(f"freeze({at!r}) needs a time zone: freeze(datetime(2040, 1, 31, tzinfo=UTC))")
        if at < self._real():
            raise ValueError(f"freeze({at!r}) is in the past, but new jobs are dated now: use a time in the future")
        self._frozen_at = at
        self._record_change()

    def advance(self, **duration: float) -> timedelta:
        """Move the clock forward.

        Raises:
            ValueError: The duration is negative.
        """
        step = timedelta(**duration)
        if step < timedelta(0):
            raise ValueError(f"advance({step}) is negative: the clock cannot go back")
        if self._frozen_at is None:
            self._offset += step
        else:
            self._frozen_at += step
        self._record_change()
        return step

    def _record_change(self) -> None:
        self._changes.append((self._real(), self._frozen_at, self._offset))
