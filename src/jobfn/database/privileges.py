"""Grant roles the least privileges with which they can enqueue, wait for results, run a worker, look, or act.

The grants are in ``queries/migrations.sql``. Each migration revokes its functions from all other roles. ``migrate.py``
calls this module while it holds the migration lock.
"""

from dataclasses import dataclass, fields
from typing import Final

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import ConfigurationError
from jobfn.sql.quoting import quote_identifier


@dataclass(frozen=True, slots=True)
class Grants:
    """Roles to grant privileges to. A role can be in several groups.

    Attributes:
        enqueue: Roles that add jobs and schedules, and cannot read or change any.
        result: Roles that wait for results with ``job.result()``.
        steps: Roles that functions use for ``ctx.transaction``.
        worker: Roles that run workers, callback servers and schedulers.
        viewer: Roles that look at jobs, schedules, workers and the history, and cannot change any.
        operator: Roles that look as viewers do, and also add, retry, run, cancel and remove jobs and schedules.
    """

    enqueue: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    viewer: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()


NO_GRANTS = Grants()

#: First PostgreSQL version in which a role can be granted the vacuum of a table that it does not own.
MIN_MAINTAIN_SERVER_VERSION = 17
#: Statements of each group.
_STATEMENTS: Final = {
    "enqueue": ("grant_enqueue",),
    "result": ("grant_result",),
    "steps": ("grant_steps",),
    "worker": ("grant_worker",),
    "viewer": ("grant_viewer",),
    "operator": ("grant_viewer", "grant_enqueue", "grant_operator"),
}


async def check_roles(connection: asyncpg.Connection, grants: Grants) -> None:
    """Check that all roles exist.

    Raises:
        ConfigurationError: A role does not exist.
    """
    roles = dict.fromkeys(role for group in fields(grants) for role in getattr(grants, group.name))
    for role in roles:
        quote_identifier(role, what="role name")
    unknown = await connection.fetchval(query("unknown_roles", ""), list(roles))
    if unknown == "public":
        raise ConfigurationError("public means every role: name the role that needs the privileges")
    if unknown is not None:
        raise ConfigurationError(f"role {unknown!r} does not exist: create it first (create role ... login)")


async def grant(connection: asyncpg.Connection, schema: str, grants: Grants) -> None:
    """Grant the privileges. Granting twice changes nothing, and nothing is ever revoked.

    Args:
        connection: A connection of the schema's owner.
        schema: The jobs schema.
        grants: Roles that exist.
    """
    async with connection.transaction():
        for group in fields(grants):
            for role in getattr(grants, group.name):
                for name in _STATEMENTS[group.name]:
                    await connection.execute(query(name, schema, role=role))
        if connection.get_server_version().major >= MIN_MAINTAIN_SERVER_VERSION:
            for role in grants.worker:
                await connection.execute(query("grant_vacuum", schema, role=role))
