"""The function of a run with one fault: each job appends its number and id to a file when it has run."""

import asyncio
import os
from dataclasses import dataclass

from jobfn import Backoff, JobContext, create_app, task

_EFFECTS = os.open(os.environ["CHAOS_EFFECTS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@dataclass
class Counted:
    """A job of the run."""

    number: int
    seconds: float


@task("count", backoff=Backoff(seconds=0.2, factor=1.5, cap=2.0))
async def count(payload: Counted, ctx: JobContext) -> None:
    """Record that a job has run."""
    await asyncio.sleep(payload.seconds)
    os.write(_EFFECTS, f"{payload.number} {ctx.job_id}\n".encode())


app = create_app(tasks=[count])
