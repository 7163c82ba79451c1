"""A statement and its values, which every supported driver can run.

Values are strings, lists of strings or null, and the SQL casts them, so that the drivers' different types for times and
UUIDs do not matter. ``drivers.py`` chooses the placeholders (``$1``, ``%s``, ``:p1``) and runs the statement.
"""

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jobfn.sql.loader import load_query, omit_arguments
from jobfn.sql.quoting import quote_identifier

DEFAULT_SCHEMA = "app_jobs"

Value = str | Sequence[str | None] | None

_PLACEHOLDER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A query of ``queries.sql`` with its values. It returns one row.

    The methods are named after the paramstyles of PEP 249.

    Attributes:
        name: The query's name.
        schema: The jobs schema.
        values: One value for each placeholder, in order. Each placeholder occurs once.
        wrappers: Queries that surround it, the outermost first: ``traced``, ``as_tenant``. Their values come first.
        omitted: Arguments of its function that are left out, and have no value.
    """

    name: str
    schema: str
    values: tuple[Value, ...]
    wrappers: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()

    def wrapped(self, wrapper: str, *values: Value) -> "Statement":
        """Return the statement inside another query, whose values these are."""
        return replace(self, values=(*values, *self.values), wrappers=(wrapper, *self.wrappers))

    def numeric(self) -> str:
        """Return the text with ``$1``, for asyncpg."""
        return _numeric(self.name, self.schema, self.wrappers, self.omitted)

    def format(self) -> str:
        """Return the text with ``%s``, for psycopg and Django."""
        return _format(self.name, self.schema, self.wrappers, self.omitted)

    def named(self) -> tuple[str, dict[str, Value]]:
        """Return the text with ``:p1``, for SQLAlchemy's ``text()``, and the values by name."""
        values = {f"p{number}": value for number, value in enumerate(self.values, 1)}
        return _named(self.name, self.schema, self.wrappers, self.omitted), values


def schema_or_default(schema: str | None) -> str:
    """Return the given jobs schema, else ``JOBS_SCHEMA``, else ``app_jobs``."""
    return schema or os.environ.get("JOBS_SCHEMA") or DEFAULT_SCHEMA


@functools.cache
def _parts(name: str, wrappers: tuple[str, ...], omitted: tuple[str, ...]) -> list[str]:
    """Return the text of a query, split at the schema's name."""
    text = omit_arguments(load_query("jobfn.client", "queries.sql", name), omitted)
    for wrapper in reversed(wrappers):
        outer = load_query("jobfn.client", "queries.sql", wrapper)
        text = outer.replace("@query@", _renumber(text, by=len(_PLACEHOLDER.findall(outer))))
    return text.split("@schema@")


def _renumber(text: str, *, by: int) -> str:
    return _PLACEHOLDER.sub(lambda match: f"${int(match[1]) + by}", text)


@functools.cache
def _numeric(name: str, schema: str, wrappers: tuple[str, ...], omitted: tuple[str, ...]) -> str:
    return quote_identifier(schema, what="schema name").join(_parts(name, wrappers, omitted))


@functools.cache
def _format(name: str, schema: str, wrappers: tuple[str, ...], omitted: tuple[str, ...]) -> str:
    quoted = quote_identifier(schema, what="schema name").replace("%", "%%")
    return quoted.join(_PLACEHOLDER.sub("%s", part.replace("%", "%%")) for part in _parts(name, wrappers, omitted))


@functools.cache
def _named(name: str, schema: str, wrappers: tuple[str, ...], omitted: tuple[str, ...]) -> str:
    quoted = quote_identifier(schema, what="schema name")
    if "%" in schema:  # SQLAlchemy 2.0 reads %(x)s as a placeholder even in a quoted name: escape the sign
        quoted = "U&" + quoted.replace("\\", "\\\\").replace("%", "\\0025")
    quoted = quoted.replace("\\", "\\\\").replace(":", "\\:")
    return quoted.join(_PLACEHOLDER.sub(r":p\1", part) for part in _parts(name, wrappers, omitted))
