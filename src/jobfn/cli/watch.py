"""``jobfn jobs watch``: refresh counts and newest jobs, in place in a terminal."""

import asyncio
import contextlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from jobfn.cli import render_jobs, render_times
from jobfn.cli.output import echo, without_escapes
from jobfn.errors import DatabaseUnreachable
from jobfn.operations import JobCounts, JobFilter, Operations

_JOB_LIMIT = 10
_THROUGHPUT_MINUTES = 5
#: Counts older than this are shown with their age.
_MAX_COUNTS_AGE_SECONDS = 2.0
#: Terminal lines that are left free for the prompt.
_RESERVED_LINES = 2


async def watch_jobs(
    operations: Operations, job_filter: JobFilter, *, interval_seconds: float, times: int | None, as_json: bool
) -> None:
    """Show counts, throughput and newest jobs in intervals, a number of times or until cancelled.

    Raises:
        DatabaseUnreachable: The database is unreachable at the start. Later outages are shown.
    """
    snapshot = _snapshot_json if as_json else _snapshot_text
    with _display(in_place=sys.stdout.isatty() and not as_json) as show:
        for number in itertools.count(1):
            try:
                show(await snapshot(operations, job_filter))
            except DatabaseUnreachable as error:
                if number == 1:
                    raise
                text = f"{datetime.now(UTC):%H:%M:%S} UTC  {error}"
                echo(text, err=True) if as_json else show(text)
            if number == times:
                return
            await asyncio.sleep(interval_seconds)


async def _snapshot_text(operations: Operations, job_filter: JobFilter) -> str:
    now = datetime.now(UTC)
    counts = await operations.counts(max_age_seconds=0.5)
    page = await operations.list_jobs(job_filter, limit=_JOB_LIMIT)
    buckets = await operations.throughput(minutes=_THROUGHPUT_MINUTES)
    troubles = await operations.troubles()
    return "\n".join(
        [
            f"{now:%H:%M:%S} UTC" + counts_age_text(counts, now),
            *render_jobs.format_counts(counts),
            "",
            render_jobs.throughput_line(buckets),
            "",
            *render_jobs.job_table(page, now),
            *(f"warning: {trouble}" for trouble in troubles),
        ]
    )


async def _snapshot_json(operations: Operations, job_filter: JobFilter) -> str:
    counts = await operations.counts(max_age_seconds=0.5)
    page = await operations.list_jobs(job_filter, limit=_JOB_LIMIT)
    return json.dumps({"counts": render_jobs.plain(counts), "jobs": render_jobs.plain(page.jobs)})


def counts_age_text(counts: JobCounts, now: datetime) -> str:
    """Return when the jobs were counted if that is long ago: counts of large tables are cached."""
    age_seconds = (now - counts.taken_at).total_seconds()
    return f", counted {render_times.ago(counts.taken_at, now)}" if age_seconds > _MAX_COUNTS_AGE_SECONDS else ""


@contextlib.contextmanager
def _display(*, in_place: bool) -> Iterator[Callable[[str], None]]:
    if not in_place:

        def print_text(text: str) -> None:
            echo(text)
            sys.stdout.flush()

        yield print_text
        return
    from rich.live import Live  # noqa: PLC0415  - only for a terminal
    from rich.text import Text  # noqa: PLC0415

    with Live(auto_refresh=False, screen=False) as live:

        def redraw(text: str) -> None:
            max_lines = shutil.get_terminal_size().lines - _RESERVED_LINES
            lines = without_escapes(text).splitlines()[:max_lines]
            live.update(Text("\n".join(lines), no_wrap=True), refresh=True)

        yield redraw
