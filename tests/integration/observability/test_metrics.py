"""Metrics: what a scrape says is what happened."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest

from jobfn import create_app, task
from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.database.queue_depth import Depth, DepthReader
from jobfn.database.statements import query
from jobfn.function.settings import FunctionSettings
from jobfn.http.server import bind
from jobfn.worker.settings import ServiceRole
from support.commands import Spawn
from support.fixtures import Serve
from support.jobs import Jobs
from support.network import LOOPBACK, eventually
from support.observability import Samples, StartPath, scrape


@task("well")
async def well(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@task("breaks", max_attempts=1)
async def breaks(payload: dict[str, Any]) -> None:
    raise RuntimeError("boom")


@task("long", background=True)
async def long(payload: dict[str, Any]) -> None: ...


@task("metrics")
async def metrics(payload: dict[str, Any]) -> str:
    return "a task like any other"


def total(samples: Samples, name: str, **labels: str) -> float:
    """A sample, by its labels."""
    return samples[name, tuple(sorted(labels.items()))]


async def test_what_happened_is_counted_on_both_sides(jobs: Jobs, start_path: StartPath) -> None:
    """Ends by task and outcome, durations, waits, claims, batches and reports."""
    path = await start_path(well, breaks, long)
    added = [await jobs.add("well") for _ in range(3)]
    added.append(await jobs.add("long"))
    await jobs.until_gone(*added)
    await jobs.until_failed(await jobs.add("breaks"))

    async def answered() -> bool:  # which is after the report was heard
        return total(await path.service_metrics(), "jobfn_in_flight") == 0

    await eventually(answered)
    service, function = await path.service_metrics(), await path.function_metrics()
    assert total(service, "jobfn_jobs_total", task="well", outcome="completed") == 3
    assert total(service, "jobfn_jobs_total", task="breaks", outcome="permanently_failed") == 1
    assert total(service, "jobfn_jobs_total", task="long", outcome="completed") == 1
    assert total(service, "jobfn_deliveries_total", task="well", result="succeeded") == 3
    assert total(service, "jobfn_deliveries_total", task="breaks", result="failed") == 1
    assert total(service, "jobfn_deliveries_total", task="long", result="accepted") == 1
    assert total(service, "jobfn_delivery_duration_seconds_count", task="well") == 3
    assert total(service, "jobfn_job_queue_latency_seconds_count", task="well") == 3
    assert total(service, "jobfn_claims_total", result="claimed") >= 2
    assert total(service, "jobfn_settlement_batch_size_sum") == 5
    assert total(service, "jobfn_reports_total", result="settled") == 5
    assert total(service, "jobfn_worker_concurrency") == 16
    assert total(function, "jobfn_function_jobs_total", task="well", outcome="succeeded") == 3
    assert total(function, "jobfn_function_jobs_total", task="breaks", outcome="failed") == 1
    assert total(function, "jobfn_function_jobs_total", task="long", outcome="succeeded") == 1
    assert total(function, "jobfn_function_duration_seconds_count", task="long") == 1
    assert total(function, "jobfn_function_reports_total", result="acknowledged") == 5
    assert total(function, "jobfn_function_report_retries_total") == 0


async def test_how_long_a_job_waited_counts_from_when_it_was_due(jobs: Jobs, start_path: StartPath) -> None:
    """A job that has been due for an hour has waited for an hour; one that was delayed until then no longer."""
    await jobs.connection.execute(
        """
        insert into app_jobs.jobs (task_identifier, created_at, run_at)
        values ('well', now() - interval '3 hours', now() - interval '1 hour')
        """
    )
    path = await start_path(well)
    await jobs.until_gone()
    waited = total(await path.service_metrics(), "jobfn_job_queue_latency_seconds_sum", task="well")
    assert 3600 <= waited < 3700


async def test_what_runs_is_in_flight(jobs: Jobs, start_path: StartPath) -> None:
    """On both sides, while it runs and not after."""
    began, go = asyncio.Event(), asyncio.Event()

    @task("held")
    async def held(payload: dict[str, Any]) -> None:
        began.set()
        await go.wait()

    path = await start_path(held)
    job = await jobs.add("held")
    await began.wait()
    service, function = await path.service_metrics(), await path.function_metrics()
    assert total(service, "jobfn_in_flight") == 1
    assert total(service, "jobfn_queue_jobs", state="running") == 1
    assert total(function, "jobfn_function_in_flight", task="held") == 1
    go.set()
    await jobs.until_gone(job)

    async def idle() -> bool:
        return total(await path.service_metrics(), "jobfn_in_flight") == 0

    await eventually(idle)
    assert total(await path.function_metrics(), "jobfn_function_in_flight", task="held") == 0


async def test_strangers_make_no_labels(start_path: StartPath) -> None:
    """A task that is not here, a payload that does not fit, a path that is none: counted, never named."""
    path = await start_path(well)
    async with httpx.AsyncClient(base_url=path.function_url) as client:
        for number in range(5):
            assert (await client.post(f"/never-heard-of-{number}", json={})).status_code == 404
        assert (await client.post("/well", json=[])).status_code == 422
    samples = await path.function_metrics()
    assert total(samples, "jobfn_function_jobs_total", task="(unknown)", outcome="refused") == 5
    assert total(samples, "jobfn_function_jobs_total", task="well", outcome="refused") == 1
    assert {value for _, labels in samples for name, value in labels if name == "task"} == {"well", "(unknown)"}


async def test_task_names_of_jobs_are_bounded(jobs: Jobs, start_path: StartPath) -> None:
    """Whoever may enqueue chooses names: a hundred of them become labels, the rest are one."""
    path = await start_path(well, concurrency=64)
    await jobs.connection.execute(
        "select app_jobs.add_job('task-' || n, max_attempts := 1) from generate_series(1, 130) n"
    )

    async def all_failed() -> bool:
        held = "select count(*) from app_jobs.jobs where exhausted and locked_at is null"
        return bool(await jobs.connection.fetchval(held) == 130)

    await eventually(all_failed, seconds=30)
    samples = await path.service_metrics()
    names = {value for name, labels in samples if name == "jobfn_jobs_total" for key, value in labels if key == "task"}
    assert len(names) == 101
    assert total(samples, "jobfn_jobs_total", task="(other)", outcome="failed") == 30


async def test_a_task_may_be_called_metrics(start_path: StartPath) -> None:
    """POST is for deliveries, whatever the path; GET reads the metrics, and other methods are told so."""
    path = await start_path(metrics, well)
    async with httpx.AsyncClient(base_url=path.function_url) as client:
        assert (await client.post("/metrics", json={})).json() == "a task like any other"
        refused = await client.put("/metrics")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD, POST")
    assert total(await path.function_metrics(), "jobfn_function_jobs_total", task="metrics", outcome="succeeded") == 1


async def test_a_function_may_keep_its_numbers_to_itself(serve: Serve) -> None:
    """JOBFN_METRICS=false: there is no such page."""
    url = await serve(create_app(tasks=[well], settings=FunctionSettings.from_environ({"JOBFN_METRICS": "false"})))
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{url}/metrics")).status_code == 404


async def test_the_callback_server_shows_nobody_the_numbers(start_path: StartPath) -> None:
    """Functions and gateways reach it: metrics are on a port of their own, which answers nothing else."""
    path = await start_path(well)
    async with httpx.AsyncClient() as client:
        assert (await client.get(path.callback_url.replace("/callback", "/metrics"))).status_code == 404
        assert (await client.get(path.metrics_url.replace("/metrics", "/healthz"))).text == "ok"
        assert (await client.post(path.metrics_url.replace("/metrics", "/callback"))).status_code == 404


async def test_reports_are_counted_by_what_they_came_to(jobs: Jobs, start_path: StartPath) -> None:
    """Too late, refused, and not at all for a health probe; each is answered as ever."""
    path = await start_path(well)
    headers = {"X-Worker-Id": "worker-x", "X-Job-Id": "7"}
    async with httpx.AsyncClient() as client:
        assert (await client.post(path.callback_url)).status_code == 200
        assert (await client.post(path.callback_url, headers=headers)).status_code == 409
        assert (await client.post(path.callback_url, headers={"X-Job-Id": "7"})).status_code == 400
        await jobs.connection.execute("alter table app_jobs.jobs rename to gone")
        assert (await client.post(path.callback_url, headers=headers)).status_code == 500
        await jobs.connection.execute("alter table app_jobs.gone rename to jobs")
    samples = await path.service_metrics()
    for result, count in {"conflict": 1, "refused": 1, "error": 1, "settled": 0}.items():
        assert total(samples, "jobfn_reports_total", result=result) == count


@pytest.mark.parametrize("only", [(ServiceRole.SCHEDULER,), (ServiceRole.WORKER,), (ServiceRole.CALLBACKS,)])
async def test_each_part_alone_has_metrics(only: tuple[ServiceRole, ...], start_path: StartPath) -> None:
    """A scheduler asks nobody for the queue's depth; the others do. Slots are the worker's."""
    path = await start_path(well, only=only)
    samples = await path.service_metrics()
    assert total(samples, "jobfn_database_reconnects_total") >= 0
    assert (("jobfn_database_up", ()) in samples) is (ServiceRole.SCHEDULER not in only)
    assert total(samples, "jobfn_worker_concurrency") == (16 if ServiceRole.WORKER in only else 0)


async def test_a_taken_port_is_one_clear_error(spawn: Spawn, database: str) -> None:
    """The port is named; and a port that is none, too."""
    with bind(LOOPBACK, 0) as taken:
        port = str(taken.getsockname()[1])
        variables = {"DATABASE_URL": database, "INTERNAL_JOBS_CALLBACK_PORT": "0", "JOBS_METRICS_HOST": LOOPBACK}
        running = await spawn("jobfn", "service", **variables, JOBS_METRICS_PORT=port)
        await running.until(f"cannot listen on {LOOPBACK}:{port}")
        assert await running.wait() == 2
    running = await spawn("jobfn", "service", **variables, JOBS_METRICS_PORT="many")
    await running.until("JOBS_METRICS_PORT='many'")
    assert await running.wait() == 2


async def test_reconnects_are_counted(jobs: Jobs, start_path: StartPath) -> None:
    """A listener that lost its connection listens again, and says so."""
    path = await start_path(well)
    before = total(await path.service_metrics(), "jobfn_database_reconnects_total")
    await jobs.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'jobfn-listener'"
    )

    async def counted() -> bool:
        return total(await path.service_metrics(), "jobfn_database_reconnects_total") > before

    await eventually(counted)


class Clock:
    """Seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def pool(database: str) -> AsyncIterator["asyncpg.Pool[Any]"]:
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as opened:
        yield opened


