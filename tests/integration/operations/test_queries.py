"""Lists of jobs and details of one job: filters, pages, query plans and errors."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError, DatabaseError, SchemaError
from jobfn.operations import JobFilter, JobOrder, JobState, Operations, open_operations
from jobfn.operations.queries import filter_parameters
from jobfn.operations.statements import Database
from support.jobs import TENANT, WORKER, Jobs

#: Enough rows for PostgreSQL to prefer an index.
MANY = 20_000


@pytest.fixture
async def job_ids(jobs: Jobs) -> dict[str, int]:
    """A job in each state and with other differences; ids by name."""
    ids = {
        "failed": await jobs.add("send", max_attempts=1),
        "running": await jobs.add("send", queue_name="mail"),
        "retrying": await jobs.add("report"),
        "completed": await jobs.add("send"),
    }
    for name in ("failed", "running", "retrying", "completed"):
        claimed = await jobs.claim()
        assert claimed is not None
        assert claimed["id"] == ids[name]
    call = jobs.connection.execute
    await call("select app_jobs.fail_job($1, $2, 'Connection REFUSED by 10.0.0.1')", WORKER, ids["failed"])
    await call("select app_jobs.fail_job($1, $2, 'timeout: 100% sure')", WORKER, ids["retrying"])
    await call("select app_jobs.complete_job($1, $2)", WORKER, ids["completed"])
    ids["ready"] = await jobs.add("send", job_key="order-7")
    ids["delayed"] = await jobs.add("report", queue_name="slow")
    for name in ("delayed", "retrying"):  # else the retry may be due before the test ends
        await call("update app_jobs.jobs set run_at = now() + interval '1 day' where id = $1", ids[name])
    ids["tenant"] = await jobs.add("other")
    await call("update app_jobs.jobs set database_id = $1 where id = $2", uuid.UUID(TENANT), ids["tenant"])
    await call("update app_jobs.jobs set created_at = now() - interval '2 hours' where id = $1", ids["ready"])
    return ids


LIVE = {"failed", "running", "retrying", "ready", "delayed", "tenant"}


@pytest.mark.parametrize(
    ("job_filter", "names"),
    [
        (JobFilter(), LIVE),
        (JobFilter(state=JobState.READY), {"ready", "tenant"}),
        (JobFilter(state=JobState.RUNNING), {"running"}),
        (JobFilter(state=JobState.FAILED), {"failed"}),
        (JobFilter(state=JobState.COMPLETED), {"completed"}),
        (JobFilter(state=JobState.COMPLETED, task="send", worker=WORKER, newer_than_seconds=60), {"completed"}),
        (JobFilter(state=JobState.COMPLETED, error="x"), set()),
        (JobFilter(state=JobState.COMPLETED, search="order-7"), set()),
        (JobFilter(state=JobState.COMPLETED, search="sen"), {"completed"}),
        (JobFilter(state=JobState.COMPLETED, search="end"), set()),
        (JobFilter(task="send"), {"failed", "running", "ready"}),
        (JobFilter(queue="mail"), {"running"}),
        (JobFilter(error="refused"), {"failed"}),
        (JobFilter(error="100%"), {"retrying"}),
        (JobFilter(error="%"), {"retrying"}),
        (JobFilter(search="order-7"), {"ready"}),
        (JobFilter(search="rder-7"), set()),
        (JobFilter(search="order_7"), set()),
        (JobFilter(search="sen"), {"failed", "running", "ready"}),
        (JobFilter(search="refused BY"), {"failed"}),
        (JobFilter(search="se", state=JobState.FAILED), {"failed"}),
        (JobFilter(search="no\0such"), set()),
        (JobFilter(search="\ud800"), set()),
        (JobFilter(search="9" * 30), set()),
        (JobFilter(tenant=TENANT), {"tenant"}),
        (JobFilter(worker=WORKER), {"running"}),
        (JobFilter(older_than_seconds=3600), {"ready"}),
        (JobFilter(newer_than_seconds=3600), LIVE - {"ready"}),
        (JobFilter(older_than_seconds=1e300), set()),
        (JobFilter(task="no\0such"), set()),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # sets have no order to name them by
)
async def test_filter_returns_matching_jobs_newest_first(
    operations: Operations, job_ids: dict[str, int], job_filter: JobFilter, names: set[str]
) -> None:
    page = await operations.list_jobs(job_filter)
    assert [job.id for job in page.jobs] == sorted((job_ids[name] for name in names), reverse=True)
    assert page.next is None
    if job_filter.state is not JobState.COMPLETED:
        assert await operations.count_matching(job_filter) == len(names)


async def test_search_finds_ids(operations: Operations, job_ids: dict[str, int]) -> None:
    job_filter = JobFilter(search=str(job_ids["running"]))
    assert [job.id for job in (await operations.list_jobs(job_filter)).jobs] == [job_ids["running"]]
    done = JobFilter(search=str(job_ids["completed"]), state=JobState.COMPLETED)
    assert [job.id for job in (await operations.list_jobs(done)).jobs] == [job_ids["completed"]]


async def test_rows_have_the_columns_of_the_table(operations: Operations, job_ids: dict[str, int]) -> None:
    by_id = {job.id: job for job in (await operations.list_jobs()).jobs}
    running, failed = by_id[job_ids["running"]], by_id[job_ids["failed"]]
    assert (running.state, running.locked_by, running.queue, running.attempts) == ("running", WORKER, "mail", 1)
    assert running.locked_at is not None
    assert (failed.state, failed.locked_by, failed.last_error) == ("failed", None, "Connection REFUSED by 10.0.0.1")
    (done,) = (await operations.list_jobs(JobFilter(state=JobState.COMPLETED))).jobs
    assert (done.state, done.task, done.attempts, done.locked_by) == ("completed", "send", 1, WORKER)
    assert done.ended_at is not None
    assert not hasattr(running, "payload")


async def test_pages_return_every_job_once_while_jobs_change(operations: Operations, jobs: Jobs) -> None:
    ids = [await jobs.add("x") for _ in range(7)]
    first = await operations.list_jobs(limit=3)
    assert ([job.id for job in first.jobs], first.next) == ([7, 6, 5], "5")
    await jobs.add("x")
    await jobs.connection.execute("delete from app_jobs.jobs where id = 5")
    second = await operations.list_jobs(limit=3, after=first.next)
    assert ([job.id for job in second.jobs], second.next) == ([4, 3, 2], "2")
    last = await operations.list_jobs(limit=3, after=second.next)
    assert ([job.id for job in last.jobs], last.next) == ([ids[0]], None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"limit": 0}, "use 1 to 1000"),
        ({"limit": 1001}, "use 1 to 1000"),
        ({"after": "-1"}, "invalid cursor"),
        ({"after": "x"}, "invalid cursor"),
        ({"after": "9" * 30}, "invalid cursor"),
        ({"job_filter": JobFilter(search="")}, "empty search text"),
        ({"job_filter": JobFilter(tenant="7")}, "the tenant '7' is not a UUID"),
        ({"job_filter": JobFilter(older_than_seconds=-1)}, "use 0 or more"),
        ({"job_filter": JobFilter(newer_than_seconds=float("nan"))}, "use 0 or more"),
    ],
)
async def test_invalid_arguments_are_rejected(operations: Operations, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await operations.list_jobs(**arguments)


async def test_completed_jobs_cannot_be_counted(operations: Operations) -> None:
    with pytest.raises(ConfigurationError, match="use the throughput"):
        await operations.count_matching(JobFilter(state=JobState.COMPLETED))


async def test_count_stops_at_the_limit(operations: Operations, jobs: Jobs) -> None:
    for _ in range(5):
        await jobs.add("x")
    assert await operations.count_matching(JobFilter(), limit=3) == 3


async def test_job_detail_has_payload_runs_and_timeline(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("send", {"to": "ada"})
    for error in ("first", "second"):
        await jobs.claim()
        await jobs.connection.execute(
            "select app_jobs.settle_jobs($1, $2, $3, '{failed}', $4, $5)",
            [WORKER],
            [job],
            [None],
            [error],
            [timedelta()],
        )
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.heartbeat_job($1, $2, 3, '1 minute', 0.5, 'half')", WORKER, job)
    detail = await operations.get_job(job)
    assert detail is not None
    assert detail.job is not None
    assert (detail.state, detail.payload, detail.job.progress, detail.job.progress_message) == (
        JobState.RUNNING,
        '{"to": "ada"}',
        0.5,
        "half",
    )
    assert [(run.attempt, run.outcome, run.error) for run in detail.runs] == [
        (1, "failed", "first"),
        (2, "failed", "second"),
    ]
    assert [(event.kind, event.attempt, event.error) for event in detail.timeline] == [
        ("enqueued", None, None),
        ("started", 1, None),
        ("ended", 1, "first"),
        ("started", 2, None),
        ("ended", 2, "second"),
        ("running", 3, None),
    ]
    assert all(run.duration_seconds is not None and run.queue_latency_seconds is not None for run in detail.runs)


async def test_timeline_of_a_waiting_job_ends_with_its_due_time(
    operations: Operations, job_ids: dict[str, int]
) -> None:
    for name, words in (("delayed", "due"), ("ready", "ready since")):
        detail = await operations.get_job(job_ids[name])
        assert detail is not None
        assert (detail.timeline[-1].kind, detail.timeline[-1].text) == ("due", words)
    failed = await operations.get_job(job_ids["failed"])
    assert failed is not None
    assert failed.timeline[-1].kind == "ended"


async def test_removed_job_is_in_the_history_without_duration(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("x")
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [job])
    detail = await operations.get_job(job)
    assert detail is not None
    assert (detail.runs[0].duration_seconds, detail.runs[0].queue_latency_seconds) == (None, None)
    assert [event.kind for event in detail.timeline] == ["enqueued", "ended"]


@pytest.mark.parametrize("job", [0, -1, 999, 2**63 - 1, 2**63, 10**40])
async def test_missing_job_is_none(operations: Operations, job: int) -> None:
    assert await operations.get_job(job) is None


@pytest.mark.parametrize("in_byte_order", [True, False])
async def test_search_finds_all_keys_with_the_prefix(
    *, in_byte_order: bool, operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]"
) -> None:
    matching = {"42", "420", "42-x", "42!", "42é", "42\U0010ffff", "42Z", "42 "}
    for key in (*matching, "4", "41", "43", "4-2", " 42", "142", "\ud7ff", "\U0010ffffz"):
        await jobs.add("x42", job_key=key)
    other_operations = Operations(pool, "app_jobs", replace(operations.capabilities, keys_in_byte_order=in_byte_order))
    page = await other_operations.list_jobs(JobFilter(search="42"))
    assert {job.key for job in page.jobs} == matching
    for odd in ("42é", "42\U0010ffff", "\ud7ff", "\U0010ffffz"):
        assert [job.key for job in (await other_operations.list_jobs(JobFilter(search=odd))).jobs] == [odd]


@pytest.mark.parametrize(("collation", "in_byte_order"), [("C", True), ("ucs_basic", False)])
async def test_key_order_is_detected_from_the_collation(
    *, collation: str, in_byte_order: bool, pool: "asyncpg.Pool[Any]"
) -> None:
    await pool.execute(f'alter table app_jobs.jobs alter key type text collate "{collation}"')
    assert (await open_operations(pool, "app_jobs")).capabilities.keys_in_byte_order is in_byte_order


async def explain(operations: Operations, job_filter: JobFilter, pool: "asyncpg.Pool[Any]") -> str:
    """Return the query plan of the first page."""
    database = Database(pool, "app_jobs", operations.capabilities)
    async with database.transaction(newest_first=job_filter.search is not None) as connection:
        statement = f"explain (analyze, buffers) {database.statement('list_jobs')}"
        return "\n".join(
            row[0] for row in await connection.fetch(statement, *filter_parameters(database, job_filter, None), 51)
        )


@pytest.fixture
async def many_jobs(jobs: Jobs) -> None:
    """Thousands of ready jobs and some failed ones."""
    await jobs.connection.execute(
        f"insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, {MANY})"
    )
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, last_error) select 'x', 25, 'boom' || n"
        " from generate_series(1, 200) n"
    )
    await jobs.connection.execute("analyze app_jobs.jobs")


@pytest.mark.parametrize(
    ("job_filter", "index"),
    [
        (JobFilter(), "jobs_pkey"),
        (JobFilter(task="x", state=JobState.READY), "jobs_pkey"),
        (JobFilter(state=JobState.FAILED), "jobs_failed_idx"),
        (JobFilter(error="boom7"), "jobs_failed_idx"),
        (JobFilter(search="77"), "jobs_pkey"),
        (JobFilter(search="77"), "jobs_key_unique"),
        (JobFilter(search="boom"), "jobs_pkey"),
        (JobFilter(search="no such text"), "jobs_pkey"),
    ],
    ids=["default", "usual", "failed", "error", "id", "key", "text", "nothing"],
)
@pytest.mark.usefixtures("many_jobs")
async def test_page_is_read_from_an_index(
    operations: Operations, pool: "asyncpg.Pool[Any]", job_filter: JobFilter, index: str
) -> None:
    query_plan = await explain(operations, job_filter, pool)
    assert index in query_plan
    assert "Seq Scan" not in query_plan
    if job_filter.search != "77":
        assert "Sort" not in query_plan


@pytest.mark.usefixtures("many_jobs")
async def test_repeated_calls_use_no_generic_plan(operations: Operations) -> None:
    for _ in range(8):
        assert len((await operations.list_jobs(JobFilter(error="boom199"))).jobs) == 1
        assert len((await operations.list_jobs()).jobs) == 50


async def test_platform_schema_lists_jobs_without_history(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    capabilities = platform_operations.capabilities
    assert (capabilities.is_platform, capabilities.has_actor_id, capabilities.has_entity_id) == (True, False, False)
    assert (capabilities.history, capabilities.workers) == (False, False)
    add = "select (app_jobs.add_job($1, 'x', '{}', run_at := now() + $2::interval)).id"
    tenant = uuid.UUID(TENANT)
    running = await platform_pool.fetchval(add, tenant, timedelta(seconds=-9))
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    ready = await platform_pool.fetchval(add, tenant, timedelta(seconds=-9))
    delayed = await platform_pool.fetchval(add, tenant, timedelta(days=1))
    failed = await platform_pool.fetchval(add, tenant, timedelta(seconds=-9))
    await platform_pool.execute("update app_jobs.jobs set attempts = 25, last_error = 'boom' where id = $1", failed)
    states = {job.id: job.state for job in (await platform_operations.list_jobs()).jobs}
    assert states == {running: "running", ready: "ready", delayed: "delayed", failed: "failed"}
    for job, state in states.items():
        assert [row.id for row in (await platform_operations.list_jobs(JobFilter(state=state))).jobs] == [job]
    detail = await platform_operations.get_job(running)
    assert detail is not None
    assert (detail.runs, detail.payload) == ((), "{}")
    assert await platform_operations.get_job(99) is None
    with pytest.raises(ConfigurationError, match="has no history: completed jobs cannot be listed"):
        await platform_operations.list_jobs(JobFilter(state=JobState.COMPLETED))
    # jobfn stores a lease in run_at
    await platform_pool.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = $1", running)
    leased = await platform_operations.get_job(running)
    assert leased is not None
    assert leased.job is not None
    assert leased.job.lease_expires_at is not None
    await platform_pool.execute(
        "update app_jobs.jobs set locked_at = now() - interval '1 h', run_at = now() - interval '1 s' where id = $1",
        running,
    )
    assert (await platform_operations.counts()).running == 0


async def test_missing_schema_is_an_error(empty_database: str) -> None:
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError, match="run `jobfn db migrate`"):
            await open_operations(pool, "app_jobs")


async def test_dropped_table_is_an_error_with_advice(operations: Operations, pool: "asyncpg.Pool[Any]") -> None:
    await pool.execute("drop table app_jobs.job_runs")
    with pytest.raises(SchemaError, match="run `jobfn db migrate`"):
        await operations.get_job(1)


async def test_role_without_privileges_is_an_error(database: str, jobs: Jobs) -> None:
    role = f"jobfn_test_{uuid.uuid4().hex[:12]}"
    await jobs.connection.execute(f"create role {role}; grant usage on schema app_jobs to {role}")
    await jobs.connection.execute(f"grant select on app_jobs.history_settings to {role}")
    try:
        async with asyncpg.create_pool(database, min_size=1, max_size=1, server_settings={"role": role}) as limited:
            operations = await open_operations(limited, "app_jobs")
            with pytest.raises(DatabaseError, match=f"role {role} lacks SELECT on app_jobs.jobs: .*--grant-viewer"):
                await operations.list_jobs()
    finally:
        await jobs.connection.execute(f"drop owned by {role}; drop role {role}")


async def test_lost_connection_is_an_error_and_the_next_call_works(
    operations: Operations, pool: "asyncpg.Pool[Any]", jobs: Jobs
) -> None:
    database = Database(pool, "app_jobs", operations.capabilities)

    async def terminate_own_session() -> None:
        async with database.transaction() as connection:
            await jobs.connection.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await connection.fetch("select 1")

    with pytest.raises(DatabaseError, match="the connection to the database was lost"):
        await terminate_own_session()
    assert (await operations.list_jobs()).jobs == ()


async def test_updated_order_lists_the_latest_failures_first(operations: Operations, jobs: Jobs) -> None:
    ids = [await jobs.add("send") for _ in range(5)]
    fail = "select app_jobs.permanently_fail_jobs(array[$1]::bigint[], 'down')"
    failed = [ids[3], ids[4], ids[0], ids[2], ids[1]]
    for job_id in failed:
        await jobs.connection.execute(fail, job_id)
    latest_first = failed[::-1]

    page = await operations.list_jobs(JobFilter(state=JobState.FAILED), limit=2, order=JobOrder.UPDATED)
    found = [job.id for job in page.jobs]
    while page.next is not None:
        page = await operations.list_jobs(
            JobFilter(state=JobState.FAILED), limit=2, after=page.next, order=JobOrder.UPDATED
        )
        found += [job.id for job in page.jobs]
    assert found == latest_first


@pytest.mark.parametrize(
    ("state", "after", "message"),
    [
        (JobState.FAILED, "17", "invalid cursor '17'"),
        (JobState.FAILED, f"1-{2**63}", "invalid cursor"),
        (JobState.COMPLETED, None, "completed jobs are listed newest first only"),
    ],
)
async def test_updated_order_rejects(operations: Operations, state: JobState, after: str | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        await operations.list_jobs(JobFilter(state=state), after=after, order=JobOrder.UPDATED)
