"""Least privilege: which roles may enqueue, and which may work.

The grants are in ``queries/migrations.sql``. Each migration revokes its functions from everybody else. ``migrate.py``
calls this under its lock.
"""

from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import ConfigurationError
from jobfn.sql.quoting import quote_identifier


@dataclass(frozen=True, slots=True)
class Grants:
    """Roles, by what they are to do. One role may be in both.

    Attributes:
        enqueue: They add jobs and schedules, and read or change nothing.
        work: They run worker, callback server and scheduler.
    """

    enqueue: tuple[str, ...] = ()
    work: tuple[str, ...] = ()


NO_GRANTS = Grants()

#: The first PostgreSQL on which a role can be allowed to vacuum a table that is not its own.
MAINTAIN_SERVER_VERSION = 17


async def check_roles(connection: "asyncpg.Connection[Any]", schema: str, grants: Grants) -> None:
    """Look whether all these roles are there, before anything is changed.

    Raises:
        ConfigurationError: One is not; names it.
    """
    wanted = dict.fromkeys((*grants.enqueue, *grants.work))
    for role in wanted:
        quote_identifier(role, what="role name")
    unknown = await connection.fetchval(query("unknown_roles", schema), list(wanted))
    if unknown == "public":
        raise ConfigurationError("public is everybody and not a role: name the role that is to have this right")
    if unknown is not None:
        raise ConfigurationError(
            f"there is no role {unknown!r} on this server: create it first (create role ... login)"
        )


async def grant(connection: "asyncpg.Connection[Any]", schema: str, grants: Grants) -> None:
    """Give the roles what they need. Twice is as once; nothing is ever taken away.

    Args:
        connection: Of the schema's owner.
        schema: Its name.
        grants: Which roles; ``check_roles`` has seen them.
    """
    async with connection.transaction():
        for role in grants.enqueue:
            await connection.execute(query("grant_enqueue", schema, role=role))
        for role in grants.work:
            await connection.execute(query("grant_worker", schema, role=role))
            if connection.get_server_version().major >= MAINTAIN_SERVER_VERSION:
                await connection.execute(query("grant_vacuum", schema, role=role))