@pytest.mark.parametrize("is_platform", [False, True])
async def test_the_depth_of_the_queue(
    is_platform: bool,  # noqa: FBT001  - a column
    jobs: Jobs,
    pool: "asyncpg.Pool[Any]",
) -> None:
    """Ready, delayed, running and failed jobs, each in its place, and the oldest ready one's age; then none.

    The platform's statement, which does without our columns, finds the same.
    """
    clock = Clock()
    depth = DepthReader(pool, "app_jobs", is_platform=is_platform, clock=clock)
    await jobs.add("ready")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() - interval '1 minute'")
    await jobs.add("running", priority=-1)
    assert (await jobs.claim()) is not None
    await jobs.connection.execute("select app_jobs.add_job('x', run_at := now() + interval '1 hour')")
    await jobs.connection.execute("update app_jobs.jobs set attempts = max_attempts where id = $1", await jobs.add("x"))
    found = await depth.read()
    assert found is not None
    assert (found.ready, found.delayed, found.running, found.failed) == (1, 1, 1, 1)
    assert 60 <= found.oldest_ready_seconds < 120
    await jobs.connection.execute("delete from app_jobs.jobs")
    assert await depth.read() == found, "it is counted again after five seconds, not before"
    clock.now += 5
    assert await depth.read() == Depth(0, 0, 0, 0, 0.0)


