"""Several databases of one server, and a service of all of them."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Iterator

import asyncpg
import pytest

from conftest import Server
from jobfn.http.server import bind
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.jobs import WORKER, Jobs
from support.network import LOOPBACK
from support.service import start_in_loop
from support.several import Database, StartDatabases


@pytest.fixture
def create_databases(server: Server, template: str) -> Iterator[Callable[[int], list[str]]]:
    """Create databases with a jobs schema, and return their addresses."""
    names: list[str] = []

    def create(count: int) -> list[str]:
        created = [server.create(template) for _ in range(count)]
        names.extend(created)
        return [server.dsn(name) for name in created]

    yield create
    for name in names:
        server.drop(name)


@pytest.fixture
async def two(create_databases: Callable[[int], list[str]]) -> AsyncIterator[tuple[Database, Database]]:
    """The databases ``a`` and ``b``, whose jobs have the same ids."""
    async with contextlib.AsyncExitStack() as stack:

        async def connected(name: str, dsn: str) -> Database:
            connection = await asyncpg.connect(dsn)
            stack.push_async_callback(connection.close, timeout=5)
            return Database(name, dsn, Jobs(connection))

        first, second = create_databases(2)
        yield await connected("a", first), await connected("b", second)


@pytest.fixture
async def start_databases() -> AsyncIterator[StartDatabases]:
    """Run a service of several databases; settings by field name."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            databases: str, gateway_url: str, *, roles: Collection[ServiceRole] = (), **settings: object
        ) -> str:
            listener = bind(LOOPBACK, 0)
            callback_url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback"
            defaults: dict[str, object] = {
                "databases": databases,
                "gateway_url": gateway_url,
                "own_callback_url": callback_url,
                "worker_id": WORKER,
                "report_grace_seconds": 0.0,
                "shutdown_timeout_seconds": 5.0,
            }
            await start_in_loop(
                stack, ServiceSettings.from_environ({}, **(defaults | settings)), listener=listener, roles=roles
            )
            return callback_url

        yield start
