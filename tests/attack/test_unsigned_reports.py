"""A network neighbour of the callback server, who got no job, on a service without any setting."""

import asyncio
import socket
from dataclasses import replace
from typing import Any

import asyncpg
import httpx
import pytest
from structlog.testing import capture_logs

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.http.server import bind
from jobfn.service import run_service
from jobfn.worker.settings import ServiceRole, ServiceSettings
from support.fixtures import ConnectTo, Serve, Service, StartService, StartWorker
from support.functions import RecordingFunction
from support.jobs import NEWEST_PLATFORM_SCHEMA, WORKER, Jobs
from support.network import LOOPBACK
from support.roles import temporary_role

NO_FUNCTION = "http://127.0.0.1:1"


def headers_of(job: int, worker: str = WORKER) -> dict[str, str]:
    return {"X-Worker-Id": worker, "X-Job-Id": str(job)}


async def test_stranger_cannot_settle_a_job_and_its_function_can(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    gate = function.hold()
    service = await start_worker()
    job = await jobs.add("t")
    await function.arrived.wait()
    guesses = ["", "?token=", "?token=0..x", "?token=65b0c0de." + f"{job}-1." + "A" * 43 + "&/callback"]
    async with httpx.AsyncClient(timeout=30, headers=headers_of(job)) as stranger:
        for guess in guesses:
            for path in ("callback", "heartbeat"):
                url = f"{service.callback_url.removesuffix('callback')}{path}{guess}"
                response = await stranger.post(url, json={"status": "success"})
                assert (response.status_code, "token" in response.json()["error"]) == (401, True), url
    assert (await jobs.until_claimed(job))["attempts"] == 1
    given = function.received[0].headers["x-callback-url"]
    async with httpx.AsyncClient(timeout=30) as sender:
        assert (await sender.post(given, headers=headers_of(job))).status_code == 200
    assert not await jobs.exists(job)
    gate.set()


async def test_worker_and_callback_server_that_start_at_once_agree(
    jobs: Jobs, database: str, function: RecordingFunction, serve: Serve
) -> None:
    """The function reports, and only that report completes the job."""
    listener = bind(LOOPBACK, 0)
    settings = ServiceSettings.from_environ(
        {},
        database_url=database,
        gateway_url=await serve(function.app),
        own_callback_url=f"http://{LOOPBACK}:{listener.getsockname()[1]}/callback",
        worker_id=WORKER,
        settle_on="report",
        report_grace_seconds=60.0,
    )
    stop = asyncio.Event()
    services = [
        asyncio.create_task(run_service(settings, stop, roles=[ServiceRole.CALLBACKS], listener=listener)),
        asyncio.create_task(run_service(settings, stop, roles=[ServiceRole.WORKER])),
    ]
    job = await jobs.add("t")
    await asyncio.wait_for(function.arrived.wait(), 30)
    async with httpx.AsyncClient(timeout=30) as http:
        response = await http.post(function.received[0].headers["x-callback-url"], headers=headers_of(job))
    stop.set()
    await asyncio.gather(*services)
    assert response.status_code == 200
    assert not await jobs.exists(job)


async def test_job_of_a_worker_that_cannot_sign_is_settled_without_a_token(
    jobs: Jobs, start_service: StartService
) -> None:
    """The platform's worker calls get_job, and its locks have no lease."""
    service = await start_service(NO_FUNCTION, support_any=False)
    job = await jobs.add("t")
    assert await jobs.claim_id("node-worker") == job
    async with httpx.AsyncClient(timeout=30) as http:
        for worker, status in (("another", 409), ("node-worker", 200), ("node-worker", 409)):
            response = await http.post(service.callback_url, headers=headers_of(job, worker))
            assert response.status_code == status, worker
    assert not await jobs.exists(job)


async def test_platform_schema_keeps_no_secret_and_its_reports_are_not_signed(
    empty_database: str, connect_to: ConnectTo, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    connection = await connect_to(empty_database)
    await connection.execute(NEWEST_PLATFORM_SCHEMA)
    gate = function.hold()
    with capture_logs() as lines:
        service = await start_service(await serve(function.app), database_url=empty_database, environment="production")
    job = await connection.fetchval("insert into app_jobs.jobs (task_identifier) values ('t') returning id")
    await connection.execute('notify "jobs:insert"')
    await function.arrived.wait()
    assert function.received[0].headers["x-callback-url"] == f"{service.callback_url}?attempt=1&/callback"
    heartbeat_url = service.callback_url.replace("/callback", "/heartbeat")
    async with httpx.AsyncClient(timeout=30, headers=headers_of(job)) as sender:
        assert (await sender.post(heartbeat_url)).status_code == 400  # without an attempt
        assert (await sender.post(service.callback_url)).status_code == 200
    gate.set()
    assert ["Set JOBS_CALLBACK_SECRET on every worker" in line["event"] for line in lines].count(True) == 1


@pytest.mark.parametrize("group", ["enqueue", "result", "viewer", "operator"])
async def test_secret_is_readable_by_the_worker_s_role_alone(group: str, connection: "asyncpg.Connection[Any]") -> None:
    query = """
        select has_function_privilege($1, 'app_jobs.callback_secret()', 'execute'),
            has_any_column_privilege($1, 'app_jobs.installation', 'select')
    """
    async with temporary_role(connection) as role, temporary_role(connection) as worker:
        await migrate(connection, "app_jobs", grants=replace(Grants(worker=(worker,)), **{group: (role,)}))
        rights = [await connection.fetchrow(query, name) for name in (role, worker)]
    assert [row and list(row) for row in rights] == [[False, False], [True, False]]


async def test_schemas_have_secrets_of_their_own_with_256_bits(connection: "asyncpg.Connection[Any]") -> None:
    await migrate(connection, "other_jobs")
    secrets = [await connection.fetchval(f"select {schema}.callback_secret()") for schema in ("app_jobs", "other_jobs")]
    assert [len(bytes.fromhex(secret)) for secret in secrets] == [32, 32]
    assert secrets[0] != secrets[1]


async def first_line_without_a_body(service: Service, target: str) -> bytes:
    """Announce a body of 1 MiB, send none of it, and return the first line of the response."""
    port = httpx.URL(service.callback_url).port
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    writer.write(f"POST {target} HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n".encode())
    try:
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()


async def test_unsigned_batch_is_refused_before_its_body_is_read(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    function.hold()
    service = await start_worker()
    job = await jobs.add("t")
    await function.arrived.wait()
    headers = function.received[0].headers
    assert await first_line_without_a_body(service, "/callbacks") == b"HTTP/1.1 401 Unauthorized\r\n"
    token = headers["x-callback-url"].partition("token=")[2].partition("&")[0]
    for query in (f"worker={WORKER}&token={token}", f"worker=another&{headers['x-callback-batch'].partition('&')[2]}"):
        assert await first_line_without_a_body(service, f"/callbacks?{query}") == b"HTTP/1.1 401 Unauthorized\r\n"
    async with httpx.AsyncClient(timeout=30) as http:
        report = {"url": headers["x-callback-url"], "headers": headers_of(job), "body": "{}"}
        unsigned = {"url": service.callback_url, "headers": headers_of(job), "body": "{}"}
        response = await http.post(headers["x-callback-batch"], json={"reports": [unsigned, report]})
    assert [reply["status"] for reply in response.json()["replies"]] == [401, 200]
