"""A service that starts before its database waits for it, for a limited time."""

import asyncio

import pytest

from jobfn.errors import DatabaseUnreachable
from jobfn.service import run_service
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.freezing_proxy import FreezingProxy
from support.network import LOOPBACK, free_port, until_logged


def settings(dsn: str, **values: object) -> ServiceSettings:
    defaults = {"database_url": dsn, "health_port": 0, "own_callback_url": f"http://{LOOPBACK}:9/callback"}
    return ServiceSettings.from_environ({}, **(defaults | values))


@pytest.mark.parametrize("role", [[ServiceRole.WORKER], [ServiceRole.CALLBACKS], [ServiceRole.SCHEDULER]])
async def test_service_waits_for_its_database(
    role: list[ServiceRole], database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    proxy = FreezingProxy(database)
    dsn = f"postgresql://postgres@{LOOPBACK}:{port}/{database.partition('?')[0].rpartition('/')[2]}?sslmode=disable"
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_service(settings(dsn, callback_port=0), stop, roles=role, on_ready=ready.set))
    await until_logged(capsys, "database not reachable at the start, waiting", seconds=30)
    async with proxy.serve(port), asyncio.timeout(30):
        await ready.wait()
        stop.set()
        await running


async def test_service_does_not_wait_longer_than_it_may() -> None:
    dsn = f"postgresql://postgres@{LOOPBACK}:{free_port()}/shop"
    with pytest.raises(DatabaseUnreachable):
        await run_service(settings(dsn, database_wait_seconds=0.3), asyncio.Event(), roles=[ServiceRole.WORKER])


async def test_waiting_service_can_be_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    dsn = f"postgresql://postgres@{LOOPBACK}:{free_port()}/shop"
    stop = asyncio.Event()
    running = asyncio.create_task(run_service(settings(dsn), stop, roles=[ServiceRole.WORKER]))
    await until_logged(capsys, "database not reachable at the start, waiting", seconds=30)
    stop.set()
    async with asyncio.timeout(10):
        await running


async def test_service_does_not_wait_for_a_database_that_does_not_exist(database: str) -> None:
    dsn = database.replace(database.partition("?")[0].rpartition("/")[2], "no_such_database")
    async with asyncio.timeout(20):
        with pytest.raises(DatabaseUnreachable, match="does not exist"):
            await run_service(settings(dsn), asyncio.Event(), roles=[ServiceRole.WORKER])
