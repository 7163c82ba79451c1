"""What doctor finds, each thing in order and out of order, on real servers; and that looking changes nothing."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn import FunctionSettings, create_app, task
from jobfn.operations import Operations
from jobfn.operations.doctor import NO_JOB, Check, examine
from jobfn.worker.settings import ServiceSettings
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs
from support.network import LOOPBACK, eventually, free_port

ran: list[object] = []


@task("greet")
async def greet(payload: dict[str, object]) -> None:
    """Notes that it ran."""
    ran.append(payload)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client that waits for nobody."""
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        yield client


class Doctor:
    """Looks at one database, with these settings."""

    def __init__(self, pool: "asyncpg.Pool[Any]", operations: Operations | None, http: httpx.AsyncClient) -> None:
        self._pool = pool
        self._operations = operations
        self._http = http

    async def look(self, *, off: timedelta = timedelta(), **settings: object) -> dict[str, Check]:
        """What each check found, by its name."""
        found = examine(
            self._pool,
            self._operations,
            ServiceSettings.from_environ({}, **({"callback_host": LOOPBACK, "callback_port": free_port()} | settings)),
            self._http,
            now=lambda: datetime.now(UTC) + off,
        )
        return {check.name: check async for check in found}


@pytest.fixture
def doctor(pool: "asyncpg.Pool[Any]", operations: Operations, http: httpx.AsyncClient) -> Doctor:
    return Doctor(pool, operations, http)


async def test_all_in_order(doctor: Doctor, serve: Serve, start_service: StartService, jobs: Jobs) -> None:
    """A service, and a function of jobfn's that reaches it: nothing to complain of, no handler ran, no job changed."""
    url = await serve(create_app(tasks=[greet]))
    service = await start_service(url)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('greet', '0 0 1 1 *')")
    job = await jobs.add("greet")
    await jobs.until_gone(job)
    ran.clear()
    checks = await doctor.look(gateway_url=url, own_callback_url=service.callback_url)
    assert {name: check.verdict for name, check in checks.items()} == dict.fromkeys(
        ("schema", "clocks", "worker", "scheduler", "callback URL", "function greet", f"reports from {url}/"), "good"
    )
    assert ran == []
    assert await jobs.count() == 0


async def test_nothing_at_work(doctor: Doctor, jobs: Jobs) -> None:
    """No worker, no scheduler, no callback server, no function: each says what to start or to set."""
    await jobs.add("greet")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('greet', '* * * * *')")
    checks = await doctor.look(gateway_url=f"http://{LOOPBACK}:{free_port()}")
    bad = {name: check.advice for name, check in checks.items() if check.verdict == "bad"}
    assert set(bad) == {"worker", "scheduler", "callback URL", "function greet"}
    assert "start `jobfn service`" in bad["worker"]
    assert "--only scheduler" in bad["scheduler"]
    assert "INTERNAL_JOBS_CALLBACK_URL" in bad["callback URL"]
    assert "KNATIVE_SERVICE_URL" in bad["function greet"]


async def test_a_worker_known_by_its_locks(doctor: Doctor, jobs: Jobs) -> None:
    """The platform's worker on jobfn's schema says nothing of itself, but it holds jobs."""
    await jobs.add("x")
    await jobs.claim("node-worker")
    checks = await doctor.look()
    assert (checks["worker"].verdict, checks["worker"].found) == ("good", "at work: node-worker")


async def test_no_task_is_known(doctor: Doctor) -> None:
    """Nobody to ask: it says how to get one."""
    checks = await doctor.look()
    assert (checks["functions"].verdict, "jobfn enqueue TASK" in checks["functions"].advice) == ("doubtful", True)


async def test_clocks_apart(doctor: Doctor) -> None:
    """Either way round, by how much, and what keeps them together."""
    ahead = (await doctor.look(off=timedelta(seconds=-10)))["clocks"]
    behind = (await doctor.look(off=timedelta(seconds=10)))["clocks"]
    assert (ahead.verdict, behind.verdict) == ("bad", "bad")
    assert "seconds ahead of this machine's" in ahead.found
    assert "seconds behind this machine's" in behind.found
    assert "chrony" in ahead.advice


@pytest.mark.parametrize(
    ("change", "found", "advice"),
    [
        ("delete from app_jobs.jobfn_migrations where version = 8", "lacks 0008 history", "run `jobfn db migrate`"),
        ("insert into app_jobs.jobfn_migrations values (9000, 'x', 'x')", "newer than this jobfn", "upgrade jobfn"),
        ("update app_jobs.jobfn_migrations set checksum = 'x' where version = 2", "migration 2", "jobfn db migrate"),
    ],
)
async def test_a_schema_out_of_order(doctor: Doctor, jobs: Jobs, change: str, found: str, advice: str) -> None:
    """Too old, too new, from in between."""
    await jobs.connection.execute(change)
    schema = (await doctor.look())["schema"]
    assert (schema.verdict, found in schema.found, advice in schema.advice) == ("bad", True, True)


