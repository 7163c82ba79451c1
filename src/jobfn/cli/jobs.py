"""``jobfn jobs``: list jobs, group errors, show one job, retry, run now or again, wake, cancel and remove them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from jobfn.cli import bulk_actions, render_errors, render_jobs
from jobfn.cli.exit_codes import INTERRUPTED, PARTIAL
from jobfn.cli.job_durable import SIGNAL_EXAMPLES, retry_from_step, signal_command
from jobfn.cli.job_filters import (
    ErrorGroup,
    ErrorText,
    FailedAfter,
    FailedBefore,
    NewerThan,
    OlderThan,
    Payload,
    Queue,
    Search,
    Sort,
    State,
    Task,
    Tenant,
    Worker,
    parse_filter,
    unknown_task_hint,
)
from jobfn.cli.options import AsJson, DatabaseUrl, Yes
from jobfn.cli.output import echo
from jobfn.cli.session import confirm, with_operations
from jobfn.cli.watch import watch_jobs
from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.operations import (
    Action,
    ActionResult,
    JobCounts,
    JobDetail,
    JobFilter,
    JobOrder,
    JobPage,
    Operations,
    ThroughputBucket,
    Trouble,
)

app = typer.Typer(help="List, show, retry, cancel and remove jobs.", no_args_is_help=True, rich_markup_mode=None)


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
    failed_before: FailedBefore = None,
    failed_after: FailedAfter = None,
    payload: Payload = None,
    error_group: ErrorGroup = None,
    sort: Sort = JobOrder.NEWEST,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="Continue after the last page.")] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """List jobs, newest first or by their last change.

    Completed jobs are in the history only: --state completed.
    """
    job_filter = parse_filter(
        *(task, queue, state, error, older_than, newer_than, search, tenant, worker),
        *(failed_before, failed_after, payload, error_group),
    )

    async def work(operations: Operations) -> tuple[JobPage, tuple[Trouble, ...], str | None]:
        page = await operations.list_jobs(job_filter, limit=limit, after=after, order=sort)
        hint = await unknown_task_hint(operations, job_filter, found=len(page.jobs))
        return page, () if as_json else await operations.troubles(), hint

    page, troubles, hint = with_operations(work, database_url, spinner="Loading jobs")
    echo(render_jobs.as_json(page) if as_json else "\n".join(render_jobs.job_table(page, datetime.now(UTC))))
    if hint:
        echo(hint, err=True)
    _warn(troubles)


@app.command(
    "errors",
    epilog="examples: jobfn jobs errors --newer-than 1d; jobfn jobs retry --task send_email --error-group d5587885fe42",
)
def errors_command(
    task: Task = None,
    queue: Queue = None,
    state: State = None,
    error: ErrorText = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    tenant: Tenant = None,
    failed_before: FailedBefore = None,
    failed_after: FailedAfter = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of groups.")] = 20,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Group failed and retried jobs by error.

    Errors of a task that differ only in numbers, ids and quoted values are one group. FIRST and LAST are the times when
    its jobs failed last.
    """
    job_filter = parse_filter(
        *(task, queue, state, error, older_than, newer_than, None, tenant, None, failed_before, failed_after)
    )
    groups = with_operations(
        lambda operations: operations.error_groups(job_filter, limit=limit), database_url, spinner="Grouping errors"
    )
    echo(render_jobs.as_json(groups) if as_json else "\n".join(render_errors.group_lines(groups, datetime.now(UTC))))


