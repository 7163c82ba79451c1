"""Format times, durations and tables for people."""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from jobfn.database.connection import EARLIEST, LATEST

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))
#: Maximum width of a table outside of a terminal.
_MAX_WIDTH = 500


def columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Align cells in columns and truncate lines to the terminal's width."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    max_width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _MAX_WIDTH
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [line if len(line) <= max_width else f"{line[: max_width - 1]}…" for line in lines]


def ago(time: datetime, now: datetime) -> str:
    """Format a time relative to now: ``3m ago``, ``in 2h``, ``never`` for infinity."""
    if time in {LATEST, EARLIEST}:
        return "never" if time == LATEST else "long ago"
    seconds = (now - time).total_seconds()
    return f"in {seconds_text(-seconds)}" if seconds < 0 else f"{seconds_text(seconds)} ago"


def seconds_text(seconds: float) -> str:
    """Format a duration in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds >= 10 else f"{seconds:.2g}s" if seconds >= 0.001 else "0s"


def moment(time: datetime | None, now: datetime) -> str:
    """Format a time with its distance from now; empty for None."""
    if time is None:
        return ""
    if time in {LATEST, EARLIEST}:
        return ago(time, now)
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC ({ago(time, now)})"
