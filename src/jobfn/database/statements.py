"""The SQL statements of this package: the sections of ``queries/*.sql``."""

import functools

from jobfn.sql.loader import load_query, render


@functools.cache
def query(name: str, schema: str, *, role: str | None = None) -> str:
    """Return a query for a schema, and for a role if the query contains one."""
    return render(load_query("jobfn.database", "queries", name), schema, role=role)
