"""Types and waits of the tests of services with several databases."""

from collections.abc import Awaitable, Collection
from dataclasses import dataclass
from typing import Protocol

from jobfn.worker.settings import ServiceRole
from support.jobs import Jobs
from support.network import eventually


@dataclass(frozen=True)
class Database:
    """One of several databases."""

    name: str
    dsn: str
    jobs: Jobs

    @property
    def entry(self) -> str:
        """The database in ``JOBS_DATABASES``."""
        return f"{self.name}={self.dsn}"


async def until_empty(*databases: Database) -> None:
    """Wait until none of these databases has jobs."""

    async def is_empty() -> bool:
        return [await database.jobs.count() for database in databases] == [0] * len(databases)

    await eventually(is_empty, seconds=30)


class StartDatabases(Protocol):
    """The fixture ``start_databases``: starts a service, and returns its callback URL."""

    def __call__(
        self, databases: str, gateway_url: str, *, roles: Collection[ServiceRole] = (), **settings: object
    ) -> Awaitable[str]: ...
