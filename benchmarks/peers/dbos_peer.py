"""dbos: ``install``, ``ping N``, ``work``. A run is three trivial steps; with ``BENCH_WAITING``, a wait for a signal.

Its workflows are fastest if a few threads (``BENCH_CONCURRENCY``) call them directly, without its queues.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSClient, SetWorkflowID

from benchmarks.peers.script import PAUSE_SECONDS, print_commit_time
from benchmarks.timestamps import TimestampWriter

URL = os.environ["DATABASE_URL"]
timestamps = TimestampWriter()
lock = threading.Lock()


def record(n: int) -> None:
    with lock:
        timestamps.record(n)


@DBOS.step()
def add_one(n: int) -> int:
    return n + 1


@DBOS.workflow()
def three_steps(n: int) -> None:
    add_one(add_one(add_one(n)))
    record(n)


@DBOS.workflow()
def wait_for_signal(n: int) -> None:
    DBOS.recv("go", timeout_seconds=600)
    record(n)


def install() -> None:
    DBOS(config={"name": "bench", "system_database_url": URL, "log_level": "WARNING"})
    DBOS.launch()


def work() -> None:
    install()
    waiting = int(os.environ.get("BENCH_WAITING", "0"))
    for number in range(waiting):
        with SetWorkflowID(f"wait-{number}"):
            DBOS.start_workflow(wait_for_signal, number)
    if not waiting:
        with ThreadPoolExecutor(int(os.environ["BENCH_CONCURRENCY"])) as threads:
            list(threads.map(three_steps, range(int(os.environ["BENCH_JOBS"]))))
    threading.Event().wait()  # the benchmark ends the process


def ping(jobs: int) -> None:
    client = DBOSClient(system_database_url=URL)
    for number in range(jobs):
        time.sleep(PAUSE_SECONDS + (number * 7 % 11) / 1000)
        print_commit_time(number)
        client.send(f"wait-{number}", None, "go")


if __name__ == "__main__":
    verb, *numbers = sys.argv[1:]
    verbs: dict[str, Callable[..., None]] = {"install": install, "work": work, "ping": ping}
    verbs[verb](*map(int, numbers))
    os._exit(0)  # it has threads that do not end
