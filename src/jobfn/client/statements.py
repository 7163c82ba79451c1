"""A statement and its values, made once and run by any driver.

Values travel as text, lists of text or null, and the SQL casts them: so every driver sends the same thing, whatever it
thinks of times and UUIDs. ``drivers.py`` rewrites the places of the values (``$1``, ``%s``, ``:p1``) and runs it.
"""

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from jobfn.sql.loader import load_query
from jobfn.sql.quoting import quote_identifier

DEFAULT_SCHEMA = "app_jobs"

Value = str | Sequence[str | None] | None

_PLACE = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A query of ``queries.sql`` with its values. It returns one row.

    Attributes:
        name: Of the query.
        schema: The jobs schema.
        values: One for each place, in their order; each place stands in the text once.
        is_traced: Whether the query ``traced`` is around it; the values of ``traced`` come first.
    """

    name: str
    schema: str
    values: tuple[Value, ...]
    is_traced: bool = False

    def numbered(self) -> str:
        """The text with ``$1``, as asyncpg reads it."""
        return _text(self.name, self.schema, self.is_traced)

    def formatted(self) -> str:
        """The text with ``%s``, as psycopg and Django read it."""
        return _formatted(self.name, self.schema, self.is_traced)

    def named(self) -> tuple[str, dict[str, Value]]:
        """The text with ``:p1`` and the values by name, as SQLAlchemy's ``text()`` reads it."""
        return _named(self.name, self.schema, self.is_traced), {
            f"p{place}": value for place, value in enumerate(self.values, 1)
        }


def schema_or_default(schema: str | None) -> str:
    """The jobs schema: as given, else ``JOBS_SCHEMA``, else ``app_jobs``."""
    return schema or os.environ.get("JOBS_SCHEMA") or DEFAULT_SCHEMA


@functools.cache
def _parts(name: str, is_traced: bool) -> list[str]:  # noqa: FBT001  - private, and a part of the cache's key
    """Return the text of a query, split where the schema's name belongs."""
    text = load_query("jobfn.client", "queries.sql", name)
    if is_traced:
        traced = load_query("jobfn.client", "queries.sql", "traced")
        text = traced.replace("@query@", _PLACE.sub(lambda place: f"${int(place[1]) + 2}", text))
    return text.split("@schema@")


@functools.cache
def _text(name: str, schema: str, is_traced: bool) -> str:  # noqa: FBT001  - as _parts
    return quote_identifier(schema, what="schema name").join(_parts(name, is_traced))


@functools.cache
def _formatted(name: str, schema: str, is_traced: bool) -> str:  # noqa: FBT001  - as _parts
    quoted = quote_identifier(schema, what="schema name").replace("%", "%%")
    return quoted.join(_PLACE.sub("%s", part.replace("%", "%%")) for part in _parts(name, is_traced))


@functools.cache
def _named(name: str, schema: str, is_traced: bool) -> str:  # noqa: FBT001  - as _parts
    quoted = quote_identifier(schema, what="schema name")
    if "%" in schema:  # SQLAlchemy 2.0 reads %(x)s as a placeholder, even here: escape the sign
        quoted = "U&" + quoted.replace("\\", "\\\\").replace("%", "\\0025")
    quoted = quoted.replace("\\", "\\\\").replace(":", "\\:")
    return quoted.join(_PLACE.sub(r":p\1", part) for part in _parts(name, is_traced))
