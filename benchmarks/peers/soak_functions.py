"""The functions of the soak: a quick task, one whose first attempt fails, and one whose result is kept."""

from datetime import timedelta
from typing import Any

from jobfn import Backoff, JobContext, task


@task("quick")
async def quick(payload: dict[str, Any]) -> None:
    """Do nothing."""


@task("retried", backoff=Backoff(seconds=0.5))
async def retried(payload: dict[str, Any], ctx: JobContext) -> None:  # noqa: ARG001
    """Fail once."""
    if ctx.attempt == 1:
        raise ValueError("the first attempt fails")


@task("kept", keep_result=timedelta(minutes=1))
async def kept(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the payload."""
    return payload
