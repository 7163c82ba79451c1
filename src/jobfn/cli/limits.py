"""``jobfn limits``: list, set, remove and pause limits of concurrency and rate."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from jobfn.cli import render_jobs
from jobfn.cli.options import AsJson, DatabaseUrl, parse_pause_seconds
from jobfn.cli.output import echo
from jobfn.cli.render_times import columns, moment
from jobfn.cli.session import with_operations
from jobfn.limits import check_concurrency, check_limit_name, check_per, parse_rate
from jobfn.operations import Operations
from jobfn.operations.limits import LimitRow

app = typer.Typer(
    help="Limit running jobs and starts, across all workers.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The name of the limit.")]
Key = Annotated[
    str, typer.Option(metavar="TEXT", help="The value that is limited separately. Default: the jobs without one.")
]


@app.command("list", epilog="example: jobfn limits list --keys")
def list_command(
    keys: Annotated[bool, typer.Option("--keys", help="Also list the busiest keys of each limit.")] = False,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """List limits with what they count now."""
    limits = with_operations(Operations.limits, database_url, spinner="Loading limits")
    echo(render_jobs.as_json(limits) if as_json else "\n".join(_lines(limits, datetime.now(UTC), with_keys=keys)))


@app.command(
    "set",
    epilog="""examples: jobfn limits set sync --task sync --concurrency 5 --rate 100/minute --per tenant; """
    """jobfn limits set mail --queue mail --rate 10/second""",
)
def set_command(
    name: Name,
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Only jobs of this task.")] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="Only jobs of this named queue.")] = None,
    per: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="Limit each value separately: tenant, queue, key, task or payload.FIELD."),
    ] = None,
    concurrency: Annotated[int | None, typer.Option(metavar="N", help="Maximum number of running jobs.")] = None,
    rate: Annotated[
        str | None, typer.Option(metavar="N/TIME", help="Maximum number of starts in any window: 100/minute, 5/30s.")
    ] = None,
    pause_on_retry_later: Annotated[
        bool,
        typer.Option(
            "--pause-on-retry-later", help="A RetryLater, or a 429 or 503 with Retry-After, pauses all jobs of the key."
        ),
    ] = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Add or replace a limit; jobs that run already count."""
    check_limit_name(name)
    parsed_rate = None if rate is None else parse_rate(rate)
    checked_per = None if per is None else check_per(per)
    checked_concurrency = None if concurrency is None else check_concurrency(concurrency)

    async def work(operations: Operations) -> None:
        await operations.set_limit(
            name,
            task=task,
            queue=queue,
            per=checked_per,
            concurrency=checked_concurrency,
            rate=parsed_rate,
            pauses_on_retry_later=pause_on_retry_later,
        )

    with_operations(work, database_url)
    echo(f"set {name}")


@app.command("remove", epilog="example: jobfn limits remove sync")
def remove_command(name: Name, database_url: DatabaseUrl = None) -> None:
    """Remove a limit, and release the jobs that it holds."""
    with_operations(lambda operations: operations.remove_limit(name), database_url)
    echo(f"removed {name}")


@app.command("pause", epilog="example: jobfn limits pause sync --key acme --for 15m")
def pause_command(
    name: Name,
    duration: Annotated[str, typer.Option("--for", metavar="AGE", help="For how long: 30s, 15m, 2h, 7d.")],
    key: Key = "",
    database_url: DatabaseUrl = None,
) -> None:
    """Start no job of one key of a limit for a time, in any worker."""
    length = timedelta(seconds=parse_pause_seconds(duration) or 0.0)
    with_operations(lambda operations: operations.pause_limit_key(name, key, duration=length), database_url)
    echo(f"paused {name}{_key_text(key)} for {duration}")


@app.command("resume", epilog="example: jobfn limits resume sync --key acme")
def resume_command(name: Name, key: Key = "", database_url: DatabaseUrl = None) -> None:
    """End the pause of one key of a limit."""
    with_operations(lambda operations: operations.pause_limit_key(name, key, duration=None), database_url)
    echo(f"resumed {name}{_key_text(key)}")


def _key_text(key: str) -> str:
    return f" {key}" if key else ""


def _lines(limits: tuple[LimitRow, ...], now: datetime, *, with_keys: bool) -> list[str]:
    if not limits:
        return ["no limits: jobfn limits set NAME --task TASK --concurrency 5"]
    rows = [("LIMIT", "TASK", "QUEUE", "PER", "RUNNING", "STARTS", "HELD", "SET BY", "PAUSED UNTIL", "NEXT")]
    for limit in limits:
        separate = limit.per is not None
        rows.append(
            (
                limit.name,
                limit.task or "",
                limit.queue or "",
                limit.per or "",
                _used(limit.running, limit.concurrency, is_separate=separate),
                _used(limit.starts, limit.rate, is_separate=separate),
                str(limit.held),
                limit.set_by,
                *(("", "") if separate or not limit.keys else _times(limit, 0, now)),
            )
        )
        if with_keys and separate:
            rows += [
                (
                    *(f"  {key.key or '(none)'}", "", "", ""),
                    *(str(key.running), str(key.starts), str(key.held), ""),
                    *_times(limit, position, now),
                )
                for position, key in enumerate(limit.keys)
            ]
    return columns(rows)


def _used(count: int, maximum: int | str | None, *, is_separate: bool) -> str:
    if maximum is None:
        return ""
    return f"{count} (max {maximum} each)" if is_separate else f"{count} (max {maximum})"


def _times(limit: LimitRow, position: int, now: datetime) -> tuple[str, str]:
    key = limit.keys[position]
    return (
        "" if key.paused_until is None else moment(key.paused_until, now),
        "" if key.wakes_at is None else moment(key.wakes_at, now),
    )
