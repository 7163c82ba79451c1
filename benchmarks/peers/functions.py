"""jobfn's empty handler, for every family that runs jobs."""

from typing import Any

from benchmarks.timestamps import TimestampWriter
from jobfn import task

timestamps = TimestampWriter()


@task("noop")
async def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""
    timestamps.record(payload["n"])
