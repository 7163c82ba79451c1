"""Every role of a service answers health probes on one port."""

import contextlib
import signal
import socket

import asyncpg
import httpx
import pytest

from support.commands import Command, Spawn
from support.network import LOOPBACK, eventually, free_port


async def statuses(port: int) -> tuple[int, int]:
    async with httpx.AsyncClient(trust_env=False, base_url=f"http://{LOOPBACK}:{port}") as client:
        return (await client.get("/healthz")).status_code, (await client.get("/readyz")).status_code


@pytest.mark.parametrize("roles", [[], ["worker"], ["callbacks"], ["scheduler"]])
async def test_role_answers_probes(roles: list[str], database: str, spawn: Spawn) -> None:
    port = free_port()
    only = [argument for role in roles for argument in ("--only", role)]
    variables = {
        "DATABASE_URL": database,
        "JOBS_HEALTH_PORT": str(port),
        "INTERNAL_JOBS_CALLBACK_PORT": str(free_port()),
    }
    running = await spawn("python", "-m", "jobfn.service", *only, **variables)
    await running.until("health server started")

    async def is_ready() -> bool:
        return await statuses(port) == (200, 200)

    await eventually(is_ready)
    running.send(signal.SIGTERM)
    assert await running.wait(seconds=10) == 0


async def test_worker_that_waits_for_its_database_is_not_ready(
    database: str, connection: asyncpg.Connection, spawn: Spawn
) -> None:
    port = free_port()
    variables = {"DATABASE_URL": database, "JOBS_HEALTH_PORT": str(port)}
    async with connection.transaction():
        await connection.execute("lock table app_jobs.jobs in access exclusive mode")
        running = await spawn("jobfn", "service", "--only", "worker", **variables)
        await running.until("health server started")
        waits = "select count(*) from pg_locks where not granted and relation = 'app_jobs.jobs'::regclass"

        async def is_waiting() -> bool:
            return bool(await connection.fetchval(waits))

        await eventually(is_waiting)
        assert await statuses(port) == (200, 503)
    await running.until("looking for jobs")

    async def is_ready() -> bool:
        return await statuses(port) == (200, 200)

    await eventually(is_ready)


async def test_port_of_the_setting_must_be_free(database: str, command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))  # noqa: S104  - as the service does
        taken.listen()
        port = taken.getsockname()[1]
        result = await command(
            "jobfn", "service", "--only", "scheduler", DATABASE_URL=database, JOBS_HEALTH_PORT=str(port)
        )
    assert (result.code, f"cannot listen on 0.0.0.0:{port}" in result.output) == (2, True)


async def test_service_runs_without_probes_if_the_default_port_is_taken(database: str, spawn: Spawn) -> None:
    with socket.socket() as taken:
        with contextlib.suppress(OSError):  # a service of another test has it
            taken.bind(("0.0.0.0", 12346))  # noqa: S104  - as the service does
            taken.listen()
        running = await spawn("jobfn", "service", "--only", "scheduler", DATABASE_URL=database)
        await running.until("scheduler started")
        assert any("health probes are not answered" in line for line in running.lines)


async def test_worker_without_a_port_to_report_to_is_one_line(database: str, command: Command) -> None:
    variables = {"INTERNAL_JOBS_CALLBACK_PORT": "0", "JOBS_HEALTH_PORT": "0"}
    result = await command("jobfn", "service", "--only", "worker", DATABASE_URL=database, **variables)
    assert (result.code, "Set INTERNAL_JOBS_CALLBACK_URL" in result.output) == (2, True)
    assert "Traceback" not in result.output