async def test_no_schema(empty_database: str, http: httpx.AsyncClient) -> None:
    """Without one there is no more to look at than the clocks."""
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        checks = await Doctor(pool, None, http).look()
    assert set(checks) == {"schema", "clocks"}
    assert "run `jobfn db migrate`" in checks["schema"].advice


async def test_a_role_that_may_not_look(doctor: Doctor, jobs: Jobs, database: str, http: httpx.AsyncClient) -> None:
    """It is told who may."""
    await jobs.connection.execute("create role jobfn_test_nobody; grant usage on schema app_jobs to jobfn_test_nobody")
    try:
        settings = {"role": "jobfn_test_nobody"}
        async with asyncpg.create_pool(database, min_size=1, max_size=1, server_settings=settings) as pool:
            checks = await Doctor(pool, None, http).look()
    finally:
        await jobs.connection.execute("drop owned by jobfn_test_nobody; drop role jobfn_test_nobody")
    assert (checks["schema"].verdict, checks["schema"].advice) == ("bad", "connect as the schema's owner")
    assert (await doctor.look())["schema"].verdict == "good"


async def test_on_the_platform_s_schema(
    on_platform: Operations, platform_pool: "asyncpg.Pool[Any]", http: httpx.AsyncClient
) -> None:
    """Fine as it is; whether anybody works shows by locks alone."""
    doctor = Doctor(platform_pool, on_platform, http)
    checks = await doctor.look()
    assert (checks["schema"].verdict, checks["worker"].verdict) == ("good", "doubtful")
    await platform_pool.execute("select app_jobs.add_job(gen_random_uuid(), 'x')")
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)

    async def is_seen() -> bool:  # an answer that took long serves for a while
        return (await doctor.look())["worker"].found == f"jobs are held by {WORKER}"

    await eventually(is_seen)


def answering(status: int) -> Starlette:
    """An app that answers everything so."""

    async def answer(_request: Request) -> Response:
        return JSONResponse([], status)

    return Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST", "PUT"])])


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_gateway_with_nobody_behind(doctor: Doctor, serve: Serve, jobs: Jobs, status: int) -> None:
    """It answers, but not for the function, nor for the callback server."""
    url = await serve(answering(status))
    await jobs.add("greet")
    checks = await doctor.look(gateway_url=url, own_callback_url=f"{url}/callback")
    assert (checks["function greet"].verdict, checks["callback URL"].verdict) == ("bad", "bad")
    assert "has nobody behind it" in checks["function greet"].found


async def test_a_function_of_another_make(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    """It answers somehow, which is all that can be asked; it is not sent anything that it could take for a job."""
    url = await serve(answering(404))
    await jobs.add("greet")
    checks = await doctor.look(gateway_url=url)
    assert (checks["function greet"].verdict, checks["function greet"].found) == ("good", f"{url}/greet answers (404)")
    assert not any(name.startswith("reports from") for name in checks)


async def test_a_task_that_lives_elsewhere(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    """The app is one of jobfn's, and does not know the task."""
    url = await serve(create_app(tasks=[greet]))
    await jobs.add("other")
    checks = await doctor.look(gateway_url=url)
    assert (checks["function other"].verdict, "knows only greet" in checks["function other"].found) == ("bad", True)


async def test_a_function_that_cannot_report(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    """It answers, but its reports reach nobody: the address is named, with a line to try there."""
    url = await serve(
        create_app(tasks=[greet], settings=FunctionSettings(report_timeout_seconds=3, shutdown_timeout_seconds=5))
    )
    await jobs.add("greet")
    checks = await doctor.look(gateway_url=url)
    reports = checks[f"reports from {url}/"]
    assert (reports.verdict, "could not report to" in reports.found) == ("bad", True)
    assert "curl -X POST" in reports.advice


async def test_a_function_with_a_secret(doctor: Doctor, serve: Serve, start_service: StartService, jobs: Jobs) -> None:
    """It reports only for who knows the secret, which the service's settings have."""
    seen: list[str] = []

    async def callback(request: Request) -> Response:
        seen.append(request.headers.get("X-Job-Id", ""))
        return JSONResponse({})

    hears = await serve(Starlette(routes=[Route("/callback", callback, methods=["POST"])]))
    url = await serve(create_app(tasks=[greet], settings=FunctionSettings(invoke_secrets=["s3cret-s3cret"])))
    await jobs.add("greet")
    checks = await doctor.look(gateway_url=url, own_callback_url=f"{hears}/callback", invoke_secrets=["s3cret-s3cret"])
    assert checks[f"reports from {url}/"].verdict == "good"
    assert seen == ["", str(NO_JOB)]


@pytest.mark.parametrize("url", ["http://", "http://[/x", "http://h:99999999/"])
async def test_addresses_that_are_none(doctor: Doctor, jobs: Jobs, url: str) -> None:
    """A finding, not a crash."""
    await jobs.add("greet")
    checks = await doctor.look(gateway_url=url, own_callback_url=url)
    assert (checks["function greet"].verdict, checks["callback URL"].verdict) == ("bad", "bad")
