"""Checks of ``jobfn doctor`` against real servers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from structlog.testing import capture_logs

from jobfn import FunctionSettings, create_app, task
from jobfn.operations import Operations
from jobfn.operations.doctor import UNUSED_JOB_ID, Check, run_checks
from jobfn.worker.settings import ServiceSettings
from support.definitions import WITH_URLS
from support.fixtures import Serve, StartService
from support.jobs import WORKER, Jobs
from support.network import LOOPBACK, eventually, free_port
from support.secrets import INVOKE_SECRET

handled: list[object] = []


@task("greet")
async def greet(payload: dict[str, object]) -> None:
    handled.append(payload)


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        yield client


class Doctor:
    """Run all checks with given settings."""

    def __init__(self, pool: "asyncpg.Pool[Any]", operations: Operations | None, http: httpx.AsyncClient) -> None:
        self._pool = pool
        self._operations = operations
        self._http = http

    async def run(self, *, clock_skew: timedelta = timedelta(), **settings: object) -> dict[str, Check]:
        checks = run_checks(
            self._pool,
            self._operations,
            ServiceSettings.from_environ({}, **({"callback_host": LOOPBACK, "callback_port": free_port()} | settings)),
            self._http,
            now=lambda: datetime.now(UTC) + clock_skew,
        )
        return {check.name: check async for check in checks}


@pytest.fixture
def doctor(pool: "asyncpg.Pool[Any]", operations: Operations, http: httpx.AsyncClient) -> Doctor:
    return Doctor(pool, operations, http)


async def test_running_service_passes_all_checks_without_running_a_handler(
    doctor: Doctor, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    url = await serve(create_app(tasks=[greet]))
    service = await start_service(url)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('greet', '0 0 1 1 *')")
    job = await jobs.add("greet")
    await jobs.until_gone(job)
    handled.clear()
    checks = await doctor.run(gateway_url=url, own_callback_url=service.callback_url)
    assert {name: check.status for name, check in checks.items()} == dict.fromkeys(
        (
            "schema",
            "clocks",
            "oldest transaction",
            "worker",
            "scheduler",
            "callback URL",
            "function greet",
            f"reports from {url}/",
        ),
        "ok",
    )
    assert handled == []
    assert await jobs.count() == 0


async def test_missing_processes_are_errors_with_advice(doctor: Doctor, jobs: Jobs) -> None:
    await jobs.add("greet")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('greet', '* * * * *')")
    checks = await doctor.run(gateway_url=f"http://{LOOPBACK}:{free_port()}")
    errors = {name: check.advice for name, check in checks.items() if check.status == "error"}
    assert set(errors) == {"worker", "scheduler", "callback URL", "function greet"}
    assert "start `jobfn service`" in errors["worker"]
    assert "--only scheduler" in errors["scheduler"]
    assert "INTERNAL_JOBS_CALLBACK_URL" in errors["callback URL"]
    assert "KNATIVE_SERVICE_URL" in errors["function greet"]


async def test_paused_schedules_are_named(doctor: Doctor, jobs: Jobs) -> None:
    for number in range(7):
        await jobs.connection.execute("select app_jobs.add_scheduled_job($1, '@daily')", f"report_{number}")
    assert "schedules" not in await doctor.run()
    await jobs.connection.execute("select app_jobs.pause_schedule(id) from app_jobs.scheduled_jobs where id > 1")
    check = (await doctor.run())["schedules"]
    named = ", ".join(f"report_{number} (id {number + 1})" for number in range(1, 6))
    assert (check.status, check.message) == ("warning", f"paused, so that they make no jobs: {named} and 1 more")
    assert check.advice == "end a pause with `jobfn schedules resume ID`"


async def test_unregistered_worker_is_known_by_its_locks(doctor: Doctor, jobs: Jobs) -> None:
    await jobs.add("x")
    await jobs.claim("node-worker")
    checks = await doctor.run()
    assert (checks["worker"].status, checks["worker"].message) == ("ok", "running: node-worker")


async def test_unknown_tasks_are_a_warning(doctor: Doctor) -> None:
    checks = await doctor.run()
    assert (checks["functions"].status, "jobfn enqueue TASK" in checks["functions"].advice) == ("warning", True)


async def test_clock_skew_is_an_error(doctor: Doctor) -> None:
    ahead = (await doctor.run(clock_skew=timedelta(seconds=-10)))["clocks"]
    behind = (await doctor.run(clock_skew=timedelta(seconds=10)))["clocks"]
    assert (ahead.status, behind.status) == ("error", "error")
    assert "seconds ahead of this machine's" in ahead.message
    assert "seconds behind this machine's" in behind.message
    assert "chrony" in ahead.advice


@pytest.mark.parametrize(
    ("change", "message", "advice"),
    [
        ("delete from app_jobs.jobfn_migrations where version = 8", "lacks 0008 schedules", "run `jobfn db migrate`"),
        ("insert into app_jobs.jobfn_migrations values (9000, 'x', 'x')", "newer than this jobfn", "upgrade jobfn"),
        (
            "update app_jobs.jobfn_migrations set checksum = 'x' where version = 2",
            "made by a pre-release",
            "jobfn db migrate",
        ),
    ],
)
async def test_schema_of_another_version_is_an_error(
    doctor: Doctor, jobs: Jobs, change: str, message: str, advice: str
) -> None:
    await jobs.connection.execute(change)
    schema = (await doctor.run())["schema"]
    assert (schema.status, message in schema.message, advice in schema.advice) == ("error", True, True)


async def test_missing_schema_skips_the_other_checks(empty_database: str, http: httpx.AsyncClient) -> None:
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        checks = await Doctor(pool, None, http).run()
    assert set(checks) == {"schema", "clocks"}
    assert "run `jobfn db migrate`" in checks["schema"].advice


async def test_role_without_privileges_is_a_warning(
    doctor: Doctor, jobs: Jobs, database: str, http: httpx.AsyncClient
) -> None:
    await jobs.connection.execute("create role jobfn_test_nobody; grant usage on schema app_jobs to jobfn_test_nobody")
    try:
        settings = {"role": "jobfn_test_nobody"}
        async with asyncpg.create_pool(database, min_size=1, max_size=1, server_settings=settings) as pool:
            checks = await Doctor(pool, None, http).run()
    finally:
        await jobs.connection.execute("drop owned by jobfn_test_nobody; drop role jobfn_test_nobody")
    assert (checks["schema"].status, checks["schema"].message, checks["schema"].advice) == (
        "warning",
        "role jobfn_test_nobody lacks SELECT on app_jobs.jobfn_migrations",
        "run `jobfn db migrate --grant-viewer jobfn_test_nobody` as postgres",
    )
    assert (await doctor.run())["schema"].status == "ok"


async def test_platform_schema_is_supported(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]", http: httpx.AsyncClient
) -> None:
    doctor = Doctor(platform_pool, platform_operations, http)
    checks = await doctor.run()
    assert (checks["schema"].status, checks["worker"].status) == ("ok", "warning")
    await platform_pool.execute("select app_jobs.add_job(gen_random_uuid(), 'x')")
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)

    async def is_reported() -> bool:  # the list of workers is cached
        return (await doctor.run())["worker"].message == f"jobs are held by {WORKER}"

    await eventually(is_reported)


def status_app(status: int) -> Starlette:
    """Return an app that answers every request with a status."""

    async def respond(_request: Request) -> Response:
        return JSONResponse([], status)

    return Starlette(routes=[Route("/{path:path}", respond, methods=["GET", "POST", "PUT"])])


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_gateway_error_is_an_error(doctor: Doctor, serve: Serve, jobs: Jobs, status: int) -> None:
    url = await serve(status_app(status))
    await jobs.add("greet")
    checks = await doctor.run(gateway_url=url, own_callback_url=f"{url}/callback")
    assert (checks["function greet"].status, checks["callback URL"].status) == ("error", "error")
    assert "the gateway does not reach the function" in checks["function greet"].message


async def test_app_below_a_path_is_recognized(doctor: Doctor, serve: Serve, start_service: StartService) -> None:
    app = create_app(tasks=[greet])
    url = await serve(Starlette(routes=[Mount("/apps", app)], lifespan=lambda _app: app.lifespan_context()))
    service = await start_service(url)
    checks = await doctor.run(function_urls={"greet": f"{url}/apps/greet"}, own_callback_url=service.callback_url)
    assert checks["function greet"].message == f"{url}/apps/greet responds and has the task"
    assert checks[f"reports from {url}/apps/"].status == "ok"


async def test_the_check_of_reports_leaves_no_conflict_in_the_function_s_log(
    doctor: Doctor, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    url = await serve(create_app(tasks=[greet]))
    service = await start_service(url)
    await jobs.add("greet", run_at=datetime.now(UTC) + timedelta(days=1))
    with capture_logs() as lines:
        checks = await doctor.run(gateway_url=url, own_callback_url=service.callback_url)
    assert checks[f"reports from {url}/"].status == "ok"
    assert [line["event"] for line in lines if line["event"].startswith("report ")] == []


async def test_functions_of_the_definitions_are_checked(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    url = await serve(create_app(tasks=[greet]))
    await jobs.connection.execute(WITH_URLS)
    await jobs.connection.execute(
        "insert into compute_public.platform_function_definitions (scope, name, task_identifier, service_url)"
        " values ('x', 'greet', 'greet', $1)",
        f"{url}/greet",
    )
    checks = await doctor.run(function_definitions="auto")
    assert checks["function greet"].message == f"{url}/greet responds and has the task"
    checks = await doctor.run(function_definitions="public.none")
    assert (checks["function definitions"].status, "'public.none'" in checks["function definitions"].message) == (
        "error",
        True,
    )


async def test_other_function_is_ok_and_gets_no_put(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    url = await serve(status_app(404))
    await jobs.add("greet")
    checks = await doctor.run(gateway_url=url)
    assert (checks["function greet"].status, checks["function greet"].message) == ("ok", f"{url}/greet responds (404)")
    assert not any(name.startswith("reports from") for name in checks)


async def test_app_without_the_task_is_an_error(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    url = await serve(create_app(tasks=[greet]))
    await jobs.add("other")
    checks = await doctor.run(gateway_url=url)
    assert (checks["function other"].status, "has only greet" in checks["function other"].message) == ("error", True)


async def test_function_that_cannot_report_is_an_error(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    url = await serve(
        create_app(tasks=[greet], settings=FunctionSettings(report_timeout_seconds=3, shutdown_timeout_seconds=5))
    )
    await jobs.add("greet")
    checks = await doctor.run(gateway_url=url)
    reports = checks[f"reports from {url}/"]
    assert (reports.status, "could not report to" in reports.message) == ("error", True)
    assert "curl -X POST" in reports.advice


async def test_invoke_secret_is_sent_to_functions(
    doctor: Doctor, serve: Serve, start_service: StartService, jobs: Jobs
) -> None:
    job_ids: list[str] = []

    async def callback(request: Request) -> Response:
        job_ids.append(request.headers.get("X-Job-Id", ""))
        return JSONResponse({})

    callback_url = await serve(Starlette(routes=[Route("/callback", callback, methods=["POST"])]))
    url = await serve(create_app(tasks=[greet], settings=FunctionSettings(invoke_secrets=[INVOKE_SECRET])))
    await jobs.add("greet")
    checks = await doctor.run(
        gateway_url=url, own_callback_url=f"{callback_url}/callback", invoke_secrets=[INVOKE_SECRET]
    )
    assert checks[f"reports from {url}/"].status == "ok"
    assert job_ids == ["", str(UNUSED_JOB_ID)]


async def test_wrong_invoke_secret_is_an_error(doctor: Doctor, serve: Serve, jobs: Jobs) -> None:
    url = await serve(create_app(tasks=[greet], settings=FunctionSettings(invoke_secrets=[INVOKE_SECRET])))
    await jobs.add("greet")
    checks = await doctor.run(gateway_url=url)
    assert (checks["function greet"].status, checks["function greet"].message) == (
        "error",
        f"{url}/ refuses the invoke secret of these settings",
    )
    assert f"reports from {url}/" not in checks


@pytest.mark.parametrize("url", ["http://", "http://[/x", "http://h:99999999/"])
async def test_malformed_urls_are_errors(doctor: Doctor, jobs: Jobs, url: str) -> None:
    await jobs.add("greet")
    checks = await doctor.run(gateway_url=url, own_callback_url=url)
    assert (checks["function greet"].status, checks["callback URL"].status) == ("error", "error")


async def test_silent_worker_is_a_warning(doctor: Doctor, jobs: Jobs) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.workers (worker_id, host, pid, version, roles, concurrency, in_flight, heartbeat_interval,
            last_heartbeat_at)
        values ('w-1', 'host', 1, '1', '{worker}', 1, 0, '10 s', now() - interval '5 minutes')
        """
    )
    check = (await doctor.run())["heartbeats"]
    assert (check.status, check.message.startswith("no heartbeat from w-1 since ")) == ("warning", True)
    assert "see the log and the host" in check.advice
