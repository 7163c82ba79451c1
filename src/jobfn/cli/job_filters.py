"""Options that filter jobs."""

import math
import re
from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli.options import str_or_none
from jobfn.cli.session import complete_tasks
from jobfn.errors import ConfigurationError
from jobfn.operations import JobFilter, JobState

_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGE = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>[smhdw]?)")

Task = Annotated[
    str | None,
    typer.Option("--task", "-t", help="Only jobs of this task.", autocompletion=complete_tasks, show_default=False),
]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Only jobs of this named queue.", show_default=False)]
State = Annotated[JobState | None, typer.Option("--state", "-s", help="Only jobs in this state.", show_default=False)]
OlderThan = Annotated[
    str | None,
    typer.Option(metavar="AGE", help="Only jobs enqueued before: 30s, 15m, 2h, 7d ago.", show_default=False),
]
NewerThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only jobs enqueued since: 30s, 15m, 2h, 7d ago.", show_default=False)
]
ErrorText = Annotated[
    str | None,
    typer.Option("--error", "-e", metavar="TEXT", help="Only jobs whose last error contains TEXT.", show_default=False),
]
Search = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT", help="A job id, the start of a key or task, or a part of the last error.", show_default=False
    ),
]
Tenant = Annotated[
    UUID | None, typer.Option("--database-id", metavar="UUID", help="Only jobs of this tenant.", show_default=False)
]
Worker = Annotated[str | None, typer.Option(help="Only jobs locked by this worker.", show_default=False)]


def parse_filter(
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
    """Return the filter of these options.

    Raises:
        ConfigurationError: An age is invalid.
    """
    return JobFilter(
        task=task,
        queue=queue,
        state=state,
        error=error,
        search=search,
        tenant=str_or_none(tenant),
        worker=worker,
        older_than_seconds=_parse_age(older_than, "--older-than"),
        newer_than_seconds=_parse_age(newer_than, "--newer-than"),
    )


def _parse_age(text: str | None, option: str) -> float | None:
    if text is None:
        return None
    match = _AGE.fullmatch(text.strip().lower())
    if match is None or not math.isfinite(float(match["number"])):
        raise ConfigurationError(f"{option} {text!r} is not an age: write 30s, 15m, 2h or 7d")
    return float(match["number"]) * _UNIT_SECONDS[match["unit"]]
