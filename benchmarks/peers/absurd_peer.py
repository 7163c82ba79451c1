"""absurd: ``install``, ``ping N``, ``work``. ``BENCH_CONCURRENCY`` is the concurrency of its async worker.

A run is three trivial steps or, of the task ``wait_for_signal``, a wait for a signal.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from absurd_sdk import AsyncAbsurd

from benchmarks.peers.script import paced_numbers, print_commit_time, run_verb
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
#: Its default is 0.25, and its worker does not listen for notifications.
POLL_INTERVAL_SECONDS = 0.01
app = AsyncAbsurd(URL)
timestamps = TimestampWriter()


async def add_one(n: int) -> int:
    return n + 1


@app.register_task(name="three_steps")
async def three_steps(params: Any, ctx: Any) -> None:
    first = await ctx.step("first", lambda: add_one(params["n"]))
    second = await ctx.step("second", lambda: add_one(first))
    await ctx.step("third", lambda: add_one(second))
    timestamps.record(params["n"])


@app.register_task(name="wait_for_signal")
async def wait_for_signal(params: Any, ctx: Any) -> None:
    await ctx.await_event(f"go-{params['n']}")
    timestamps.record(params["n"])


async def install() -> None:
    command = Path(sys.executable).with_name("absurdctl")
    subprocess.run([command, "init"], env=os.environ | {"ABSURD_DATABASE_URL": URL}, check=True)  # noqa: ASYNC221
    await app.create_queue("default")
    await app.close()


async def ping(jobs: int) -> None:
    async for number in paced_numbers(jobs):
        print_commit_time(number)
        await app.emit_event(f"go-{number}")
    await app.close()


async def work() -> None:
    await app.start_worker(concurrency=int(os.environ["BENCH_CONCURRENCY"]), poll_interval=POLL_INTERVAL_SECONDS)


if __name__ == "__main__":
    run_verb(install, ping, work)
