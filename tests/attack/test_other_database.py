"""A function that has a job of one database tries to settle the job with the same id in another one."""

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from conftest import Server
from jobfn.http.server import bind
from jobfn.worker.settings import ServiceSettings
from support.fixtures import Serve
from support.functions import RecordingFunction
from support.jobs import WORKER, Jobs
from support.network import LOOPBACK, eventually
from support.service import start_in_loop


@pytest.fixture
async def copies(server: Server, template: str) -> AsyncIterator[dict[str, tuple[str, Jobs]]]:
    """Two databases from one template, which have the same secret and the same ids."""
    async with contextlib.AsyncExitStack() as stack:
        copies = {}
        for name in ("victim", "attacker"):
            database = server.create(template)
            stack.callback(server.drop, database)
            connection = await asyncpg.connect(server.dsn(database))
            stack.push_async_callback(connection.close, timeout=5)
            copies[name] = (server.dsn(database), Jobs(connection))
        yield copies


@pytest.mark.parametrize("secret", [None, "a-secret-of-at-least-thirty-two-characters"])
async def test_token_of_one_database_is_not_valid_in_another(
    copies: dict[str, tuple[str, Jobs]], secret: str | None, function: RecordingFunction, serve: Serve
) -> None:
    gate = function.hold()
    async with contextlib.AsyncExitStack() as stack:
        listener = bind(LOOPBACK, 0)
        settings = ServiceSettings.from_environ(
            {} if secret is None else {"JOBS_CALLBACK_SECRET": secret},
            databases=",".join(f"{name}={dsn}" for name, (dsn, _) in copies.items()),
            gateway_url=await serve(function.app),
            own_callback_url=f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback",
            worker_id=WORKER,
            settle_on="report",
            shutdown_timeout_seconds=5.0,
        )
        await start_in_loop(stack, settings, listener=listener)
        ids = [await jobs.add("t", {"from": name}) for name, (_, jobs) in copies.items()]
        assert ids[0] == ids[1]

        async def has_both() -> bool:
            return len(function.received) == 2

        await eventually(has_both)
        urls = {request.body["from"]: request.headers for request in function.received}
        forged = urls["attacker"]["x-callback-url"].replace("/databases/attacker/", "/databases/victim/")
        headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(ids[0])}
        async with httpx.AsyncClient(timeout=30, headers=headers) as client:
            for url in (forged, forged.replace("/callback?", "/heartbeat?")):
                response = await client.post(url, json={"status": "success"})
                assert response.status_code == 401, url
            batch = urls["attacker"]["x-callback-batch"].replace("/databases/attacker/", "/databases/victim/")
            assert (await client.post(batch, content=b"")).status_code == 401
            assert await copies["victim"][1].count() == 1
            for request in function.received:
                response = await client.post(request.headers["x-callback-url"], json={"status": "success"})
                assert response.status_code == 200
        gate.set()
