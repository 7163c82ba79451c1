"""``jobfn jobs watch``: the same picture again and again, in place where there is a terminal."""

import asyncio
import contextlib
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import typer

from jobfn.cli import render_jobs
from jobfn.operations import Counts, JobFilter, Operations

_NEWEST = 10
_MINUTES = 5
_FRESH_SECONDS = 2.0
#: Lines that a terminal of 24 has room for beside the prompt.
_SPARE_LINES = 2


async def watch(
    operations: Operations, wanted: JobFilter, *, every_seconds: float, times: int | None, as_json: bool
) -> None:
    """Look every so often, so many times or until interrupted, and show what there is."""
    with _screen(in_place=sys.stdout.isatty() and not as_json) as show:
        for number in itertools.count(1):
            show(await (_as_line(operations, wanted) if as_json else _as_text(operations, wanted)))
            if number == times:
                return
            await asyncio.sleep(every_seconds)


async def _as_text(operations: Operations, wanted: JobFilter) -> str:
    now = datetime.now(UTC)
    counts = await operations.counts(max_age_seconds=0.5)
    page = await operations.list_jobs(wanted, limit=_NEWEST)
    minutes = await operations.throughput(minutes=_MINUTES)
    return "\n".join(
        [
            f"{now:%H:%M:%S} UTC" + counted(counts, now),
            *render_jobs.count_lines(counts),
            "",
            render_jobs.throughput_line(minutes),
            "",
            *render_jobs.job_table(page, now),
        ]
    )


def counted(counts: Counts, now: datetime) -> str:
    """Of a large table, the counts are not as fresh as the rest: each look at it is to rest the database."""
    seconds = (now - counts.taken_at).total_seconds()
    return f", counted {render_jobs.ago(counts.taken_at, now)}" if seconds > _FRESH_SECONDS else ""


async def _as_line(operations: Operations, wanted: JobFilter) -> str:
    counts = await operations.counts(max_age_seconds=0.5)
    page = await operations.list_jobs(wanted, limit=_NEWEST)
    return json.dumps({"counts": render_jobs.plain(counts), "jobs": render_jobs.plain(page.jobs)})


@contextlib.contextmanager
def _screen(*, in_place: bool) -> Iterator[Callable[[str], None]]:
    if not in_place:

        def say(text: str) -> None:
            typer.echo(text)
            sys.stdout.flush()

        yield say
        return
    from rich.live import Live  # noqa: PLC0415  - only where it shows
    from rich.text import Text  # noqa: PLC0415

    with Live(auto_refresh=False, screen=False) as live:

        def draw(text: str) -> None:
            room = shutil.get_terminal_size().lines - _SPARE_LINES
            live.update(Text("\n".join(text.splitlines()[:room]), no_wrap=True), refresh=True)

        yield draw
