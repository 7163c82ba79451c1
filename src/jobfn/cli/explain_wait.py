"""``jobfn explain-wait``: name the reason why a job waits."""

from typing import Annotated

import typer

from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.cli.render_jobs import as_json
from jobfn.cli.session import with_operations
from jobfn.errors import DatabaseError
from jobfn.operations import Operations
from jobfn.operations.wait_reasons import WaitReason


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("explain-wait", epilog="example: jobfn explain-wait 42 --all")(explain_wait_command)


def explain_wait_command(
    job_id: Annotated[int, typer.Argument(metavar="ID", help="The job.")],
    show_all: Annotated[bool, typer.Option("--all", help="Print every reason, not only the first.")] = False,
    json_output: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """Explain in one line why a job does not run.

    With several reasons, the first is the one to look at: those that block longer come first.
    """

    async def work(operations: Operations) -> tuple[WaitReason, ...]:
        reasons = await operations.explain_wait(job_id)
        if not reasons:
            raise DatabaseError(
                f"job {job_id} does not wait: it has completed, was removed, or never existed. See `jobfn jobs show "
                f"{job_id}`"
            )
        return reasons

    reasons = with_operations(work, database_url)
    shown = reasons if show_all else reasons[:1]
    echo(as_json(shown) if json_output else "\n".join(reason.text for reason in shown))
