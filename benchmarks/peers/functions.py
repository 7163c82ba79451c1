"""jobfn's own handler, which does nothing, for every family that runs jobs."""

from typing import Any

from benchmarks.timestamps import Marks
from jobfn import task

marks = Marks()


@task("noop")
async def noop(payload: dict[str, Any]) -> None:
    """Do nothing."""
    marks.seen(payload["n"])
