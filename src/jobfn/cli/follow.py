"""Waiting for one job's end in a terminal or a script: what it is at goes to standard error, how it ended too."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

import typer

from jobfn.cli.exit_codes import DONE, JOB_FAILED, TIMED_OUT
from jobfn.cli.session import with_operations
from jobfn.operations import FinalState, JobRow, JobState, Operations, RunOutcome


def followed(job_id: int, database_url: str | None, *, timeout_seconds: float | None) -> int:
    """Wait for a job's end and say how it ended.

    Args:
        job_id: Which.
        database_url: The command's option.
        timeout_seconds: Wait no longer; None: as long as it takes.

    Returns:
        The exit code: 0 completed, 5 failed for good, 124 not ended in time.
    """

    async def work(operations: Operations) -> int:
        with _shown(job_id) as show:
            try:
                async with asyncio.timeout(timeout_seconds):
                    end = await operations.follow(job_id, changed=show)
            except TimeoutError:
                typer.echo(f"job {job_id} has not ended after {timeout_seconds:g} seconds: it goes on", err=True)
                return TIMED_OUT
        typer.echo(_in_words(end), err=True)
        return DONE if end.state is JobState.COMPLETED else JOB_FAILED

    return with_operations(work, database_url)


def _in_words(end: FinalState) -> str:
    attempts = f" in attempt {end.attempts}" if end.attempts else ""
    match end.outcome:
        case None:
            return f"job {end.id} is gone: completed, or removed by somebody; there is no history to ask"
        case RunOutcome.COMPLETED:
            return f"job {end.id} completed{attempts}"
        case RunOutcome.REMOVED | RunOutcome.CANCELLED:
            return f"job {end.id} was {end.outcome}" + (f": {end.error}" if end.error else "")
        case _:
            return f"job {end.id} failed for good: {end.error}"


@contextlib.contextmanager
def _shown(job_id: int) -> Iterator[Callable[[JobRow], None]]:
    """A bar in a terminal, else a line for each change of state or attempt."""
    if not sys.stderr.isatty():
        said: list[str] = []

        def say(job: JobRow) -> None:
            line = f"job {job_id}: {_state(job)}"
            if line not in said[-1:]:
                typer.echo(line, err=True)
                said.append(line)

        yield say
        return
    from rich.console import Console  # noqa: PLC0415  - only where it shows
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"job {job_id}", total=None)

        def draw(job: JobRow) -> None:
            note = f": {job.progress_note}" if job.progress_note else ""
            progress.update(
                bar,
                description=f"job {job_id}: {_state(job)}{note}",
                total=None if job.progress is None else 1.0,
                completed=job.progress or 0.0,
            )

        yield draw


def _state(job: JobRow) -> str:
    if job.state is JobState.RUNNING:
        return f"running, attempt {job.attempts}"
    if job.attempts and job.last_error:
        return f"failed in attempt {job.attempts}, to be tried again: {' '.join(job.last_error.split())}"
    return str(job.state)
