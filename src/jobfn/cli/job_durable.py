"""``jobfn jobs signal`` and ``jobfn jobs retry ID --from-step NAME``, for durable functions."""

from typing import Annotated

import typer

from jobfn.cli import render_jobs
from jobfn.cli.database import jobs_schema, with_connection
from jobfn.cli.options import DatabaseUrl, check_json
from jobfn.cli.output import echo
from jobfn.cli.session import confirm, with_operations
from jobfn.database.signals import send_signal
from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.operations import Operations
from jobfn.operations.durable_actions import StepRetry

SIGNAL_EXAMPLES = (
    """examples: jobfn jobs signal 42 approved --payload '{"by": "ada"}'; jobfn jobs signal --key order-42 approved"""
)


def signal_command(
    job_id: Annotated[str, typer.Argument(metavar="[ID]", help="The job; with --key, leave it out.")],
    event: Annotated[str | None, typer.Argument(metavar="EVENT", help="The name of the signal.")] = None,
    key: Annotated[str | None, typer.Option(help="The job's key, instead of its id.")] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON", help="The payload. Default: null.")] = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Send a signal to a durable function.

    It goes to the job's first wait for this event, or, if there is none, to its next one.
    """
    if key is None:
        if event is None:
            raise ConfigurationError("a job and an event are required: jobfn jobs signal 42 approved")
        if not (job_id.isascii() and job_id.isdigit() and int(job_id) < 2**63):
            raise ConfigurationError(f"{job_id!r} is not a job id: write --key {job_id} if it is a key")
        job: int | str = int(job_id)
    else:
        if event is not None:
            raise ConfigurationError("a job id and --key cannot be combined: use one of them")
        job, event = key, job_id
    text = None if payload is None else check_json(payload)
    is_sent = with_connection(
        lambda connection: send_signal(connection, jobs_schema(), job, event, text),
        database_url,
        application_name="jobfn-operate",
        grant="enqueue",
        is_recorded=True,
    )
    name = f"job {job}" if isinstance(job, int) else f"the job with the key {job!r}"
    if not is_sent:
        raise DatabaseError(f"{name} does not exist or has ended: no signal was sent")
    echo(f"sent {event!r} to {name}")


def retry_from_step(job_id: int, name: str, *, yes: bool, as_json: bool, database_url: str | None) -> None:
    """Ask for confirmation, and retry a durable job from a step."""

    async def work(operations: Operations) -> StepRetry:
        retry = await operations.plan_retry(job_id, name)
        confirm(f"forget {steps_text(retry)} of job {job_id}, and run it now?", yes=yes)
        await operations.retry_from_step(retry)
        return retry

    retry = with_operations(work, database_url)
    echo(render_jobs.as_json(retry) if as_json else f"job {job_id} forgot {steps_text(retry)}, and runs now")


def steps_text(retry: StepRetry) -> str:
    """Describe the steps that a retry forgets."""
    later = retry.steps - 1
    text = f"step {retry.name!r}"
    if later:
        text += f" and {later:,} later one{'' if later == 1 else 's'}"
    if retry.children:
        text += f" with {retry.children:,} child job{'' if retry.children == 1 else 's'}"
    return text
