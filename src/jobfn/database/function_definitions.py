"""Tables of function definitions, which the platform's newest form keeps: one row for each function.

A database may have several, one for each scope (``platform_function_definitions``), and their columns differ between
versions of the platform.
"""

from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import ConfigurationError
from jobfn.sql.quoting import quote_identifier

#: Stands for the only table of function definitions in the database.
AUTO = "auto"


@dataclass(frozen=True)
class DefinitionsTable:
    """A table of function definitions.

    Attributes:
        columns: Its columns.
        generated: Those that the database computes.
    """

    schema: str
    name: str
    columns: tuple[str, ...]
    generated: frozenset[str]

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def quoted(self) -> str:
        """The name for SQL text."""
        return f"{quote_identifier(self.schema)}.{quote_identifier(self.name)}"


async def find_definitions_table(
    connection: "asyncpg.Connection[Any] | asyncpg.Pool[Any]", name: str
) -> DefinitionsTable | None:
    """Return a table of function definitions.

    Args:
        connection: A connection or a pool.
        name: ``schema.table``, or ``auto``.

    Returns:
        The table; None if there is none for ``auto``.

    Raises:
        ConfigurationError: There is no table of this name, or several for ``auto``.
    """
    rows = await connection.fetch(query("definition_tables", ""), None if name == AUTO else name)
    tables = [
        DefinitionsTable(row["schema"], row["name"], tuple(row["columns"]), frozenset(row["generated"])) for row in rows
    ]
    if len(tables) > 1:
        raise ConfigurationError(
            f"this database has several tables of function definitions: name one of {', '.join(map(str, tables))}"
        )
    if not tables and name != AUTO:
        raise ConfigurationError(
            f"{name!r} is not a table with a column task_identifier: name one as schema.table, or use auto"
        )
    return tables[0] if tables else None


async def service_urls(
    connection: "asyncpg.Connection[Any] | asyncpg.Pool[Any]", table: DefinitionsTable
) -> dict[str, str]:
    """Return the URLs of functions by task, without the rows that have none."""
    rows = await connection.fetch(
        f"select task_identifier, service_url from {table.quoted} where service_url is not null"  # noqa: S608  - quoted
    )
    return {row["task_identifier"]: row["service_url"] for row in rows}
