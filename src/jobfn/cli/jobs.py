"""``jobfn jobs``: what waits, runs and failed, and what can be done with it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from jobfn.cli import render_jobs, watch
from jobfn.cli.database import DatabaseUrl
from jobfn.cli.exit_codes import LEFT
from jobfn.cli.job_filters import (
    ErrorText,
    NewerThan,
    OlderThan,
    Queue,
    Search,
    State,
    Task,
    Tenant,
    Worker,
    filter_of,
)
from jobfn.cli.session import Bar, confirm, with_operations
from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.operations import Action, ActionResult, Counts, JobDetail, JobFilter, JobPage, Minute, Operations

app = typer.Typer(
    help="See the jobs, and steer them: list, show, retry, run-now, cancel, remove, stats, watch.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="These jobs.", show_default=False)]
#: What there is more than this is called more than this.
_COUNTED = 1_000_000


@app.command(
    "list",
    epilog="examples: jobfn jobs list --state failed --error timeout; jobfn jobs list -t send_email --newer-than 2h",
)
def list_command(
    task: Task = None,
    queue: Queue = None,
    state: State = None,
    error: ErrorText = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    search: Search = None,
    tenant: Tenant = None,
    worker: Worker = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Go on below this one.", show_default=False)] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """List jobs, newest first. Completed ones (--state completed) are known from history."""
    wanted = filter_of(
        task=task,
        queue=queue,
        state=state,
        older_than=older_than,
        newer_than=newer_than,
        error=error,
        search=search,
        tenant=tenant,
        worker=worker,
    )

    async def work(operations: Operations) -> JobPage:
        return await operations.list_jobs(wanted, limit=limit, after=after)

    page = with_operations(work, database_url, doing="looking")
    typer.echo(render_jobs.as_json(page) if as_json else "\n".join(render_jobs.job_table(page, datetime.now(UTC))))


@app.command("show", epilog="example: jobfn jobs show 42")
def show_command(
    job: Annotated[int, typer.Argument(metavar="ID", help="Which one.", show_default=False)],
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Show one job: payload, attempts, every error with its time, progress. Finished ones are known from history."""

    async def work(operations: Operations) -> JobDetail:
        found = await operations.show_job(job)
        if found is None:
            kept = "" if operations.features.history else ", and no history is kept of those that are done"
            raise DatabaseError(f"there is no job {job}{kept}: see `jobfn jobs list`")
        return found

    detail = with_operations(work, database_url, doing="looking")
    typer.echo(
        render_jobs.as_json(detail) if as_json else "\n".join(render_jobs.detail_lines(detail, datetime.now(UTC)))
    )


@app.command("stats", epilog="example: jobfn jobs stats --json")
def stats_command(as_json: AsJson = False, database_url: DatabaseUrl = None) -> None:
    """Count the jobs by state, task and queue, and what was done in the last hour."""

    async def work(operations: Operations) -> tuple[Counts, tuple[Minute, ...]]:
        return await operations.counts(), await operations.throughput()

    counts, minutes = with_operations(work, database_url, doing="counting")
    if as_json:
        typer.echo(render_jobs.as_json({"counts": render_jobs.plain(counts), "minutes": render_jobs.plain(minutes)}))
    else:
        typer.echo("\n".join([*render_jobs.count_lines(counts), "", render_jobs.throughput_line(minutes)]))


