"""Metrics of functions and services."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn import create_app, task
from jobfn.database.limit_usage import LimitUsage, LimitUsageReader
from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.database.queue_depth import QueueDepth, QueueDepthReader
from jobfn.database.statements import query
from jobfn.function.settings import FunctionSettings
from jobfn.http.server import bind
from jobfn.worker.settings import ServiceRole
from jobfn.worker.telemetry.metrics_server import limit_metrics
from support.clock import ManualClock
from support.commands import Spawn
from support.fixtures import Serve
from support.jobs import Jobs
from support.limits import claim, set_limit
from support.network import LOOPBACK, eventually
from support.observability import Deploy, Deployment, LogLines, scrape, value


@task("succeeds")
async def succeeds(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@task("breaks", max_attempts=1)
async def breaks(payload: dict[str, Any]) -> None:
    raise RuntimeError("boom")


@task("long", background=True)
async def long(payload: dict[str, Any]) -> None: ...


@task("metrics")
async def metrics(payload: dict[str, Any]) -> str:
    return "the task's result"


async def until_idle(deployment: Deployment) -> None:
    """Wait until the worker has all responses, which arrive after the reports."""

    async def is_idle() -> bool:
        return value(await deployment.service_metrics(), "jobfn_in_flight") == 0

    await eventually(is_idle)


async def test_jobs_are_counted_by_worker_and_function(jobs: Jobs, deploy: Deploy) -> None:
    deployment = await deploy(succeeds, breaks, long, settle_on="report")
    ids = [await jobs.add("succeeds") for _ in range(3)]
    ids.append(await jobs.add("long"))
    await jobs.until_gone(*ids)
    await jobs.until_failed(await jobs.add("breaks"))
    await until_idle(deployment)
    service, function = await deployment.service_metrics(), await deployment.function_metrics()
    assert value(service, "jobfn_jobs_total", task="succeeds", outcome="completed") == 3
    assert value(service, "jobfn_jobs_total", task="breaks", outcome="permanently_failed") == 1
    assert value(service, "jobfn_jobs_total", task="long", outcome="completed") == 1
    assert value(service, "jobfn_deliveries_total", task="succeeds", result="succeeded") == 3
    assert value(service, "jobfn_deliveries_total", task="breaks", result="failed") == 1
    assert value(service, "jobfn_deliveries_total", task="long", result="accepted") == 1
    assert value(service, "jobfn_delivery_duration_seconds_count", task="succeeds") == 3
    assert value(service, "jobfn_job_queue_latency_seconds_count", task="succeeds") == 3
    assert value(service, "jobfn_claims_total", result="claimed") >= 2
    assert value(service, "jobfn_settlement_batch_size_sum") == 5
    assert value(service, "jobfn_reports_total", result="settled") == 5
    assert value(service, "jobfn_worker_concurrency") == 16
    assert value(function, "jobfn_function_jobs_total", task="succeeds", outcome="succeeded") == 3
    assert value(function, "jobfn_function_jobs_total", task="breaks", outcome="failed") == 1
    assert value(function, "jobfn_function_jobs_total", task="long", outcome="succeeded") == 1
    assert value(function, "jobfn_function_duration_seconds_count", task="long") == 1
    assert value(function, "jobfn_function_reports_total", result="acknowledged") == 5
    assert value(function, "jobfn_function_report_retries_total") == 0


async def test_queue_latency_starts_when_a_job_is_due(jobs: Jobs, deploy: Deploy) -> None:
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, created_at, run_at)
        values ('succeeds', now() - interval '3 hours', now() - interval '1 hour')
        """
    )
    deployment = await deploy(succeeds)
    await jobs.until_gone()
    latency = value(await deployment.service_metrics(), "jobfn_job_queue_latency_seconds_sum", task="succeeds")
    assert 3600 <= latency < 3700


async def test_running_jobs_are_in_flight(jobs: Jobs, deploy: Deploy) -> None:
    started, gate = asyncio.Event(), asyncio.Event()

    @task("held")
    async def held(payload: dict[str, Any]) -> None:
        started.set()
        await gate.wait()

    deployment = await deploy(held)
    job = await jobs.add("held")
    await started.wait()
    service, function = await deployment.service_metrics(), await deployment.function_metrics()
    assert value(service, "jobfn_in_flight") == 1
    assert value(service, "jobfn_queue_jobs", state="running") == 1
    assert value(function, "jobfn_function_in_flight", task="held") == 1
    gate.set()
    await jobs.until_gone(job)
    await until_idle(deployment)
    assert value(await deployment.function_metrics(), "jobfn_function_in_flight", task="held") == 0


