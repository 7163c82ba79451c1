"""Tools that pause and resume. Each is confirmed first (``confirmation.py``)."""

from collections.abc import Callable
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from jobfn.mcp.change_tools import Confirmation, Result
from jobfn.mcp.confirmation import Confirmations
from jobfn.mcp.plain_values import visible
from jobfn.operations import Operations
from jobfn.operations.pauses import PauseKind, PauseTarget

Name = Annotated[
    str, Field(max_length=126, description="The task, the queue or the id of the tenant; empty for everything.")
]


class PauseTools:
    """Tools that pause and resume.

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
        return (self.pause_jobs, self.resume_jobs)

    async def pause_jobs(
        self,
        context: Context[Any, Any],
        *,
        kind: PauseKind,
        name: Name = "",
        seconds: Annotated[float | None, Field(gt=0, description="How long; if it is left out, until resumed.")] = None,
        reason: Annotated[str | None, Field(max_length=500, description="Shown to those who ask.")] = None,
        confirmation: Confirmation = None,
    ) -> Result:
        """Start no jobs of a task, a queue, a tenant or everything, in any worker. Running jobs go on."""
        target = PauseTarget(kind, name)

        async def change() -> dict[str, Any]:
            await self._operations.pause(target, seconds=seconds, reason=reason, paused_by="jobfn mcp")
            return {"changed": True}

        length = "until it is resumed" if seconds is None else f"for {seconds:g} seconds"
        why = f", with the reason {visible(reason)!r}" if reason else ""
        return await self._confirmations.carry_out(
            context,
            "pause_jobs",
            {"target": [kind, name], "seconds": seconds, "reason": reason},
            confirmation=confirmation,
            question=f"Pause {visible(str(target))!r} {length}{why}?",
            change=change,
        )

    async def resume_jobs(
        self, context: Context[Any, Any], *, kind: PauseKind, name: Name = "", confirmation: Confirmation = None
    ) -> Result:
        """End a pause of a task, a queue, a tenant or everything."""
        target = PauseTarget(kind, name)

        async def change() -> dict[str, Any]:
            return {"changed": await self._operations.resume(target)}

        return await self._confirmations.carry_out(
            context,
            "resume_jobs",
            {"target": [kind, name]},
            confirmation=confirmation,
            question=f"Resume {visible(str(target))!r}?",
            change=change,
        )
