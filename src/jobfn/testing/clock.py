"""The clock of one test's jobs: it can be stopped, and set on. Handlers and PostgreSQL keep their own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta


class JobsClock:
    """What time it is for ``run_at`` and for schedules, as ``drain_jobs`` sees it.

    Args:
        real: The time outside.
    """

    def __init__(self, real: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._real = real
        self._frozen_at: datetime | None = None
        self._ahead = timedelta(0)
        #: How it was set: from when on, stopped at, ahead by.
        self._settings: list[tuple[datetime, datetime | None, timedelta]] = []

    def now(self) -> datetime:
        """The time: that outside, unless it was frozen or advanced."""
        return self._real() + self._ahead if self._frozen_at is None else self._frozen_at

    def at(self, outside: datetime) -> datetime:
        """What it showed at a time outside: when something happened, by this clock."""
        for since, frozen_at, ahead in reversed(self._settings):
            if since <= outside:
                return outside + ahead if frozen_at is None else frozen_at
        return outside

    def ahead(self) -> timedelta:
        """How far it is ahead of the time outside."""
        return max(self.now() - self._real(), timedelta(0))

    def freeze(self, at: datetime) -> None:
        """Stop it.

        Args:
            at: A time to come, with a time zone: PostgreSQL's clock, which dates new jobs, cannot be set back.

        Raises:
            ValueError: It is no time with a zone, or is over.
        """
        if getattr(at, "tzinfo", None) is None:
            raise ValueError(f"freeze({at!r}): give a time with a time zone, such as datetime(2040, 1, 31, tzinfo=UTC)")
        if at < self._real():
            raise ValueError(f"freeze({at!r}): that time is over, and new jobs are dated now: give one to come")
        self._frozen_at = at
        self._note()

    def advance(self, **how_far: float) -> timedelta:
        """Set it on.

        Args:
            how_far: As ``timedelta`` takes it: ``advance(hours=1, minutes=30)``.

        Returns:
            How far.

        Raises:
            ValueError: It would go back.
        """
        step = timedelta(**how_far)
        if step < timedelta(0):
            raise ValueError(f"advance({step}): time goes on, not back")
        if self._frozen_at is None:
            self._ahead += step
        else:
            self._frozen_at += step
        self._note()
        return step

    def _note(self) -> None:
        self._settings.append((self._real(), self._frozen_at, self._ahead))
