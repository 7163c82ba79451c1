"""Wait until a job ends: progress and result go to standard error."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

from jobfn.cli.exit_codes import JOB_FAILED, OK, TIMED_OUT
from jobfn.cli.output import echo, without_escapes
from jobfn.cli.session import with_operations
from jobfn.operations import FinalState, JobRow, JobState, Operations, RunOutcome


def follow_job(job_id: int, database_url: str | None, *, timeout_seconds: float | None) -> int:
    """Wait until a job ends, print how, and return the exit code."""

    async def work(operations: Operations) -> int:
        with _progress_display(job_id) as on_change:
            try:
                async with asyncio.timeout(timeout_seconds):
                    final = await operations.follow(job_id, on_change=on_change)
            except TimeoutError:
                echo(f"job {job_id} has not ended within {timeout_seconds:g} seconds and continues", err=True)
                return TIMED_OUT
        echo(final_text(final), err=True)
        return OK if final.state is JobState.COMPLETED else JOB_FAILED

    return with_operations(work, database_url)


def final_text(final: FinalState) -> str:
    """Describe how a job ended."""
    attempts = f" in attempt {final.attempts}" if final.attempts else ""
    match final.outcome:
        case None:
            return f"job {final.id} no longer exists: it completed or was removed (this schema has no history)"
        case RunOutcome.COMPLETED:
            return f"job {final.id} completed{attempts}"
        case RunOutcome.EXPIRED:
            return f"job {final.id} {final.error}" if final.error else f"job {final.id} expired"
        case RunOutcome.REMOVED | RunOutcome.CANCELLED:
            return f"job {final.id} was {final.outcome}" + (f": {final.error}" if final.error else "")
        case _:
            return f"job {final.id} permanently failed: {final.error}"


@contextlib.contextmanager
def _progress_display(job_id: int) -> Iterator[Callable[[JobRow], None]]:
    """Show a progress bar in a terminal, else a line for each change of state or attempt."""
    if not sys.stderr.isatty():
        last_line = ""

        def print_line(job: JobRow) -> None:
            nonlocal last_line
            line = f"job {job_id}: {state_text(job)}"
            if line != last_line:
                echo(line, err=True)
                last_line = line

        yield print_line
        return
    from rich.console import Console  # noqa: PLC0415  - only for a terminal
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"job {job_id}", total=None)

        def update_bar(job: JobRow) -> None:
            note = f": {job.progress_message}" if job.progress_message else ""
            progress.update(
                bar,
                description=escape(without_escapes(f"job {job_id}: {state_text(job)}{note}")),
                total=None if job.progress is None else 1.0,
                completed=job.progress or 0.0,
            )

        yield update_bar


def state_text(job: JobRow) -> str:
    """Describe the state of a job that has not ended."""
    if job.state is JobState.RUNNING:
        return f"running, attempt {job.attempts}"
    if job.attempts and job.last_error:
        return f"attempt {job.attempts} failed, will be retried: {' '.join(job.last_error.split())}"
    return str(job.state)