async def test_jobs_that_a_limit_holds_are_counted(jobs: Jobs, deploy: Deploy) -> None:
    await set_limit(jobs.connection, "reports", task_identifier="report", concurrency=1)
    for _ in range(3):
        await jobs.add("report")
    assert [await jobs.claim_id("another-worker") is None for _ in range(2)] == [False, True]
    await jobs.add("later", run_at=datetime.now(UTC) + timedelta(hours=1))
    service = await (await deploy(succeeds)).service_metrics()
    assert [value(service, "jobfn_queue_jobs", state=state) for state in ("held", "delayed", "ready")] == [2, 1, 0]


async def test_schedules_are_counted_by_state(jobs: Jobs, deploy: Deploy) -> None:
    for task_name in ("daily", "paused", "broken", "paused_and_broken"):
        await jobs.connection.execute("select app_jobs.add_scheduled_job($1, '@daily')", task_name)
    await jobs.connection.execute(
        "update app_jobs.scheduled_jobs set last_error = 'no', due_at = 'infinity' where task_identifier like '%broken'"
    )
    await jobs.connection.execute(
        "select app_jobs.pause_schedule(id) from app_jobs.scheduled_jobs where task_identifier like 'paused%'"
    )
    service = await (await deploy(succeeds)).service_metrics()
    assert [value(service, "jobfn_schedules", state=state) for state in ("active", "paused", "broken")] == [1, 2, 1]


async def test_requests_for_unknown_tasks_add_no_labels(deploy: Deploy) -> None:
    deployment = await deploy(succeeds)
    async with httpx.AsyncClient(base_url=deployment.function_url) as client:
        for number in range(5):
            assert (await client.post(f"/unknown-{number}", json={})).status_code == 404
        assert (await client.post("/succeeds", json=[])).status_code == 422
    samples = await deployment.function_metrics()
    assert value(samples, "jobfn_function_jobs_total", task="(unknown)", outcome="refused") == 5
    assert value(samples, "jobfn_function_jobs_total", task="succeeds", outcome="refused") == 1
    assert {label for _, labels in samples for name, label in labels if name == "task"} == {"succeeds", "(unknown)"}


async def test_number_of_task_labels_is_limited(jobs: Jobs, deploy: Deploy) -> None:
    deployment = await deploy(succeeds, concurrency=64)
    await jobs.connection.execute(
        "select app_jobs.add_job('task-' || n, max_attempts := 1) from generate_series(1, 130) n"
    )

    async def all_have_failed() -> bool:
        failed = "select count(*) from app_jobs.jobs where exhausted and locked_at is null"
        return bool(await jobs.connection.fetchval(failed) == 130)

    await eventually(all_have_failed, seconds=30)
    samples = await deployment.service_metrics()
    tasks = {dict(labels).get("task") for name, labels in samples if name == "jobfn_jobs_total"}
    assert len(tasks) == 101
    assert value(samples, "jobfn_jobs_total", task="(other)", outcome="failed") == 30


async def test_task_may_be_named_metrics(deploy: Deploy) -> None:
    deployment = await deploy(metrics, succeeds)
    async with httpx.AsyncClient(base_url=deployment.function_url) as client:
        assert (await client.post("/metrics", json={})).json() == "the task's result"
        refused = await client.put("/metrics")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    samples = await deployment.function_metrics()
    assert value(samples, "jobfn_function_jobs_total", task="metrics", outcome="succeeded") == 1


async def test_function_metrics_can_be_disabled(serve: Serve) -> None:
    settings = FunctionSettings.from_environ({"JOBFN_METRICS": "false"})
    url = await serve(create_app(tasks=[succeeds], settings=settings))
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/metrics")).status_code == 404


async def test_metrics_and_callbacks_have_separate_ports(deploy: Deploy) -> None:
    deployment = await deploy(succeeds)
    async with httpx.AsyncClient() as client:
        assert (await client.get(deployment.callback_url.replace("/callback", "/metrics"))).status_code == 404
        assert (await client.get(deployment.metrics_url.replace("/metrics", "/healthz"))).text == "ok"
        assert (await client.post(deployment.metrics_url.replace("/metrics", "/callback"))).status_code == 404


