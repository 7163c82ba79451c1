"""``jobfn dev`` and the schedules in the code: ``jobfn schedules sync``, in a process of its own.

The user's code is imported there and not here, so that a save is seen and a broken file breaks nothing.
"""

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE

from jobfn import logs


async def sync_schedules(target: str, *, database_url: str | None, prune: bool) -> None:
    """Bring the schedules of a file or module into the database; say in the log what changed.

    Args:
        target: ``FILE_OR_MODULE[:app]``.
        database_url: The database; None where ``PG*`` name it.
        prune: Whether what came from other files may be removed: where this file is all there is.
    """
    log = logs.get_logger("jobfn.dev")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "jobfn", "schedules", "sync", target, *(["--prune"] if prune else [])),
        env=os.environ | ({"DATABASE_URL": database_url} if database_url is not None else {}),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        process_group=0,  # Ctrl-C in a terminal is for the parent, which ends this one
    )
    try:
        said, complaint = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    for line in said.decode().splitlines():
        if not line.startswith("unchanged"):
            log.info("schedule", change=line)
    if process.returncode:
        log.error("schedules not brought into the database", error=complaint.decode().strip().rpartition("\n")[2])
