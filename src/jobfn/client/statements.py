"""A statement and its values, made once and run by any driver.

Values travel as text, lists of text or null, and the SQL casts them: so every driver sends the same thing, whatever it
thinks of times and UUIDs. ``drivers.py`` rewrites the places of the values (``$1``, ``%s``, ``:p1``) and runs it.
"""

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from jobfn.identifiers import quote_identifier

DEFAULT_SCHEMA = "app_jobs"

Value = str | Sequence[str | None] | None

_QUERIES = resources.files("jobfn.client") / "queries"
_PLACE = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A query of ``queries/*.sql`` with what it is about. It answers with one row.

    Attributes:
        name: Of the query.
        schema: The jobs schema.
        values: One for each place, in their order; each place stands in the text once.
    """

    name: str
    schema: str
    values: tuple[Value, ...]

    def numbered(self) -> str:
        """The text with ``$1``, as asyncpg reads it."""
        return _text(self.name, self.schema)

    def formatted(self) -> str:
        """The text with ``%s``, as psycopg and Django read it."""
        return _formatted(self.name, self.schema)

    def named(self) -> tuple[str, dict[str, Value]]:
        """The text with ``:p1`` and the values by name, as SQLAlchemy's ``text()`` reads it."""
        return _named(self.name, self.schema), {f"p{place}": value for place, value in enumerate(self.values, 1)}


def schema_or_default(schema: str | None) -> str:
    """The jobs schema: as given, else ``JOBS_SCHEMA``, else ``app_jobs``."""
    return schema or os.environ.get("JOBS_SCHEMA") or DEFAULT_SCHEMA


@functools.cache
def _parts(name: str) -> list[str]:
    """The text of a query, without its comments, between the places where the schema stands."""
    lines = (_QUERIES / f"{name}.sql").read_text("utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("--")).split("@schema@")


@functools.cache
def _text(name: str, schema: str) -> str:
    return quote_identifier(schema).join(_parts(name))


@functools.cache
def _formatted(name: str, schema: str) -> str:
    quoted = quote_identifier(schema).replace("%", "%%")
    return quoted.join(_PLACE.sub("%s", part.replace("%", "%%")) for part in _parts(name))


@functools.cache
def _named(name: str, schema: str) -> str:
    quoted = quote_identifier(schema).replace("\\", "\\\\").replace(":", "\\:")
    return quoted.join(_PLACE.sub(r":p\1", part) for part in _parts(name))