async def test_reports_are_counted_by_result(jobs: Jobs, deploy: Deploy) -> None:
    deployment = await deploy(succeeds, roles=(ServiceRole.CALLBACKS,))  # a worker may claim while there is no table
    headers = {"X-Worker-Id": "worker-x", "X-Job-Id": "7"}
    async with httpx.AsyncClient() as client:
        assert (await client.post(deployment.callback_url)).status_code == 200
        assert (await client.post(deployment.callback_url, headers=headers)).status_code == 409
        assert (await client.post(deployment.callback_url, headers={"X-Job-Id": "7"})).status_code == 400
        await jobs.connection.execute("alter table app_jobs.jobs rename to gone")
        assert (await client.post(deployment.callback_url, headers=headers)).status_code == 500
        await jobs.connection.execute("alter table app_jobs.gone rename to jobs")
    samples = await deployment.service_metrics()
    for result, count in {"conflict": 1, "refused": 1, "error": 1, "settled": 0, "unavailable": 0}.items():
        assert value(samples, "jobfn_reports_total", result=result) == count


@pytest.mark.parametrize("role", list(ServiceRole))
async def test_each_role_has_metrics(role: ServiceRole, deploy: Deploy) -> None:
    """A scheduler does not expose the queue's depth."""
    deployment = await deploy(succeeds, roles=(role,))
    samples = await deployment.service_metrics()
    assert value(samples, "jobfn_database_reconnects_total") >= 0
    assert (("jobfn_database_up", ()) in samples) is (role is not ServiceRole.SCHEDULER)
    assert value(samples, "jobfn_worker_concurrency") == (16 if role is ServiceRole.WORKER else 0)


async def test_unavailable_metrics_port_is_an_error(spawn: Spawn, database: str) -> None:
    with bind(LOOPBACK, 0) as occupied:
        port = str(occupied.getsockname()[1])
        variables = {"DATABASE_URL": database, "INTERNAL_JOBS_CALLBACK_PORT": "0", "JOBS_METRICS_HOST": LOOPBACK}
        process = await spawn("jobfn", "service", **variables, JOBS_METRICS_PORT=port)
        await process.until(f"cannot listen on {LOOPBACK}:{port}")
        assert await process.wait() == 2
    process = await spawn("jobfn", "service", **variables, JOBS_METRICS_PORT="many")
    await process.until("JOBS_METRICS_PORT='many'")
    assert await process.wait() == 2


async def test_reconnects_are_counted(jobs: Jobs, deploy: Deploy) -> None:
    deployment = await deploy(succeeds)
    before = value(await deployment.service_metrics(), "jobfn_database_reconnects_total")
    await jobs.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and application_name = 'jobfn-listener'"
    )

    async def is_counted() -> bool:
        return value(await deployment.service_metrics(), "jobfn_database_reconnects_total") > before

    await eventually(is_counted)


async def test_unreachable_database_is_down(deploy: Deploy, jobs: Jobs) -> None:
    deployment = await deploy(succeeds, roles=(ServiceRole.CALLBACKS,))
    await jobs.connection.execute("alter table app_jobs.jobs rename to gone")
    samples = await scrape(deployment.metrics_url)
    await jobs.connection.execute("alter table app_jobs.gone rename to jobs")
    assert value(samples, "jobfn_database_up") == 0
    assert not [name for name, _ in samples if name.startswith("jobfn_queue")]


@pytest.mark.parametrize("is_platform", [False, True])
async def test_queue_depth_counts_jobs_by_state(*, is_platform: bool, jobs: Jobs, pool: "asyncpg.Pool[Any]") -> None:
    """On jobfn's schema and on the platform's. The count is cached for five seconds."""
    clock = ManualClock()
    reader = QueueDepthReader(pool, "app_jobs", is_platform=is_platform, clock=clock)
    await jobs.add("ready")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() - interval '1 minute'")
    await jobs.add("running", priority=-1)
    assert (await jobs.claim()) is not None
    await jobs.connection.execute("select app_jobs.add_job('x', run_at := now() + interval '1 hour')")
    await jobs.connection.execute("update app_jobs.jobs set attempts = max_attempts where id = $1", await jobs.add("x"))
    depth = await reader.read()
    assert depth is not None
    assert (depth.ready, depth.delayed, depth.running, depth.failed) == (1, 1, 1, 1)
    assert 60 <= depth.oldest_ready_seconds < 120
    await jobs.connection.execute("delete from app_jobs.jobs")
    clock.advance(4.9)
    assert await reader.read() == depth
    clock.advance(0.1)
    assert await reader.read() == QueueDepth(0, 0, 0, 0, 0.0)


