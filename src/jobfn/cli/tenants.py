"""``jobfn tenants``: the weights by which tenants take turns."""

from typing import Annotated
from uuid import UUID

import typer

from jobfn.cli import render_jobs
from jobfn.cli.options import AsJson, DatabaseUrl
from jobfn.cli.output import echo
from jobfn.cli.render_times import columns
from jobfn.cli.session import with_operations
from jobfn.operations import Operations

app = typer.Typer(no_args_is_help=True, help="Set how often tenants take turns.")


@app.command("list", epilog="example: jobfn tenants list")
def list_command(as_json: AsJson = False, database_url: DatabaseUrl = None) -> None:
    """List the tenants with a weight other than 1."""
    weights = with_operations(Operations.tenant_weights, database_url)
    if as_json:
        echo(render_jobs.as_json(weights))
        return
    rows = [("TENANT", "WEIGHT"), *((each.tenant, str(each.weight)) for each in weights)]
    echo("\n".join(columns(rows)) if weights else "all tenants have the weight 1")


@app.command("set", epilog="example: jobfn tenants set 5b720132-17d5-424d-9bcb-ee7b17c13d43 --weight 3")
def set_command(
    tenant: Annotated[UUID, typer.Argument(metavar="UUID", help="The tenant.")],
    weight: Annotated[int, typer.Option(min=1, max=1000, help="Jobs for each one of another tenant.")],
    database_url: DatabaseUrl = None,
) -> None:
    """Set how many jobs a tenant starts for each one of another.

    It counts while both tenants have ready jobs.
    """
    with_operations(lambda operations: operations.set_tenant_weight(str(tenant), weight), database_url)
    echo(f"tenant {tenant}: weight {weight}")
