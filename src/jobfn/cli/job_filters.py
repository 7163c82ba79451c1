"""Options that filter jobs."""

import difflib
from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli.options import parse_seconds, str_or_none
from jobfn.cli.session import complete_tasks
from jobfn.errors import ConfigurationError
from jobfn.operations import JobFilter, JobOrder, JobState, Operations

Task = Annotated[
    str | None, typer.Option("--task", "-t", help="Only jobs of this task.", autocompletion=complete_tasks)
]
Queue = Annotated[str | None, typer.Option("--queue", "-q", help="Only jobs of this named queue.")]
State = Annotated[JobState | None, typer.Option("--state", "-s", help="Only jobs in this state.")]
OlderThan = Annotated[str | None, typer.Option(metavar="AGE", help="Only jobs enqueued before: 30s, 15m, 2h, 7d ago.")]
NewerThan = Annotated[str | None, typer.Option(metavar="AGE", help="Only jobs enqueued since: 30s, 15m, 2h, 7d ago.")]
ErrorText = Annotated[
    str | None, typer.Option("--error", "-e", metavar="TEXT", help="Only jobs whose last error contains TEXT.")
]
Search = Annotated[
    str | None, typer.Option(metavar="TEXT", help="A job id, the start of a key or task, or a part of the last error.")
]
Tenant = Annotated[UUID | None, typer.Option("--database-id", metavar="UUID", help="Only jobs of this tenant.")]
Sort = Annotated[
    JobOrder, typer.Option(help="newest: by id. updated: the latest change first, for example the latest failure.")
]
FailedBefore = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only jobs that failed permanently before: 30s, 15m, 2h, 7d ago.")
]
FailedAfter = Annotated[
    str | None, typer.Option(metavar="AGE", help="Only jobs that failed permanently since: 30s, 15m, 2h, 7d ago.")
]
Payload = Annotated[
    str | None,
    typer.Option(metavar="FIELD=VALUE", help="Only jobs with this value in the payload: id=42, customer.id=42."),
]
ErrorGroup = Annotated[
    str | None, typer.Option(metavar="ID", help="Only jobs of this group of errors: see `jobfn jobs errors`.")
]
Worker = Annotated[str | None, typer.Option(help="Only jobs locked by this worker.")]


def parse_filter(
    task: str | None = None,
    queue: str | None = None,
    state: JobState | None = None,
    error: str | None = None,
    older_than: str | None = None,
    newer_than: str | None = None,
    search: str | None = None,
    tenant: UUID | None = None,
    worker: str | None = None,
    failed_before: str | None = None,
    failed_after: str | None = None,
    payload: str | None = None,
    error_group: str | None = None,
) -> JobFilter:
    """Return the filter of these options."""
    return JobFilter(
        task,
        queue,
        state,
        error,
        search,
        str_or_none(tenant),
        worker,
        older_than_seconds=parse_seconds(older_than, "--older-than"),
        newer_than_seconds=parse_seconds(newer_than, "--newer-than"),
        failed_before_seconds=parse_seconds(failed_before, "--failed-before"),
        failed_after_seconds=parse_seconds(failed_after, "--failed-after"),
        payload=None if payload is None else _parse_payload(payload),
        error_group=error_group,
    )


async def unknown_task_hint(operations: Operations, job_filter: JobFilter, *, found: int) -> str | None:
    """Return a line about the filter's task if it found no job and no recent job has the task; else None."""
    if found or job_filter.task is None or job_filter.task in (known := await operations.tasks()):
        return None
    similar = difflib.get_close_matches(job_filter.task, known, n=1)
    return f"no recent job has the task {job_filter.task!r}" + (f": did you mean {similar[0]!r}?" if similar else "")


def _parse_payload(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise ConfigurationError("--payload has no field and value: write --payload FIELD=VALUE")
    return name, value