@app.command("watch", epilog="example: jobfn jobs watch --task send_email; Ctrl-C ends it")
def watch_command(
    task: Task = None,
    queue: Queue = None,
    state: State = None,
    error: ErrorText = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    every: Annotated[float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="How often to look.")] = 1.0,
    times: Annotated[int | None, typer.Option(min=1, help="How often in all.", show_default="until Ctrl-C")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON a look.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Watch counts, throughput and the newest jobs, live."""
    wanted = filter_of(task=task, queue=queue, state=state, older_than=older_than, newer_than=newer_than, error=error)

    async def work(operations: Operations) -> None:
        await watch.watch(operations, wanted, every_seconds=every, times=times, as_json=as_json)

    with_operations(work, database_url)


@dataclass(frozen=True, slots=True)
class _Verb:
    """A command that does something with jobs.

    Attributes:
        action: What it does.
        name: How it is called.
        past: What it has done.
        help: What its help says.
        always_asks: Whether it asks even for a single job, because there is no way back.
    """

    action: Action
    name: str
    past: str
    help: str
    always_asks: bool = False


_VERBS = (
    _Verb(
        Action.RETRY, "retry", "retried", "Give jobs that have failed for good all their attempts anew, from now on."
    ),
    _Verb(Action.RUN_NOW, "run-now", "made due", "Let delayed jobs run now."),
    _Verb(
        Action.CANCEL,
        "cancel",
        "cancelled",
        "Fail jobs for good before they run; with --running, take them from their workers. They can be retried.",
    ),
    _Verb(Action.REMOVE, "remove", "removed", "Delete jobs that nobody runs. There is no way back.", always_asks=True),
)


def _add(verb: _Verb) -> None:
    def command(
        ids: Ids = None,
        task: Task = None,
        queue: Queue = None,
        state: State = None,
        error: ErrorText = None,
        older_than: OlderThan = None,
        newer_than: NewerThan = None,
        search: Search = None,
        tenant: Tenant = None,
        worker: Worker = None,
        running: Annotated[bool, typer.Option("--running", help="Of cancel: also what runs.")] = False,
        reason: Annotated[str | None, typer.Option(help="Of cancel: the error to leave.", show_default=False)] = None,
        yes: Yes = False,
        as_json: AsJson = False,
        database_url: DatabaseUrl = None,
    ) -> None:
        wanted = filter_of(
            task=task,
            queue=queue,
            state=state,
            older_than=older_than,
            newer_than=newer_than,
            error=error,
            search=search,
            tenant=tenant,
            worker=worker,
        )
        if ids and not wanted.is_empty:
            raise ConfigurationError("name jobs by their ids or by a filter, not by both")
        if not ids and wanted.is_empty:
            raise ConfigurationError(f"which jobs? Name ids, or a filter: jobfn jobs {verb.name} --task TASK")
        if (running or reason is not None) and verb.action is not Action.CANCEL:
            raise ConfigurationError("--running and --reason go with `jobfn jobs cancel`")

        async def work(operations: Operations) -> ActionResult:
            if ids:
                if verb.always_asks or running or len(ids) > 1:
                    confirm(f"{verb.name} {_jobs(len(ids))}?", yes=yes)
                return await operations.act(verb.action, ids, reason=reason, running=running)
            return await _in_bulk(operations, verb, wanted, reason=reason, running=running, yes=yes)

        result = with_operations(work, database_url)
        typer.echo(render_jobs.as_json(result) if as_json else "\n".join(render_jobs.result_lines(result, verb.past)))
        if result.skipped_count:
            raise typer.Exit(LEFT)

    example = f"examples: jobfn jobs {verb.name} 42; jobfn jobs {verb.name} --task send_email --older-than 1h --yes"
    app.command(verb.name, help=verb.help, epilog=example)(command)


async def _in_bulk(
    operations: Operations,
    verb: _Verb,
    wanted: JobFilter,
    *,
    reason: str | None,
    running: bool,
    yes: bool,
    clock: Callable[[], float] = time.monotonic,
) -> ActionResult:
    """Ask, and act with a bar on what fits."""
    count = await operations.count_targets(verb.action, wanted, running=running, at_most=_COUNTED)
    if not count:
        return ActionResult(verb.action)
    confirm(f"{verb.name} {'more than ' if count >= _COUNTED else ''}{_jobs(count)}?", yes=yes)
    with Bar(f"{verb.name} jobs", count, clock) as bar:
        return await operations.apply_to_matching(
            verb.action, wanted, reason=reason, running=running, progress=bar.advance
        )


def _jobs(count: int) -> str:
    return f"{count:,} job{'' if count == 1 else 's'}"


for _verb in _VERBS:
    _add(_verb)