@app.command("show", epilog="example: jobfn jobs show 42")
def show_command(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job.")],
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Show one job with its payload, attempts and errors."""

    async def work(operations: Operations) -> JobDetail:
        detail = await operations.get_job(job_id)
        if detail is None:
            history = "" if operations.capabilities.history else " (completed jobs are deleted: there is no history)"
            raise DatabaseError(f"job {job_id} does not exist{history}: see `jobfn jobs list`")
        return detail

    detail = with_operations(work, database_url, spinner="Loading the job")
    echo(render_jobs.as_json(detail) if as_json else "\n".join(render_jobs.detail_lines(detail, datetime.now(UTC))))


@app.command("stats", epilog="example: jobfn jobs stats --json")
def stats_command(as_json: AsJson = False, database_url: DatabaseUrl = None) -> None:
    """Count jobs by state, task and queue, with the last hour."""

    async def work(operations: Operations) -> tuple[JobCounts, tuple[ThroughputBucket, ...], tuple[Trouble, ...]]:
        troubles = () if as_json else await operations.troubles()
        return await operations.counts(), await operations.throughput(), troubles

    counts, buckets, troubles = with_operations(work, database_url, spinner="Counting jobs")
    if as_json:
        echo(render_jobs.as_json({"counts": render_jobs.plain(counts), "minutes": render_jobs.plain(buckets)}))
    else:
        echo("\n".join([*render_jobs.format_counts(counts), "", render_jobs.throughput_line(buckets)]))
    _warn(troubles)


def _warn(troubles: tuple[Trouble, ...]) -> None:
    for trouble in troubles:
        echo(f"warning: {trouble}", err=True)


@app.command("watch", epilog="example: jobfn jobs watch --task send_email")
def watch_command(
    task: Task = None,
    queue: Queue = None,
    state: State = None,
    error: ErrorText = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    every: Annotated[
        float, typer.Option(min=0.1, max=3600, metavar="SECONDS", help="Interval between refreshes.")
    ] = 1.0,
    times: Annotated[int | None, typer.Option(min=1, help="Number of refreshes.", show_default="until Ctrl-C")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per refresh.")] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Watch counts, throughput and the newest jobs live."""
    job_filter = parse_filter(task, queue, state, error, older_than, newer_than)

    with_operations(
        lambda operations: watch_jobs(operations, job_filter, interval_seconds=every, times=times, as_json=as_json),
        database_url,
    )


@dataclass(frozen=True, slots=True)
class _ActionCommand:
    """A command that applies an action to jobs.

    Attributes:
        past_tense: The action in the past tense, for the result.
        always_confirms: Whether it asks even for a single job, because the action cannot be undone.
    """

    action: Action
    name: str
    past_tense: str
    help: str
    always_confirms: bool = False


_ACTION_COMMANDS = (
    _ActionCommand(
        Action.RETRY,
        "retry",
        "retried",
        "Retry permanently failed jobs.\n\n"
        "Their attempts start again from zero. With --from-step, a durable job that does not run forgets this step and "
        "those after it, and runs now.",
    ),
    _ActionCommand(Action.RUN_NOW, "run-now", "made due", "Make delayed jobs due now."),
    _ActionCommand(
        Action.RUN_AGAIN,
        "run-again",
        "added again",
        "Add completed jobs again, as new jobs.\n\n"
        "For jobs that completed while JOBS_COMPLETED_PAYLOAD_DAYS was set, which stores their payloads.",
    ),
    _ActionCommand(
        Action.WAKE,
        "wake",
        "woke",
        "Wake parked jobs now.\n\nTheir sleeps end, and their waits with a deadline time out.",
    ),
    _ActionCommand(
        Action.CANCEL,
        "cancel",
        "cancelled",
        "Fail waiting jobs permanently, and their waiting child jobs.\n\n"
        "With --running, running jobs too: their workers lose them. Cancelled jobs can be retried.",
    ),
    _ActionCommand(
        Action.REMOVE,
        "remove",
        "removed",
        "Delete jobs that are not running.\n\nThis cannot be undone.",
        always_confirms=True,
    ),
)


def _register(spec: _ActionCommand) -> None:
    is_cancel = spec.action is Action.CANCEL

    def command(
        ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Job ids.")] = None,
        task: Task = None,
        queue: Queue = None,
        state: State = None,
        error: ErrorText = None,
        older_than: OlderThan = None,
        newer_than: NewerThan = None,
        search: Search = None,
        tenant: Tenant = None,
        worker: Worker = None,
        failed_before: FailedBefore = None,
        failed_after: FailedAfter = None,
        payload: Payload = None,
        error_group: ErrorGroup = None,
        running: Annotated[
            bool, typer.Option("--running", help="Cancel running jobs too.", hidden=not is_cancel)
        ] = False,
        reason: Annotated[str | None, typer.Option(help="The error to store.", hidden=not is_cancel)] = None,
        from_step: Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help="For one durable job: forget this step and those after it.",
                hidden=spec.action is not Action.RETRY,
            ),
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the jobs, and change none.")] = False,
        yes: Yes = False,
        as_json: AsJson = False,
        database_url: DatabaseUrl = None,
    ) -> None:
        job_filter = parse_filter(
            *(task, queue, state, error, older_than, newer_than, search, tenant, worker),
            *(failed_before, failed_after, payload, error_group),
        )
        _check_options(
            spec, ids, job_filter, for_cancel=running or reason is not None, from_step=from_step, dry_run=dry_run
        )
        if from_step is not None and ids:
            retry_from_step(ids[0], from_step, yes=yes, as_json=as_json, database_url=database_url)
            return

        async def work(operations: Operations) -> tuple[ActionResult, str | None]:
            result = await _apply(
                spec, operations, ids, job_filter, include_running=running, reason=reason, dry_run=dry_run, yes=yes
            )
            return result, await unknown_task_hint(operations, job_filter, found=result.done)

        result, hint = with_operations(work, database_url)
        _echo_result(spec, result, hint, dry_run=dry_run, as_json=as_json)
        if result.is_stopped:
            raise typer.Exit(INTERRUPTED)
        if result.skipped_count:
            raise typer.Exit(PARTIAL)

    example = f"examples: jobfn jobs {spec.name} 42; jobfn jobs {spec.name} --task send_email --older-than 1h --yes"
    app.command(spec.name, help=spec.help, epilog=example)(command)


