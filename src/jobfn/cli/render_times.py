"""Format times, durations and tables for people."""

import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from jobfn.database.connection import EARLIEST, LATEST

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))
#: Maximum width of a table outside of a terminal.
_MAX_WIDTH = 500
#: Columns are not shortened below this width.
_MIN_COLUMN_WIDTH = 8


def columns(rows: Sequence[tuple[str, ...]], *, max_width: int | None = None, whole: int = 0) -> list[str]:
    """Align cells in columns, below a first row of headers.

    A table that is wider than the terminal loses its empty columns, and its widest columns are shortened.

    Args:
        rows: The cells.
        max_width: Maximum length of a line. Default: the terminal's width.
        whole: Number of columns on the left that keep their width.
    """
    if max_width is None:
        max_width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _MAX_WIDTH
    table = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in table]
    if _line_width(widths) > max_width:
        table = [column for column in table if any(column[1:])] or table
        widths = _fit([max(map(len, column)) for column in table], max_width, whole)
    lines = (
        "  ".join(_shorten(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*table, strict=True)
    )
    return [_shorten(line, max_width) for line in lines]


def _line_width(widths: Sequence[int]) -> int:
    return sum(widths) + 2 * (len(widths) - 1)


def _fit(widths: Sequence[int], max_width: int, whole: int) -> list[int]:
    """Shorten the widest columns until a line fits."""
    kept, fitted = list(widths[:whole]), list(widths[whole:])
    while _line_width([*kept, *fitted]) > max_width and max(fitted) > _MIN_COLUMN_WIDTH:
        fitted[fitted.index(max(fitted))] -= 1
    return [*kept, *fitted]


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


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
