"""Find out whether notifications arrive, or a connection pooler in transaction mode keeps them away."""

from typing import Any, Final

import asyncpg

from jobfn.database.connection import connect, shares_sessions
from jobfn.worker.settings import ServiceSettings

POOLER_PROBLEM: Final = "no notifications through a connection pooler in transaction mode: new jobs wait for a poll"
POOLER_ADVICE: Final = "set JOBS_LISTEN_URL to PostgreSQL's own address, or to a pooler in session mode"


def listen_url(settings: ServiceSettings) -> str | None:
    """Return the address to listen at; None: the one of the ``PG*`` variables."""
    return settings.listen_url or settings.database_url


async def lacks_notifications(pool: "asyncpg.Pool[Any]", settings: ServiceSettings) -> bool:
    """Return whether a pooler in transaction mode is in front of the address to listen at.

    Args:
        pool: Connections to ``settings.database_url``.
        settings: The settings.

    Raises:
        DatabaseUnreachable: ``JOBS_LISTEN_URL`` cannot be reached.
    """
    if settings.listen_url is None:
        async with pool.acquire() as connection:
            return await shares_sessions(connection, settings.database_url)
    direct = await connect(settings.listen_url, application_name="jobfn-listener")
    try:
        return await shares_sessions(direct, settings.listen_url)
    finally:
        direct.terminate()
