"""Schemas of older versions."""

import asyncpg

from jobfn.database.migrate import migration_files
from jobfn.database.statements import query
from jobfn.sql.loader import render


async def migrate_to(connection: asyncpg.Connection, version: int) -> None:
    """Make a schema as an older jobfn made it."""
    await connection.execute(query("create_schema", "app_jobs"))
    await connection.execute(query("create_record", "app_jobs"))
    for file in migration_files()[:version]:
        await connection.execute(render(file.sql, "app_jobs"))
        await connection.execute(query("record_migration", "app_jobs"), file.version, file.name, file.checksum)