async def test_oldest_transaction_of_each_kind_is_exposed(
    deploy: Deploy, jobs: Jobs, connection: "asyncpg.Connection[Any]"
) -> None:
    deployment = await deploy(succeeds, roles=(ServiceRole.CALLBACKS,))
    async with connection.transaction():
        await connection.execute("select app_jobs.add_job('x')")
        samples = await scrape(deployment.metrics_url)
    assert value(samples, "jobfn_oldest_transaction_seconds", holder="session") > 0
    assert value(samples, "jobfn_oldest_transaction_xids", holder="session") >= 1
    for holder in ("prepared transaction", "replication slot", "standby"):
        assert value(samples, "jobfn_oldest_transaction_xids", holder=holder) == 0


async def test_queue_depth_is_readable_with_the_worker_s_privileges(connection: "asyncpg.Connection[Any]") -> None:
    role = f"counter_{uuid.uuid4().hex[:12]}"
    await connection.execute(f"create role {role}")
    try:
        await migrate(connection, "app_jobs", grants=Grants(worker=(role,)))
        await connection.execute(f"set role {role}")
        row = await connection.fetchrow(query("queue_depth", "app_jobs"))
        await connection.execute("reset role")
        assert row is not None
        assert QueueDepth(**row) == QueueDepth(0, 0, 0, 0, 0.0)
    finally:
        await connection.execute(f"reset role; drop owned by {role}; drop role {role}")


async def test_slow_queue_depth_is_cached_longer(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    """For 19 times the duration of the count: 38 seconds after a count of two seconds."""

    class SlowClock(ManualClock):
        def __call__(self) -> float:
            self.advance(2)
            return super().__call__()

    clock = SlowClock()
    reader = QueueDepthReader(pool, "app_jobs", is_platform=False, clock=clock)
    first = await reader.read()
    assert first is not None
    await jobs.add("x")
    clock.advance(25)
    assert await reader.read() == first
    clock.advance(20)
    second = await reader.read()
    assert second is not None
    assert second.ready == 1


async def test_limits_are_counted_by_name_and_not_by_key(jobs: Jobs, deploy: Deploy) -> None:
    await set_limit(jobs.connection, "per customer", per="payload.customer", concurrency=2)
    await set_limit(jobs.connection, "starts", rate_count=9, rate_interval=timedelta(hours=1))
    for customer in ("the customer's name", "the customer's name", "the customer's name", "another"):
        await jobs.add("succeeds", {"customer": customer})
    assert len(await claim(jobs.connection, 10)) == 3
    await jobs.connection.execute("select app_jobs.pause_limit_key('per customer', 'paused', 'infinity')")
    await jobs.connection.execute("select app_jobs.pause_limit_key('per customer', 'ended', now())")
    samples = await (await deploy(succeeds, roles=(ServiceRole.CALLBACKS,))).service_metrics()
    for limit, metric, number in (
        ("per customer", "jobfn_limit_running", 3),
        ("per customer", "jobfn_limit_slots", 2),
        ("per customer", "jobfn_limit_held", 1),
        ("per customer", "jobfn_limit_paused_keys", 1),
        ("starts", "jobfn_limit_running", 0),
        ("starts", "jobfn_limit_held", 0),
        ("starts", "jobfn_limit_paused_keys", 0),
    ):
        assert value(samples, metric, limit=limit) == number
    assert ("starts" in str([name for name in samples if "jobfn_limit_slots" in str(name)])) is False
    assert "customer's name" not in str(samples)


def test_only_the_first_limits_are_labels() -> None:
    limits = [LimitUsage(f"limit-{number:03}", 5, 1, 2, 3) for number in range(103)]
    values = []
    for metric in limit_metrics(limits):
        assert isinstance(metric.values, dict)
        values.append(metric.values)
    running, slots, held, paused = values
    assert (len(running), running["limit-099",], running["(other)",]) == (101, 1.0, 3.0)
    assert (held["(other)",], paused["(other)",]) == (6.0, 9.0)
    assert (len(slots), ("(other)",) in slots) == (100, False)


async def test_limits_are_not_counted_without_a_database(empty_database: str, lines: LogLines, database: str) -> None:
    clock = ManualClock()
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        assert await LimitUsageReader(pool, "app_jobs", clock=clock).read() == []
    assert [line["event"] for line in lines.all()] == ["limits not counted"]
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        reader = LimitUsageReader(pool, "app_jobs", clock=clock)
        assert await reader.read() == []
        await pool.execute("select app_jobs.set_limit('sync', concurrency := 4)")
        assert await reader.read() == []  # cached
        clock.advance(5.0)
        assert await reader.read() == [LimitUsage("sync", 4, 0, 0, 0)]
