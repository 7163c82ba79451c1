"""jobfn's handlers: an empty one, and durable ones."""

from typing import Any

from benchmarks.timestamps import TimestampWriter
from jobfn import JobContext, task

timestamps = TimestampWriter()


@task("noop")
async def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""
    timestamps.record(payload["n"])


@task("quiet")
async def quiet(payload: dict[str, Any]) -> None:
    """Do nothing, without a timestamp."""


async def add_one(n: int) -> int:
    return n + 1


@task("three_steps")
async def three_steps(payload: dict[str, Any], ctx: JobContext) -> None:
    """Run three trivial steps."""
    first = await ctx.step("first", add_one, payload["n"])
    second = await ctx.step("second", add_one, first)
    await ctx.step("third", add_one, second)
    timestamps.record(payload["n"])


@task("wait_for_signal")
async def wait_for_signal(payload: dict[str, Any], ctx: JobContext) -> None:
    """Wait for a signal."""
    await ctx.wait_for("go")
    timestamps.record(payload["n"])
