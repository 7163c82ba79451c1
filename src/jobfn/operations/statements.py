"""The statements of operators, made for the schema at hand, and what PostgreSQL says to them made readable.

A statement speaks of ``@jobs@``, which is the jobs table with the same columns on jobfn's schema and on the
platform's, and of ``@matching@``, the conditions of a ``JobFilter``.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, DatabaseUnreachable, SchemaError

_FOR_THESE_VALUES = "set local plan_cache_mode = force_custom_plan"
_NEWEST_FIRST = f"{_FOR_THESE_VALUES}; set local enable_seqscan = off"


@dataclass(frozen=True, slots=True)
class Features:
    """What the schema at hand can tell.

    Attributes:
        is_platform: Whether it is the platform's own: no history, no workers, no progress; running jobs cannot be
            cancelled.
        has_actor_id: Whether jobs say who caused them.
        has_entity_id: Whether jobs say what they are about.
        history_days: For how long attempts are kept; 0: history is turned off; None: this schema has none.
        keys_in_byte_order: Whether the index of keys has them in the order of their bytes.
    """

    is_platform: bool
    has_actor_id: bool = True
    has_entity_id: bool = True
    history_days: float | None = None
    keys_in_byte_order: bool = False

    @property
    def history(self) -> bool:
        """Whether there is a history of attempts, and it is written."""
        return bool(self.history_days)

    @property
    def workers(self) -> bool:
        """Whether processes say that they are there."""
        return not self.is_platform

    @property
    def leases(self) -> bool:
        """Whether jobs have columns for lease and progress."""
        return not self.is_platform


class Database:
    """Connections, and the statements for them.

    Args:
        pool: Connections. Its role must be allowed to read and change the jobs: the schema's owner.
        schema: The jobs schema.
        features: What it can tell.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str, features: Features) -> None:
        self._pool = pool
        self.schema = schema
        self.features = features

    def statement(self, name: str) -> str:
        """The statement of ``database/queries/{name}.sql``, for this schema."""
        features = self.features
        jobs = query("jobs_of_platform" if features.is_platform else "jobs_of_ours", self.schema)
        return (
            query(name, self.schema)
            .replace("@matching@", query("jobs_matching", self.schema))
            .replace("@jobs@", jobs)
            .replace("@actor_id@", "j.actor_id" if features.has_actor_id else "null::uuid")
            .replace("@entity_id@", "j.entity_id" if features.has_entity_id else "null::uuid")
        )

    @contextlib.asynccontextmanager
    async def transaction(self, *, newest_first: bool = False) -> "AsyncIterator[asyncpg.Connection[Any]]":
        """A connection in a transaction. Plans are made for the values at hand: each filter has its own best one.

        Args:
            newest_first: For what is searched: never read the whole table to sort it. From the newest job on, by the
                primary key, there is an end where the page is full; PostgreSQL cannot tell how soon.
        """
        with readable(self.schema):
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.execute(_NEWEST_FIRST if newest_first else _FOR_THESE_VALUES)
                yield connection

    async def fetch(self, name: str, *values: Any, newest_first: bool = False) -> "list[asyncpg.Record]":
        """The rows of one statement. Arguments as ``transaction``."""
        async with self.transaction(newest_first=newest_first) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(self.statement(name), *values)
            return rows


@contextlib.contextmanager
def readable(schema: str) -> Iterator[None]:
    """Turn what the driver raises into errors that say what to do."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError) as error:
        raise SchemaError(
            f"schema {schema} has nothing of that kind ({error}): run `jobfn db migrate`; a schema of the "
            "platform's own may be older than this jobfn knows"
        ) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(f"this role may not do that: {error}. Connect as the owner of schema {schema}") from error
    except CONNECTION_LOST as error:
        raise DatabaseUnreachable(f"the database went away: {error or type(error).__name__}. Try again") from error
    except (asyncpg.PostgresError, asyncpg.DataError) as error:
        raise DatabaseError(f"PostgreSQL refused: {error}") from error
