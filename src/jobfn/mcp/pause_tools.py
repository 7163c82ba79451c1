"""Tools that pause and resume. Each is confirmed first (``confirmation.py``)."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from jobfn.mcp.change_tools import Confirmation, Result
from jobfn.mcp.confirmation import Confirmations, Plan
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
        place: Name of the database and the schema, for the questions.
    """

    def __init__(self, operations: Operations, confirmations: Confirmations, *, place: str) -> None:
        self._operations = operations
        self._confirmations = confirmations
        self._place = place

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
        text = f"Pause {visible(str(target))!r} {length}{why}"
        arguments = {"target": [kind, name], "seconds": seconds, "reason": reason}
        return await self._change(context, text, confirmation, change, arguments)

    async def resume_jobs(
        self, context: Context[Any, Any], *, kind: PauseKind, name: Name = "", confirmation: Confirmation = None
    ) -> Result:
        """End a pause of a task, a queue, a tenant or everything."""
        target = PauseTarget(kind, name)

        async def change() -> dict[str, Any]:
            return {"changed": await self._operations.resume(target)}

        text = f"Resume {visible(str(target))!r}"
        return await self._change(context, text, confirmation, change, {"target": [kind, name]})

    async def _change(
        self,
        context: Context[Any, Any],
        text: str,
        confirmation: str | None,
        change: Callable[[], Awaitable[dict[str, Any]]],
        arguments: dict[str, Any],
    ) -> Result:
        async def propose() -> tuple[str, int]:
            return f"{text}? {self._place}", 0

        async def apply(_plan: Plan) -> dict[str, Any]:
            return await change()

        tool = text.partition(" ")[0]
        return await self._confirmations.carry_out(
            context, tool, arguments, confirmation=confirmation, propose=propose, apply=apply
        )
