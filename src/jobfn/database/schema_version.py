"""Compare the version of a schema with this jobfn's, so that a process on an older schema ends at the start."""

import functools
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import asyncpg

from jobfn.database.migrate import migration_files
from jobfn.database.statements import query
from jobfn.errors import SchemaError

#: Files with statements for jobfn's schema, which call its functions.
_QUERY_FILES: Final = ("jobs", "leases", "schedules", "steps", "durable_runs", "operations")
_CALL = re.compile(r"@schema@\.(\w+)\(")


@functools.cache
def required_functions() -> frozenset[str]:
    """Return the names of the schema's functions that statements of this jobfn call."""
    folder = resources.files("jobfn.database") / "queries"
    texts = ((folder / f"{name}.sql").read_text("utf-8") for name in _QUERY_FILES)
    return frozenset(name for text in texts for name in _CALL.findall(text))


async def check_version(pool: "asyncpg.Pool[Any]", schema: str, kind: Mapping[str, Any]) -> None:
    """Check that jobfn's schema has every migration of this jobfn.

    A role that may not read the record of migrations is content with the functions that statements call.

    Args:
        pool: Connections.
        schema: The jobs schema.
        kind: The row of ``schema_kind``.

    Raises:
        SchemaError: The schema is older.
    """
    advice = "run `jobfn db migrate`"
    if kind["is_record_readable"]:
        applied = await _applied_versions(pool, schema)
        if missing := [file for file in migration_files() if file.version not in applied]:
            first = f"{missing[0].version:04d} {missing[0].name}"
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise SchemaError(f"schema {schema} is older than this jobfn and lacks migration {first}{more}: {advice}")
    if not required_functions() <= set(kind["function_names"]):
        raise SchemaError(f"schema {schema} is older than this jobfn: {advice}")


async def newer_migration(pool: "asyncpg.Pool[Any]", schema: str) -> int | None:
    """Return the last migration of jobfn's schema if this jobfn does not know it; None if it does, or may not look."""
    kind = await pool.fetchrow(query("schema_kind", schema), schema)
    if not kind["is_record_readable"]:
        return None
    last = max(await _applied_versions(pool, schema), default=0)
    return last if last > migration_files()[-1].version else None


async def _applied_versions(pool: "asyncpg.Pool[Any]", schema: str) -> set[int]:
    return {row["version"] for row in await pool.fetch(query("applied_versions", schema))}
