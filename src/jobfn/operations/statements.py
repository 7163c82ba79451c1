"""SQL statements for operators, adapted to the schema, and readable errors from PostgreSQL.

A statement uses ``@jobs@``, the jobs table with the same columns on jobfn's and on the platform's schema, and
``@matching@``, the conditions of a ``JobFilter``.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import asyncpg

from jobfn.database.connection import CONNECTION_ERRORS
from jobfn.database.permissions import explain_denied
from jobfn.database.statements import query
from jobfn.errors import ConfigurationError, DatabaseError, DatabaseUnreachable, SchemaError, error_text
from jobfn.operations.actor import Actor

_CUSTOM_PLAN = "set local plan_cache_mode = force_custom_plan"
_NEWEST_FIRST = f"{_CUSTOM_PLAN}; set local enable_seqscan = off"
_NEXT_BATCH = f"{_NEWEST_FIRST}; set local enable_bitmapscan = off; set local enable_sort = off"


@dataclass(frozen=True, slots=True)
class SchemaCapabilities:
    """Features that a jobs schema supports.

    Attributes:
        is_platform: Whether it is the platform's own schema: no history, no worker registry, no progress; running jobs
            cannot be cancelled.
        history_days: Retention of attempts in days; 0 if history is turned off, None if the schema has none.
        keys_in_byte_order: Whether the index of job keys is sorted by bytes.
    """

    is_platform: bool
    has_actor_id: bool = True
    has_entity_id: bool = True
    history_days: float | None = None
    keys_in_byte_order: bool = False

    @property
    def history(self) -> bool:
        """Whether attempts are recorded."""
        return bool(self.history_days)

    @property
    def workers(self) -> bool:
        """Whether processes register themselves."""
        return not self.is_platform


class Database:
    """A connection pool and the statements for its schema.

    Args:
        pool: Connections.
        schema: The jobs schema.
        capabilities: What the schema supports.
        actor: Returns who acts now. Default: nobody but the role of the connections.
    """

    def __init__(
        self,
        pool: "asyncpg.Pool[Any]",
        schema: str,
        capabilities: SchemaCapabilities,
        actor: Callable[[], Actor | None] | None = None,
    ) -> None:
        self._pool = pool
        self._actor = actor
        self.schema = schema
        self.capabilities = capabilities

    def require_native(self, problem: str) -> None:
        """Check that the schema is jobfn's.

        Args:
            problem: What the platform's lacks, and what to do: ``has no limits: ...``.

        Raises:
            ConfigurationError: It is the platform's own.
        """
        if self.capabilities.is_platform:
            raise ConfigurationError(f"schema {self.schema} is the platform's own and {problem}")

    def statement(self, name: str) -> str:
        """Return the named statement for this schema."""
        capabilities = self.capabilities
        jobs = query("platform_jobs" if capabilities.is_platform else "native_jobs", self.schema)
        return (
            query(name, self.schema)
            .replace("@matching@", query("jobs_matching", self.schema))
            .replace("@error@", query("normalized_error", self.schema))
            .replace("@stored@", query("stored_completed", self.schema))
            .replace("@jobs@", jobs)
            .replace("@actor_id@", "j.actor_id" if capabilities.has_actor_id else "null::uuid")
            .replace("@entity_id@", "j.entity_id" if capabilities.has_entity_id else "null::uuid")
        )

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, newest_first: bool = False, next_batch: bool = False, settings: str = ""
    ) -> "AsyncIterator[asyncpg.Connection[Any]]":
        """Open a transaction. Statements are planned for their values, since every filter has another best plan.

        Args:
            newest_first: Do not read and sort the whole table, but read from the newest job on by the primary key until
                the page is full. PostgreSQL cannot estimate how soon that is, so searches ask for it.
            next_batch: As ``newest_first``, and without a plan that sorts, which would read all remaining jobs for each
                batch.
            settings: Statements that set settings of the transaction.
        """
        plan = _NEXT_BATCH if next_batch else _NEWEST_FIRST if newest_first else _CUSTOM_PLAN
        actor = None if self._actor is None else self._actor()
        with translate_errors(self.schema):
            async with (
                self._pool.acquire() as connection,
                explain_denied(connection, self.schema),
                connection.transaction(),
            ):
                await connection.execute("; ".join((plan, settings, "" if actor is None else actor.statement)))
                yield connection

    async def fetch(
        self, name: str, *values: Any, newest_first: bool = False, next_batch: bool = False
    ) -> "list[asyncpg.Record]":
        """Run the named statement in a transaction and return its rows."""
        async with self.transaction(newest_first=newest_first, next_batch=next_batch) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(self.statement(name), *values)
            return rows


@contextlib.contextmanager
def translate_errors(schema: str) -> Iterator[None]:
    """Translate the driver's exceptions into errors that say what to do."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError) as error:
        raise SchemaError(
            f"schema {schema} is not complete ({error}): run `jobfn db migrate`; a schema of the platform's own may be "
            "older than this jobfn supports"
        ) from error
    except CONNECTION_ERRORS as error:
        raise DatabaseUnreachable(
            f"the connection to the database was lost ({error_text(error)}): try again"
        ) from error
    except asyncpg.CheckViolationError as error:
        if not (error.constraint_name or "").endswith("_length"):
            raise DatabaseError(f"PostgreSQL rejected the statement: {error.args[0]}") from None
        raise DatabaseError(
            "a name is empty or too long: tasks and queues have 1 to 126 characters, and keys 1 to 512"
        ) from None  # the driver's text holds the row, with its payload
    except asyncpg.DiskFullError as error:
        raise DatabaseError(
            "the disk of the database is full, so that PostgreSQL refuses writes: free or add space on its host"
        ) from error
    except (asyncpg.PostgresError, asyncpg.DataError) as error:
        raise DatabaseError(f"PostgreSQL rejected the statement: {error_text(error)}") from error
