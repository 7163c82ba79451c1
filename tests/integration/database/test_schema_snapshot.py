"""``schema.sql`` is up to date, so that reviews show every change of the schema."""

import difflib

import asyncpg

from schema_snapshot import SNAPSHOT, snapshot


async def test_schema_sql_is_the_snapshot_of_the_migrated_schema(connection: asyncpg.Connection) -> None:
    expected = await snapshot(connection)
    stored = SNAPSHOT.read_text("utf-8")
    diff = difflib.unified_diff(
        stored.splitlines(), expected.splitlines(), "schema.sql", "migrations", lineterm="", n=1
    )
    assert stored == expected, "run `make schema-snapshot`:\n" + "\n".join(diff)
