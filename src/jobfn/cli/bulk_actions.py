"""Apply an action to all jobs that match a filter: with confirmation, progress, and a clean stop by Ctrl-C."""

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator

from jobfn.cli.session import ProgressBar, confirm
from jobfn.operations import Action, ActionResult, JobFilter, Operations

#: Selected jobs are counted up to this number.
_MAX_COUNTED = 1_000_000


async def count_matching(
    operations: Operations, action: Action, job_filter: JobFilter, *, include_running: bool
) -> ActionResult:
    """Return what the action would change, without any change."""
    count = await operations.count_targets(action, job_filter, include_running=include_running, limit=_MAX_COUNTED)
    return ActionResult(action, count)


async def apply_to_matching(
    operations: Operations,
    action: Action,
    job_filter: JobFilter,
    *,
    verb: str,
    reason: str | None,
    include_running: bool,
    yes: bool,
    clock: Callable[[], float] = time.monotonic,
) -> ActionResult:
    """Ask for confirmation and apply the action with a progress bar. Ctrl-C stops it after the current transaction."""
    count = (await count_matching(operations, action, job_filter, include_running=include_running)).done
    if not count:
        return ActionResult(action)
    confirm(f"{verb} {'more than ' if count >= _MAX_COUNTED else ''}{count_text(count)}?", yes=yes)
    with ProgressBar(f"{verb} jobs", count, clock) as bar, _interrupt() as interrupted:
        return await operations.apply_to_matching(
            action,
            job_filter,
            reason=reason,
            include_running=include_running,
            on_progress=bar.advance,
            should_stop=interrupted.is_set,
        )


def count_text(count: int) -> str:
    """Format a number of jobs."""
    return f"{count:,} job{'' if count == 1 else 's'}"


@contextlib.contextmanager
def _interrupt() -> Iterator[asyncio.Event]:
    """Set an event at the first SIGINT. A second one ends the process as usual."""
    interrupted, loop = asyncio.Event(), asyncio.get_running_loop()

    def on_signal() -> None:
        interrupted.set()
        loop.remove_signal_handler(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():  # only there can signals be handled
        yield interrupted
        return
    loop.add_signal_handler(signal.SIGINT, on_signal)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)
