"""Tools that change limits of concurrency and rate. Each is confirmed first (``confirmation.py``)."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

from mcp.server.mcpserver import Context
from pydantic import Field

from jobfn.limits import MAX_LIMIT_COUNT, check_per, parse_rate
from jobfn.mcp.change_tools import Confirmation, Result
from jobfn.mcp.confirmation import Confirmations
from jobfn.mcp.plain_values import plain, visible
from jobfn.operations import Operations

Name = Annotated[str, Field(min_length=1, max_length=126, description="The name of the limit.")]


class LimitTools:
    """Tools that change limits.

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
        return (self.set_limit, self.remove_limit, self.pause_limit_key)

    async def set_limit(
        self,
        context: Context[Any, Any],
        *,
        name: Name,
        task: Annotated[str | None, Field(description="Only jobs of this task.")] = None,
        queue: Annotated[str | None, Field(description="Only jobs of this named queue.")] = None,
        per: Annotated[
            str | None, Field(description="What is counted separately: tenant, queue, key, task or payload.<field>.")
        ] = None,
        concurrency: Annotated[
            int | None, Field(ge=1, le=MAX_LIMIT_COUNT, description="Maximum number of running jobs.")
        ] = None,
        rate: Annotated[str | None, Field(description="Maximum number of starts, such as 100/minute.")] = None,
        confirmation: Confirmation = None,
    ) -> Result:
        """Add or replace a limit of concurrency or rate, for all workers."""
        options = {"task": task, "queue": queue, "per": per, "concurrency": concurrency, "rate": rate}
        parsed = None if rate is None else parse_rate(rate)
        if per is not None:
            check_per(per)

        async def change() -> dict[str, Any]:
            await self._operations.set_limit(
                name, task=task, queue=queue, per=per, concurrency=concurrency, rate=parsed
            )
            return {"changed": True}

        return await self._confirmations.carry_out(
            context,
            "set_limit",
            {"name": name, **options},
            confirmation=confirmation,
            question=f"Set the limit {visible(name)!r}: {plain(options)}?",
            change=change,
        )

    async def remove_limit(
        self, context: Context[Any, Any], *, name: Name, confirmation: Confirmation = None
    ) -> Result:
        """Remove a limit, and release the jobs that it holds."""

        async def change() -> dict[str, Any]:
            await self._operations.remove_limit(name)
            return {"changed": True}

        return await self._confirmations.carry_out(
            context,
            "remove_limit",
            {"name": name},
            confirmation=confirmation,
            question=f"Remove the limit {visible(name)!r}?",
            change=change,
        )

    async def pause_limit_key(
        self,
        context: Context[Any, Any],
        *,
        name: Name,
        key: Annotated[str, Field(description="One of the values that the limit counts by.")] = "",
        seconds: Annotated[
            float | None, Field(gt=0, le=30 * 86_400, description="How long; if it is left out, the pause ends.")
        ] = None,
        confirmation: Confirmation = None,
    ) -> Result:
        """Start no job of one key of a limit for a time, in any worker."""
        duration = None if seconds is None else timedelta(seconds=seconds)

        async def change() -> dict[str, Any]:
            await self._operations.pause_limit_key(name, key, duration=duration)
            return {"changed": True}

        what = "End the pause" if duration is None else f"Pause for {duration}"
        return await self._confirmations.carry_out(
            context,
            "pause_limit_key",
            {"name": name, "key": key, "seconds": seconds},
            confirmation=confirmation,
            question=f"{what} of the key {visible(key)!r} of the limit {visible(name)!r}?",
            change=change,
        )
