"""The snapshot of the schema in the repository is that of the migrations, so that reviews see each change."""

import difflib
from typing import Any

import asyncpg

from schema_snapshot import SNAPSHOT, snapshot


async def test_the_snapshot_is_up_to_date(connection: "asyncpg.Connection[Any]") -> None:
    """On every version of PostgreSQL; on failure it shows the difference."""
    found = await snapshot(connection)
    kept = SNAPSHOT.read_text("utf-8")
    difference = difflib.unified_diff(
        kept.splitlines(), found.splitlines(), "schema.sql", "migrations", lineterm="", n=1
    )
    assert found == kept, "run `make schema-snapshot`:\n" + "\n".join(difference)
