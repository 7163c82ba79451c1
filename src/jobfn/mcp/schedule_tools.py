"""Tools that change schedules. Each is confirmed before it changes anything (``confirmation.py``)."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from jobfn.mcp.change_tools import Confirmation, Result
from jobfn.mcp.confirmation import Confirmations
from jobfn.mcp.plain_values import visible
from jobfn.operations import Operations

Schedule = Annotated[
    str, Field(max_length=512, description="The id or the key of the schedule, or its task if the task has only one.")
]


class ScheduleTools:
    """Tools that change schedules.

    Args:
        operations: The operations.
        confirmations: Asks for confirmation.
    """

    def __init__(self, operations: Operations, confirmations: Confirmations) -> None:
        self._operations = operations
        self._confirmations = confirmations

    @property
    def tools(self) -> tuple[Callable[..., Any], ...]:
        """The functions that are tools."""
        return (self.run_schedule, self.pause_schedule, self.resume_schedule, self.remove_schedule)

    async def run_schedule(
        self, context: Context[Any, Any], *, schedule: Schedule, confirmation: Confirmation = None
    ) -> Result:
        """Enqueue the job of a schedule now, also while it is paused."""

        async def change() -> dict[str, Any]:
            return {"changed": True, "job_id": await self._operations.run_schedule(schedule)}

        return await self._change(context, "Run now", schedule, confirmation, change)

    async def pause_schedule(
        self,
        context: Context[Any, Any],
        *,
        schedule: Schedule,
        seconds: Annotated[float | None, Field(gt=0, description="How long; if it is left out, until resumed.")] = None,
        reason: Annotated[str | None, Field(max_length=500, description="Shown with the schedule.")] = None,
        confirmation: Confirmation = None,
    ) -> Result:
        """Make no jobs of a schedule for a time, or until it is resumed."""

        async def change() -> dict[str, Any]:
            row = await self._operations.pause_schedule(schedule, seconds=seconds, reason=reason)
            return {"changed": True, "id": row.id}

        return await self._change(context, "Pause", schedule, confirmation, change, reason=reason, seconds=seconds)

    async def resume_schedule(
        self, context: Context[Any, Any], *, schedule: Schedule, confirmation: Confirmation = None
    ) -> Result:
        """End the pause of a schedule. Due times in the pause make no job."""

        async def change() -> dict[str, Any]:
            return {"changed": True, "id": (await self._operations.resume_schedule(schedule)).id}

        return await self._change(context, "Resume", schedule, confirmation, change)

    async def remove_schedule(
        self, context: Context[Any, Any], *, schedule: Schedule, confirmation: Confirmation = None
    ) -> Result:
        """Remove a schedule, but not its jobs. This cannot be undone."""

        async def change() -> dict[str, Any]:
            return {"changed": True, "id": (await self._operations.remove_schedule(schedule)).id}

        return await self._change(context, "Remove", schedule, confirmation, change)

    async def _change(
        self,
        context: Context[Any, Any],
        verb: str,
        schedule: str,
        confirmation: str | None,
        change: Callable[[], Awaitable[dict[str, Any]]],
        *,
        reason: str | None = None,
        seconds: float | None = None,
    ) -> Result:
        length = f" for {seconds:g} seconds" if seconds is not None else ""
        why = f", with the reason {visible(reason)!r}" if reason else ""
        return await self._confirmations.carry_out(
            context,
            f"{verb} schedule",
            {"schedule": schedule, "reason": reason, "seconds": seconds},
            confirmation=confirmation,
            question=f"{verb}: the schedule {visible(schedule)!r}{length}{why}?",
            change=change,
        )
