"""Add numbered jobs one after the other until SIGTERM, and print the numbers of those that were committed.

``add_until`` runs in the process of the test or, as a program, in a network namespace.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable

import asyncpg

INTERVAL_SECONDS = 0.05
#: Every tenth job takes this long, so that some run when a fault begins.
SLOW_SECONDS = 0.5
_ADD = "select app_jobs.add_job('record', $1::json, job_key := $2)"


async def add_until(
    stop: asyncio.Event, dsn: Callable[[], str], on_committed: Callable[[int], None], *, timeout_seconds: float
) -> None:
    """Add jobs. After an error, the same job is added again, by the same key.

    Args:
        stop: The last job is the one that is committed after this is set.
        dsn: Returns the current address of the database.
        on_committed: Called with the number of each committed job.
        timeout_seconds: Time limit of a statement and of a connection: an application must set one.
    """
    for number in itertools.count(1):
        payload = json.dumps({"number": number, "seconds": SLOW_SECONDS if number % 10 == 0 else 0})
        while True:
            try:
                await _add(dsn(), payload, f"job-{number}", timeout_seconds)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                await asyncio.sleep(0.1)
            else:
                break
        on_committed(number)
        if stop.is_set():
            return
        await asyncio.sleep(INTERVAL_SECONDS)


async def _add(dsn: str, payload: str, key: str, timeout_seconds: float) -> None:
    connection = await asyncpg.connect(dsn, timeout=timeout_seconds, command_timeout=timeout_seconds)
    try:
        await connection.execute(_ADD, payload, key)
    finally:
        connection.terminate()


def _print_number(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


async def main() -> None:
    """Add jobs to ``DATABASE_URL``."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await add_until(
        stop,
        lambda: os.environ["DATABASE_URL"],
        _print_number,
        timeout_seconds=float(os.environ["CHAOS_TIMEOUT_SECONDS"]),
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
