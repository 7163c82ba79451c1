"""The options that say which jobs: the same words for every command."""

import math
import re
from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli.session import complete_tasks
from jobfn.errors import ConfigurationError
from jobfn.operations import JobFilter, JobState

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[smhdw]?)")

Task = Annotated[
    str | None, typer.Option("--task", "-t", help="Of this task.", autocompletion=complete_tasks, show_default=False)
]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Of this named queue.", show_default=False)]
State = Annotated[JobState | None, typer.Option("--state", "-s", help="That stand so.", show_default=False)]
OlderThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Enqueued at least so long ago: 30s, 15m, 2h, 7d.", show_default=False)
]
NewerThan = Annotated[str | None, typer.Option(metavar="AGE", help="Enqueued at most so long ago.", show_default=False)]
ErrorText = Annotated[
    str | None, typer.Option("--error", "-e", metavar="TEXT", help="Whose last error holds this.", show_default=False)
]
Search = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="A number: this id. Any text: what a key or a task begins with, or a part of the last error.",
        show_default=False,
    ),
]
Tenant = Annotated[
    UUID | None, typer.Option("--database-id", metavar="UUID", help="Of this tenant.", show_default=False)
]
Worker = Annotated[str | None, typer.Option(help="That this worker holds.", show_default=False)]


def filter_of(
    *,
    task: str | None = None,
    queue: str | None = None,
    state: JobState | None = None,
    older_than: str | None = None,
    newer_than: str | None = None,
    error: str | None = None,
    search: str | None = None,
    tenant: UUID | None = None,
    worker: str | None = None,
) -> JobFilter:
    """The filter that these options make.

    Raises:
        ConfigurationError: An age cannot be read.
    """
    return JobFilter(
        task=task,
        queue=queue,
        state=state,
        error=error,
        search=search,
        tenant=str(tenant) if tenant is not None else None,
        worker=worker,
        older_than_seconds=_seconds(older_than, "--older-than"),
        newer_than_seconds=_seconds(newer_than, "--newer-than"),
    )


def _seconds(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    match = _AGE.fullmatch(text.strip().lower())
    if match is None or not math.isfinite(float(match["number"])):
        raise ConfigurationError(f"{option} {text!r} is no age: write 30s, 15m, 2h or 7d")
    return float(match["number"]) * _UNITS[match["unit"]]
