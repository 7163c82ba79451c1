"""Explain a missing right in one line: the role, the right, and the command that grants it."""

import contextlib
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import DatabaseError, PermissionDenied

#: Grants of ``jobfn db migrate`` in the order in which they are advised.
_FUNCTION_GRANTS = ("viewer", "enqueue", "result", "operator", "worker")


@contextlib.asynccontextmanager
async def explain_denied(
    connection: "asyncpg.Connection[Any]", schema: str, *, grant: str = "viewer"
) -> AsyncIterator[None]:
    """Turn a statement's rejection for a missing right into ``PermissionDenied``.

    Args:
        connection: The connection of the statement. Open transactions inside the block.
        schema: The jobs schema.
        grant: The grant to advise, if it includes the right.

    Raises:
        PermissionDenied: The role lacks a right.
    """
    try:
        yield
    except (asyncpg.InsufficientPrivilegeError, DatabaseError) as error:
        denied = error if isinstance(error, asyncpg.InsufficientPrivilegeError) else error.__cause__
        if not isinstance(denied, asyncpg.InsufficientPrivilegeError) or connection.is_in_transaction():
            raise
        explained = await _explain(connection, schema, str(denied), grant)
        if explained is None and error is not denied:
            raise  # it says what to do
        if explained is None:
            row = await connection.fetchrow(query("schema_kind", schema), schema)
            explained = PermissionDenied(f"role {row['role']} lacks a right ({denied})", "connect as another role")
        raise explained from denied


@contextlib.asynccontextmanager
async def explain_denied_in_pool(pool: "asyncpg.Pool[Any]", schema: str, *, grant: str) -> AsyncIterator[None]:
    """Do the same for statements of all connections of a pool, one of which is used for the explanation only."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError:
        async with pool.acquire() as connection, explain_denied(connection, schema, grant=grant):
            raise


def missing_right(
    role: str, right: str, *, schema: str, owner: str, grant: str | None, is_native: bool = True
) -> PermissionDenied:
    """Return the error for a missing right; without a grant that includes it, only the owner has it."""
    problem = f"role {role} lacks {right}"
    if not is_native:
        return PermissionDenied(problem, f"grant it as {owner}, or connect as another role")
    if grant is None:
        return PermissionDenied(problem, f"connect as {owner}, the owner of schema {schema}")
    return PermissionDenied(problem, f"run `jobfn db migrate --grant-{grant} {role}` as {owner}")


async def _explain(
    connection: "asyncpg.Connection[Any]", schema: str, message: str, grant: str
) -> PermissionDenied | None:
    """Find the object that PostgreSQL's message names at its end, and the grant that includes the right to use it."""
    row = await connection.fetchrow(query("denied_object", schema), schema, message)
    if row is None:
        return None
    role, owner, name = row["role"], row["owner"], row["name"]
    right: str
    option: str | None
    match row["kind"]:
        case "schema" if row["is_allowed"]:
            right, option = f"CREATE on schema {schema}", None
        case "schema":
            right, option = f"USAGE on schema {schema}", grant
        case "function":
            right = f"EXECUTE on function {schema}.{name}"
            option = next((each for each in _FUNCTION_GRANTS if _is_granted(each, name)), None)
        case _ if row["is_allowed"]:
            right = f"the right to change {schema}.{name}"
            option = "operator" if _is_granted("operator", name) else None
        case _:
            right, option = f"SELECT on {schema}.{name}", "viewer" if _is_granted("viewer", name) else None
    if grant != "viewer" and _is_granted(grant, name):
        option = grant
    return missing_right(role, right, schema=schema, owner=owner, grant=option, is_native=row["is_native"])


def _is_granted(grant: str, name: str) -> bool:
    return re.search(rf"\.{re.escape(name)}\b", query(f"grant_{grant}", "s", role="r")) is not None
