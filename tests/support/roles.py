"""Roles of the PostgreSQL server, which all its databases share."""

import contextlib
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncpg

from jobfn.sql.quoting import quote_identifier


@contextlib.asynccontextmanager
async def temporary_role(
    connection: asyncpg.Connection, *, name: str | None = None, password: str | None = None
) -> AsyncIterator[str]:
    """Create a role without privileges, and drop it at the end of the block. With a password, it can log in."""
    name = name or f"jobfn_test_{secrets.token_hex(8)}"
    role = quote_identifier(name)
    await connection.execute(f"create role {role}" + (f" login password '{password}'" if password else ""))
    try:
        yield name
    finally:
        await connection.execute("reset role")
        await connection.execute(f"drop owned by {role} cascade")
        await connection.execute(f"drop role {role}")


@dataclass(frozen=True)
class Role:
    """A role that can log in."""

    name: str
    dsn: str


@contextlib.asynccontextmanager
async def login_role(connection: asyncpg.Connection, dsn: str) -> AsyncIterator[Role]:
    """Create a role without privileges that can log in to the database, and drop it at the end of the block."""
    password = secrets.token_hex(16)
    async with temporary_role(connection, password=password) as name:
        scheme, _, rest = dsn.partition("://")
        yield Role(name, f"{scheme}://{name}:{password}@{rest.rpartition('@')[2]}")
