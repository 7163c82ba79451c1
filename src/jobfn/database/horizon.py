"""The oldest transactions of a database, which keep vacuum from removing the rows of ended jobs.

Claims and settlements leave dead rows. As long as a snapshot may need them, vacuum keeps them, and tables grow.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from jobfn.database.cache import AsyncTTLCache
from jobfn.database.connection import DATABASE_ERRORS
from jobfn.database.statements import query
from jobfn.errors import error_text
from jobfn.telemetry import logs

#: Kinds of holders, as in the query ``horizon_holders``.
KINDS: Final = ("session", "prepared transaction", "replication slot", "standby")
#: Age of a transaction that is reported.
MAX_TRANSACTION_SECONDS: Final = 300.0
#: The same in transactions that began since, for slots and standbys, whose age in seconds is not known.
MAX_TRANSACTIONS: Final = 1_000_000
#: TTL of the metrics, and timeout of the statement.
CACHE_TTL_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class HorizonHolder:
    """Something with a snapshot.

    Attributes:
        kind: One of ``KINDS``.
        name: Process and role, transaction id, name of the slot or the standby.
        seconds: Age of its transaction; None if unknown.
        transactions: How many transactions began since.
        advice: What ends it.
    """

    kind: str
    name: str
    seconds: float | None
    transactions: int
    advice: str

    @property
    def is_old(self) -> bool:
        """Whether it holds vacuum back for longer than jobs should take."""
        if self.seconds is not None:
            return self.seconds > MAX_TRANSACTION_SECONDS
        return self.transactions > MAX_TRANSACTIONS

    def __str__(self) -> str:
        age = f"{self.transactions:,} transactions" if self.seconds is None else f"{self.seconds:,.0f} seconds"
        return f"{self.kind} {self.name}, {age} old"


async def horizon_holders(pool: "asyncpg.Pool[Any]", schema: str) -> list[HorizonHolder]:
    """Return what has a snapshot of this database, the oldest first.

    Sessions of other roles are included only for roles with the rights of ``pg_read_all_stats``.
    """
    return [HorizonHolder(**row) for row in await pool.fetch(query("horizon_holders", schema))]


class HorizonReader:
    """Reads the holders for metrics, at most once per TTL."""

    def __init__(self, pool: "asyncpg.Pool[Any]", schema: str, *, clock: Callable[[], float]) -> None:
        self._pool = pool
        self._schema = schema
        self._cache: AsyncTTLCache[list[HorizonHolder] | None] = AsyncTTLCache(self._load, clock)

    async def read(self) -> list[HorizonHolder] | None:
        """Return the holders, or None if they could not be read."""
        return await self._cache.get(max_age_seconds=CACHE_TTL_SECONDS)

    async def _load(self) -> list[HorizonHolder] | None:
        try:
            async with asyncio.timeout(CACHE_TTL_SECONDS):
                return await horizon_holders(self._pool, self._schema)
        except DATABASE_ERRORS as error:
            logs.get_logger("jobfn.telemetry").warning("oldest transaction not read", reason=error_text(error))
            return None