async def test_a_worker_s_role_may_count(connection: "asyncpg.Connection[Any]") -> None:
    """What --grant-worker gives is enough, and the statement reads no column beyond it."""
    role = f"counter_{uuid.uuid4().hex[:12]}"
    await connection.execute(f"create role {role}")
    try:
        await migrate(connection, "app_jobs", grants=Grants(work=(role,)))
        await connection.execute(f"set role {role}")
        row = await connection.fetchrow(query("queue_depth", "app_jobs"))
        await connection.execute("reset role")
        assert row is not None
        assert Depth(**row) == Depth(0, 0, 0, 0, 0.0)
    finally:
        await connection.execute(f"reset role; drop owned by {role}; drop role {role}")


async def test_a_count_that_takes_long_is_kept_for_long(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    """Nineteen times as long as it took: two seconds to count are good for thirty-eight."""

    class Slow(Clock):
        """Two seconds go by with each look at it."""

        def __call__(self) -> float:
            self.now += 2
            return self.now

    slow = Slow()
    depth = DepthReader(pool, "app_jobs", is_platform=False, clock=slow)
    first = await depth.read()
    assert first is not None
    await jobs.add("x")
    slow.now += 25
    assert await depth.read() == first
    slow.now += 20
    again = await depth.read()
    assert again is not None
    assert again.ready == 1


async def test_a_database_that_does_not_answer_is_down(start_path: StartPath, jobs: Jobs) -> None:
    """The scrape is answered all the same, without the queue's depth."""
    path = await start_path(well, only=(ServiceRole.CALLBACKS,))
    await jobs.connection.execute("alter table app_jobs.jobs rename to gone")
    samples = await scrape(path.metrics_url)
    await jobs.connection.execute("alter table app_jobs.gone rename to jobs")
    assert total(samples, "jobfn_database_up") == 0
    assert not [name for name, _ in samples if name.startswith("jobfn_queue")]
