"""The statements of this package: ``queries/*.sql``, and the numbered migrations in ``schema/*.sql``."""

import functools
import re
from importlib import resources

from jobfn.sql.loader import load_query, render

__all__ = ["migrations", "query", "render"]

_MIGRATION = re.compile(r"(?P<version>\d{4})_(?P<name>\w+)\.sql")


@functools.cache
def query(name: str, schema: str, *, role: str | None = None) -> str:
    """Return a query for this schema, and for this role if it contains one."""
    return render(load_query("jobfn.database", "queries", name), schema, role=role)


def migrations() -> list[tuple[int, str, str]]:
    """Return the migrations in order: version, name, text with its placeholders."""
    found = []
    for file in (resources.files("jobfn.database") / "schema").iterdir():
        match = _MIGRATION.fullmatch(file.name)
        if match is not None:
            found.append((int(match["version"]), match["name"], file.read_text("utf-8")))
    return sorted(found)
