"""``FleetOperations``: schedules, limits, pauses and tenants, which steer what workers start."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from jobfn.database.schedules import ScheduleRow
from jobfn.limits import Rate
from jobfn.operations import audit, limits, pauses, read_models, schedule_actions
from jobfn.operations.actor import Actor
from jobfn.operations.audit import AuditPage
from jobfn.operations.limits import LimitRow
from jobfn.operations.pauses import Pause, PauseTarget, TenantWeight
from jobfn.operations.read_models import ScheduleView
from jobfn.operations.statements import Database, SchemaCapabilities


class FleetOperations:
    """Steer what workers start. The part of ``Operations`` that does not concern single jobs."""

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        schema: str,
        capabilities: SchemaCapabilities,
        actor: Callable[[], Actor | None] | None = None,
    ) -> None:
        self._database = Database(pool, schema, capabilities, actor)
        self.schema = schema
        self.capabilities = capabilities

    async def schedules(self, *, limit: int = 3) -> tuple[ScheduleView, ...]:
        """Return every schedule with its next ``limit`` times."""
        return await read_models.list_schedules(self._database, limit=limit)

    async def run_schedule(self, name: str | int) -> int:
        """Enqueue the job of a schedule now, also while it is paused. Return the job's id.

        Args:
            name: The id or the key of the schedule, or its task if the task has only one.

        Raises:
            ConfigurationError: There is no such schedule, or more than one.
            DatabaseError: Its last job still waits or runs.
        """
        return await schedule_actions.run_schedule(self._database, str(name))

    async def pause_schedule(
        self,
        name: str | int,
        *,
        reason: str | None = None,
        seconds: float | None = None,
        until: datetime | None = None,
    ) -> ScheduleRow:
        """Make no jobs of a schedule for a time, or until it is resumed. Return the schedule.

        Args:
            name: See ``run_schedule``.
            reason: Shown with the schedule.
            seconds: For how long. Default: until it is resumed.
            until: Until when, instead of ``seconds``.

        Raises:
            ConfigurationError: There is no such schedule, or more than one, or the schema is the platform's.
            DatabaseError: The time is not in the future.
        """
        return await schedule_actions.pause_schedule(self._database, str(name), reason, seconds=seconds, until=until)

    async def resume_schedule(self, name: str | int) -> ScheduleRow:
        """End the pause of a schedule. Due times in the pause make no job. Return the schedule.

        Args:
            name: See ``run_schedule``.

        Raises:
            ConfigurationError: There is no such schedule, or more than one, or the schema is the platform's.
        """
        return await schedule_actions.resume_schedule(self._database, str(name))

    async def remove_schedule(self, name: str | int) -> ScheduleRow:
        """Remove a schedule, but not its jobs. Return the schedule.

        Args:
            name: See ``run_schedule``.

        Raises:
            ConfigurationError: There is no such schedule, or more than one.
        """
        return await schedule_actions.remove_schedule(self._database, str(name))

    async def limits(self) -> tuple[LimitRow, ...]:
        """Return the limits of concurrency and rate, with what they count now.

        Raises:
            ConfigurationError: The platform's own schema has no limits.
        """
        return await limits.list_limits(self._database)

    async def set_limit(
        self,
        name: str,
        *,
        task: str | None = None,
        queue: str | None = None,
        per: str | None = None,
        concurrency: int | None = None,
        rate: Rate | None = None,
        pauses_on_retry_later: bool = False,
    ) -> None:
        """Add or replace a limit. Jobs that run already count, and held jobs start where it allows more.

        Args:
            name: Name of the limit.
            task: Only jobs of this task.
            queue: Only jobs of this named queue.
            per: What is limited separately: ``tenant``, ``queue``, ``key``, ``task`` or ``payload.<field>``.
            concurrency: Maximum number of running jobs.
            rate: Maximum number of starts in any window of time (``jobfn.limits.parse_rate``).
            pauses_on_retry_later: Whether a ``RetryLater`` of one job, or a 429 or 503 with ``Retry-After``, pauses the
                jobs of its key for the same time.

        Raises:
            ConfigurationError: There is neither a concurrency nor a rate, or the schema has no limits.
        """
        await limits.set_limit(
            self._database,
            name,
            task=task,
            queue=queue,
            per=per,
            concurrency=concurrency,
            rate=rate,
            pauses_on_retry_later=pauses_on_retry_later,
        )

    async def remove_limit(self, name: str) -> None:
        """Remove a limit, and release the jobs that it holds.

        Raises:
            ConfigurationError: There is no such limit.
        """
        await limits.remove_limit(self._database, name)

    async def pause_limit_key(self, name: str, key: str = "", *, duration: timedelta | None) -> None:
        """Start no job of one key of a limit for a time, in any worker. None: start them again.

        Raises:
            ConfigurationError: There is no such limit.
        """
        await limits.pause_limit_key(self._database, name, key, duration)

    async def pauses(self) -> tuple[Pause, ...]:
        """Return the pauses that have not ended, oldest first. The platform's schema has none."""
        return await pauses.list_pauses(self._database)

    async def pause(
        self,
        target: PauseTarget,
        *,
        seconds: float | None = None,
        until: datetime | None = None,
        reason: str | None = None,
        paused_by: str | None = None,
    ) -> None:
        """Pause a task, a queue, a tenant or everything, in all workers. Running jobs go on.

        Args:
            target: What to pause. A pause of it that exists is changed.
            seconds: For how long. Default: until it is resumed.
            until: Until when, instead of ``seconds``.
            reason: Shown to those who ask why jobs wait.
            paused_by: Default: the database role.

        Raises:
            ConfigurationError: The schema is the platform's.
        """
        await pauses.pause(self._database, target, seconds=seconds, until=until, reason=reason, paused_by=paused_by)

    async def resume(self, target: PauseTarget) -> bool:
        """End a pause. Return whether there was one.

        Raises:
            ConfigurationError: The schema is the platform's.
        """
        return await pauses.resume(self._database, target)

    async def tenant_weights(self) -> tuple[TenantWeight, ...]:
        """Return the weights of tenants other than 1, largest first."""
        return await pauses.list_tenant_weights(self._database)

    async def set_tenant_weight(self, tenant: str, weight: int) -> None:
        """Set how many jobs a tenant starts for each one of another tenant, 1 to 1,000."""
        await pauses.set_tenant_weight(self._database, tenant, weight)

    async def audit(
        self,
        *,
        since: datetime | None = None,
        actor: str | None = None,
        action: str | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> AuditPage:
        """List who did what, newest first. The transactions of a bulk action are one entry.

        Args:
            since: Only entries from then on.
            actor: Only of actors or roles whose name contains this, ignoring case.
            action: Only this action, one of ``jobfn.operations.audit.ACTIONS``.
            limit: Maximum number of entries, 1 to 1,000.
            before: The ``next`` of the previous page.

        Raises:
            ConfigurationError: The action is unknown, or the schema is the platform's.
        """
        return await audit.list_entries(
            self._database, since=since, actor=actor, action=action, limit=limit, before=before
        )