async def _apply(
    spec: _ActionCommand,
    operations: Operations,
    ids: list[int] | None,
    job_filter: JobFilter,
    *,
    include_running: bool,
    reason: str | None,
    dry_run: bool,
    yes: bool,
) -> ActionResult:
    if dry_run and ids:
        return await operations.preview(spec.action, ids, include_running=include_running)
    if dry_run:
        return await bulk_actions.count_matching(operations, spec.action, job_filter, include_running=include_running)
    if ids:
        if spec.always_confirms or include_running or len(ids) > 1:
            confirm(f"{spec.name} {bulk_actions.count_text(len(ids))}?", yes=yes)
        return await operations.apply(spec.action, ids, reason=reason, include_running=include_running)
    return await bulk_actions.apply_to_matching(
        operations,
        spec.action,
        job_filter,
        verb=spec.name,
        reason=reason,
        include_running=include_running,
        yes=yes,
    )


def _check_options(
    spec: _ActionCommand,
    ids: list[int] | None,
    job_filter: JobFilter,
    *,
    for_cancel: bool,
    from_step: str | None,
    dry_run: bool,
) -> None:
    if ids and not job_filter.is_empty:
        raise ConfigurationError("job ids and a filter cannot be combined: use one of them")
    if not ids and job_filter.is_empty:
        raise ConfigurationError(f"no jobs are selected: give ids or a filter, jobfn jobs {spec.name} --task TASK")
    if for_cancel and spec.action is not Action.CANCEL:
        raise ConfigurationError("--running and --reason are options of `jobfn jobs cancel` only")
    if from_step is not None and dry_run:
        raise ConfigurationError("--from-step cannot be combined with --dry-run: it shows its plan and asks")
    if from_step is not None and (spec.action is not Action.RETRY or len(ids or ()) != 1):
        raise ConfigurationError("--from-step is for one job: jobfn jobs retry ID --from-step NAME")


def _echo_result(spec: _ActionCommand, result: ActionResult, hint: str | None, *, dry_run: bool, as_json: bool) -> None:
    if hint:
        echo(hint, err=True)
    if as_json:
        values = render_jobs.plain(result)
        echo(render_jobs.as_json({**values, "dry_run": True} if dry_run else values))
        return
    past_tense = f"would {spec.name.replace('-', ' ')}" if dry_run else spec.past_tense
    echo("\n".join(render_jobs.result_lines(result, past_tense)))
    if spec.action is Action.RUN_AGAIN and not result.done and not result.skipped_count:
        echo("only jobs that complete while JOBS_COMPLETED_PAYLOAD_DAYS is set are stored, and can run again", err=True)
    if result.is_stopped:
        echo("stopped by Ctrl-C: run the command again for the others", err=True)


for _spec in _ACTION_COMMANDS:
    _register(_spec)
app.command("signal", epilog=SIGNAL_EXAMPLES)(signal_command)
