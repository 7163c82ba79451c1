"""``jobfn audit``: who did what, when."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from jobfn.cli import render_jobs
from jobfn.cli.options import AsJson, DatabaseUrl, parse_seconds
from jobfn.cli.output import echo
from jobfn.cli.render_times import columns
from jobfn.cli.session import with_operations
from jobfn.operations.audit import ACTIONS, MAX_LISTED, AuditPage


def register_commands(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit", epilog="examples: jobfn audit --since 1d; jobfn audit --actor ada --action cancel --json")(
        audit_command
    )


def audit_command(
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Only the last 15m, 2h or 1d.")] = None,
    actor: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only people and roles whose name contains TEXT.")
    ] = None,
    action: Annotated[
        str | None,
        typer.Option(help="Only this action: retry, pause, set_limit ...", autocompletion=lambda: list(ACTIONS)),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LISTED, help="Maximum number of entries.")] = 50,
    before: Annotated[
        int | None, typer.Option(min=1, max=2**63 - 1, metavar="ID", help="Only entries before this one.")
    ] = None,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
) -> None:
    """List who did what, and when."""
    seconds = parse_seconds(since, "--since")
    start = None if seconds is None else datetime.now(UTC) - timedelta(seconds=seconds)
    page = with_operations(
        lambda operations: operations.audit(since=start, actor=actor, action=action, limit=limit, before=before),
        database_url,
        spinner="Loading the audit list",
    )
    echo(render_jobs.as_json(page) if as_json else "\n".join(_table(page)))


def _table(page: AuditPage) -> list[str]:
    if not page.entries:
        return ["no entries"]
    rows = [("WHEN (UTC)", "WHO", "THROUGH", "ACTION", "ON", "DETAILS")]
    rows += [
        (f"{e.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", e.who, e.source, e.action, e.what, e.text) for e in page.entries
    ]
    return columns(rows, whole=1) + ([f"more: --before {page.next}"] if page.next is not None else [])
