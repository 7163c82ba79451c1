"""Lists and single jobs: every filter, pages without end, and statements that read no more than they show."""

import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.errors import ConfigurationError, DatabaseError, SchemaError
from jobfn.operations import JobFilter, JobState, Operations, open_operations
from jobfn.operations.queries import conditions
from jobfn.operations.statements import Database, Features
from support.jobs import TENANT, WORKER, Jobs

#: Enough that a scan is told from a look at an index.
MANY = 20_000


@pytest.fixture
async def some(jobs: Jobs) -> dict[str, int]:
    """A job in each state, and some that differ otherwise; ids by name."""
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
    await call("update app_jobs.jobs set run_at = now() + interval '1 day' where id = $1", ids["delayed"])
    ids["tenant"] = await jobs.add("other")
    await call("update app_jobs.jobs set database_id = $1 where id = $2", uuid.UUID(TENANT), ids["tenant"])
    await call("update app_jobs.jobs set created_at = now() - interval '2 hours' where id = $1", ids["ready"])
    return ids


LIVE = {"failed", "running", "retrying", "ready", "delayed", "tenant"}


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (JobFilter(), LIVE),
        (JobFilter(state=JobState.READY), {"ready", "tenant"}),
        (JobFilter(state=JobState.DELAYED), {"delayed", "retrying"}),
        (JobFilter(state=JobState.RUNNING), {"running"}),
        (JobFilter(state=JobState.FAILED), {"failed"}),
        (JobFilter(state=JobState.COMPLETED), {"completed"}),
        (JobFilter(state=JobState.COMPLETED, task="send", worker=WORKER, newer_than_seconds=60), {"completed"}),
        (JobFilter(state=JobState.COMPLETED, task="report"), set()),
        (JobFilter(state=JobState.COMPLETED, error="x"), set()),
        (JobFilter(state=JobState.COMPLETED, search="order-7"), set()),
        (JobFilter(state=JobState.COMPLETED, search="sen"), {"completed"}),
        (JobFilter(state=JobState.COMPLETED, search="end"), set()),
        (JobFilter(state=JobState.COMPLETED, search="9" * 18), set()),
        (JobFilter(task="send"), {"failed", "running", "ready"}),
        (JobFilter(task="send", state=JobState.FAILED), {"failed"}),
        (JobFilter(queue="mail"), {"running"}),
        (JobFilter(error="refused"), {"failed"}),
        (JobFilter(error="100%"), {"retrying"}),
        (JobFilter(error="%"), {"retrying"}),
        (JobFilter(error="_"), set()),
        (JobFilter(search="order-7"), {"ready"}),
        (JobFilter(search="order"), {"ready"}),
        (JobFilter(search="rder-7"), set()),
        (JobFilter(search="Order-7"), set()),
        (JobFilter(search="order_7"), set()),
        (JobFilter(search="sen"), {"failed", "running", "ready"}),
        (JobFilter(search="refused BY"), {"failed"}),
        (JobFilter(search="%"), {"retrying"}),
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
        (JobFilter(task="\ud800"), set()),
    ],
    ids=lambda value: str(sorted(value) if isinstance(value, set) else value),  # sets have no order to name them by
)
async def test_each_filter(operations: Operations, some: dict[str, int], wanted: JobFilter, names: set[str]) -> None:
    """Those that fit, newest first, and no others."""
    page = await operations.list_jobs(wanted)
    assert [job.id for job in page.jobs] == sorted((some[name] for name in names), reverse=True)
    assert page.next is None
    if wanted.state is not JobState.COMPLETED:
        assert await operations.count_matching(wanted) == len(names)


async def test_an_id_is_searched_too(operations: Operations, some: dict[str, int]) -> None:
    """In the table, and in history."""
    wanted = JobFilter(search=str(some["running"]))
    assert [job.id for job in (await operations.list_jobs(wanted)).jobs] == [some["running"]]
    done = JobFilter(search=str(some["completed"]), state=JobState.COMPLETED)
    assert [job.id for job in (await operations.list_jobs(done)).jobs] == [some["completed"]]


async def test_a_row_says_what_the_table_says(operations: Operations, some: dict[str, int]) -> None:
    """Locks of running jobs, errors of failed ones, the end of completed ones; never a payload."""
    by_id = {job.id: job for job in (await operations.list_jobs()).jobs}
    running, failed = by_id[some["running"]], by_id[some["failed"]]
    assert (running.state, running.locked_by, running.queue, running.attempts) == ("running", WORKER, "mail", 1)
    assert running.locked_at is not None
    assert (failed.state, failed.locked_by, failed.last_error) == ("failed", None, "Connection REFUSED by 10.0.0.1")
    (done,) = (await operations.list_jobs(JobFilter(state=JobState.COMPLETED))).jobs
    assert (done.state, done.task, done.attempts, done.locked_by) == ("completed", "send", 1, WORKER)
    assert done.ended_at is not None
    assert not hasattr(running, "payload")


async def test_pages_follow_each_other(operations: Operations, jobs: Jobs) -> None:
    """Every job once, also when jobs come and go between two pages."""
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
        ({"limit": 0}, "ask for 1 to 1000"),
        ({"limit": 1001}, "ask for 1 to 1000"),
        ({"after": "-1"}, "no place to go on from"),
        ({"after": "x"}, "no place to go on from"),
        ({"after": "9" * 30}, "no place to go on from"),
        ({"wanted": JobFilter(search="")}, "a search for nothing"),
        ({"wanted": JobFilter(tenant="7")}, "the tenant '7' is no UUID"),
        ({"wanted": JobFilter(older_than_seconds=-1)}, "give 0 or more"),
        ({"wanted": JobFilter(newer_than_seconds=float("nan"))}, "give 0 or more"),
    ],
)
async def test_what_cannot_be_asked(operations: Operations, arguments: dict[str, Any], message: str) -> None:
    """Says what can."""
    with pytest.raises(ConfigurationError, match=message):
        await operations.list_jobs(**arguments)


async def test_completed_jobs_are_not_counted(operations: Operations) -> None:
    """There is a better place for that number."""
    with pytest.raises(ConfigurationError, match="see the throughput"):
        await operations.count_matching(JobFilter(state=JobState.COMPLETED))


async def test_counting_stops_where_it_is_told_to(operations: Operations, jobs: Jobs) -> None:
    """No further than ``at_most``."""
    for _ in range(5):
        await jobs.add("x")
    assert await operations.count_matching(JobFilter(), at_most=3) == 3


async def test_one_job_with_its_whole_life(operations: Operations, jobs: Jobs) -> None:
    """Payload as stored, each attempt with its error, and the timeline in order up to what comes next."""
    job = await jobs.add("send", {"to": "ada"})
    for error in ("first", "second"):
        await jobs.claim()
        await jobs.connection.execute(
            "select app_jobs.settle_held_jobs($1, $2, $3, '{failed}', $4, $5)",
            [WORKER],
            [job],
            [None],
            [error],
            [timedelta()],
        )
    await jobs.claim()
    await jobs.connection.execute("select app_jobs.note_progress($1, $2, 3, '1 minute', 0.5, 'half')", WORKER, job)
    detail = await operations.show_job(job)
    assert detail is not None
    assert detail.job is not None
    assert (detail.state, detail.payload, detail.job.progress, detail.job.progress_note) == (
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
    assert all(run.seconds is not None and run.queue_seconds is not None for run in detail.runs)


async def test_a_waiting_job_s_timeline_says_when_it_is_due(operations: Operations, some: dict[str, int]) -> None:
    """Ready or delayed: the last event is the time it waits for; a failed one waits for nothing."""
    for name, words in (("delayed", "due"), ("ready", "ready since then")):
        detail = await operations.show_job(some[name])
        assert detail is not None
        assert (detail.timeline[-1].kind, detail.timeline[-1].text) == ("due", words)
    failed = await operations.show_job(some["failed"])
    assert failed is not None
    assert failed.timeline[-1].kind == "ended"


async def test_a_removed_job_is_known_from_history(operations: Operations, jobs: Jobs) -> None:
    """It was not running, so it took no time."""
    job = await jobs.add("x")
    await jobs.connection.execute("select app_jobs.complete_jobs($1)", [job])
    detail = await operations.show_job(job)
    assert detail is not None
    assert (detail.runs[0].seconds, detail.runs[0].queue_seconds) == (None, None)
    assert [event.kind for event in detail.timeline] == ["enqueued", "ended"]


@pytest.mark.parametrize("job", [0, -1, 999, 2**63 - 1, 2**63, 10**40])
async def test_no_such_job(operations: Operations, job: int) -> None:
    """None, whatever number."""
    assert await operations.show_job(job) is None


@pytest.mark.parametrize("by_bytes", [True, False])
async def test_a_search_finds_all_keys_that_begin_so(
    *, by_bytes: bool, operations: Operations, jobs: Jobs, pool: "asyncpg.Pool[Any]"
) -> None:
    """Whatever follows, and whether or not the order of the index can be relied on; and no others."""
    found = {"42", "420", "42-x", "42!", "42é", "42\U0010ffff", "42Z", "42 "}
    for key in (*found, "4", "41", "43", "4-2", " 42", "142", "\ud7ff", "\U0010ffffz"):
        await jobs.add("x42", job_key=key)
    looking = Operations(pool, "app_jobs", replace(operations.features, keys_in_byte_order=by_bytes))
    listed = await looking.list_jobs(JobFilter(search="42"))
    assert {job.key for job in listed.jobs} == found
    for odd in ("42é", "42\U0010ffff", "\ud7ff", "\U0010ffffz"):
        assert [job.key for job in (await looking.list_jobs(JobFilter(search=odd))).jobs] == [odd]


@pytest.mark.parametrize(("collation", "by_bytes"), [("C", True), ("ucs_basic", False)])
async def test_the_order_of_keys_is_looked_up(*, collation: str, by_bytes: bool, pool: "asyncpg.Pool[Any]") -> None:
    """Of what is not known to be the order of bytes, it is not believed."""
    await pool.execute(f'alter table app_jobs.jobs alter key type text collate "{collation}"')
    assert (await open_operations(pool, "app_jobs")).features.keys_in_byte_order is by_bytes


async def plan(operations: Operations, wanted: JobFilter, pool: "asyncpg.Pool[Any]") -> str:
    """How PostgreSQL finds the first page."""
    database = Database(pool, "app_jobs", operations.features)
    async with database.transaction(newest_first=wanted.search is not None) as connection:
        statement = f"explain (analyze, buffers) {database.statement('list_jobs')}"
        return "\n".join(row[0] for row in await connection.fetch(statement, *conditions(database, wanted, None), 51))


@pytest.fixture
async def many(jobs: Jobs) -> None:
    """Thousands of ready jobs, and a few that failed."""
    await jobs.connection.execute(
        f"insert into app_jobs.jobs (task_identifier) select 'x' from generate_series(1, {MANY})"
    )
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, attempts, last_error) select 'x', 25, 'boom' || n"
        " from generate_series(1, 200) n"
    )
    await jobs.connection.execute("analyze app_jobs.jobs")


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (JobFilter(), "jobs_pkey"),
        (JobFilter(task="x", state=JobState.READY), "jobs_pkey"),
        (JobFilter(state=JobState.FAILED), "jobs_exhausted_idx"),
        (JobFilter(error="boom7"), "jobs_error_idx"),
        (JobFilter(search="77"), "jobs_pkey"),
        (JobFilter(search="77"), "jobs_key_unique"),
        (JobFilter(search="boom"), "jobs_pkey"),
        (JobFilter(search="no such text"), "jobs_pkey"),
    ],
    ids=["default", "usual", "failed", "error", "id", "key", "text", "nothing"],
)
@pytest.mark.usefixtures("many")
async def test_the_usual_pages_read_what_they_show(
    operations: Operations, pool: "asyncpg.Pool[Any]", wanted: JobFilter, index: str
) -> None:
    """By an index: the table is never scanned whole, and nothing large is sorted."""
    found = await plan(operations, wanted, pool)
    assert index in found
    assert "Seq Scan" not in found
    if wanted.search != "77":
        assert "Sort" not in found


@pytest.mark.usefixtures("many")
async def test_plans_fit_the_values_also_after_many_calls(operations: Operations) -> None:
    """The statement is the same for every filter; PostgreSQL plans it for each anew, and the answers stay right."""
    for _ in range(8):
        assert len((await operations.list_jobs(JobFilter(error="boom199"))).jobs) == 1
        assert len((await operations.list_jobs()).jobs) == 50


async def test_on_the_platform_s_schema(on_platform: Operations, platform_pool: "asyncpg.Pool[Any]") -> None:
    """Lists, filters and single jobs work without jobfn's columns; completed ones are not known, and it says so."""
    in_order = on_platform.features.keys_in_byte_order  # which is the server's affair
    assert on_platform.features == Features(
        is_platform=True, has_actor_id=False, has_entity_id=False, history_days=None, keys_in_byte_order=in_order
    )
    assert (on_platform.features.history, on_platform.features.workers, on_platform.features.leases) == (False,) * 3
    add = "select (app_jobs.add_job($1, 'x', '{}', run_at := now() + $2::interval)).id"
    tenant = uuid.UUID(TENANT)
    running = await platform_pool.fetchval(add, tenant, timedelta(seconds=-9))
    await platform_pool.execute("select app_jobs.get_job($1)", WORKER)
    ready = await platform_pool.fetchval(add, tenant, timedelta(seconds=-9))
    delayed = await platform_pool.fetchval(add, tenant, timedelta(days=1))
    failed = await platform_pool.fetchval(add, tenant, timedelta(seconds=-9))
    await platform_pool.execute("update app_jobs.jobs set attempts = 25, last_error = 'boom' where id = $1", failed)
    states = {job.id: job.state for job in (await on_platform.list_jobs()).jobs}
    assert states == {running: "running", ready: "ready", delayed: "delayed", failed: "failed"}
    for job, state in states.items():
        assert [found.id for found in (await on_platform.list_jobs(JobFilter(state=state))).jobs] == [job]
    detail = await on_platform.show_job(running)
    assert detail is not None
    assert (detail.runs, detail.payload) == ((), "{}")
    assert await on_platform.show_job(99) is None
    with pytest.raises(ConfigurationError, match="keeps no history: completed jobs are gone"):
        await on_platform.list_jobs(JobFilter(state=JobState.COMPLETED))
    # a lease that this jobfn noted in run_at
    await platform_pool.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = $1", running)
    leased = await on_platform.show_job(running)
    assert leased is not None
    assert leased.job is not None
    assert leased.job.lease_expires_at is not None
    await platform_pool.execute(
        "update app_jobs.jobs set locked_at = now() - interval '1 h', run_at = now() - interval '1 s' where id = $1",
        running,
    )
    assert (await on_platform.counts()).running == 0


async def test_without_a_schema(empty_database: str) -> None:
    """One line that says what to do."""
    async with asyncpg.create_pool(empty_database, min_size=1, max_size=1) as pool:
        with pytest.raises(SchemaError, match="run `jobfn db migrate`"):
            await open_operations(pool, "app_jobs")


async def test_an_older_schema_is_to_be_migrated(pool: "asyncpg.Pool[Any]") -> None:
    """A schema from before there was a history: not half of it is shown."""
    await pool.execute("drop table app_jobs.job_runs")
    with pytest.raises(SchemaError, match="older than this jobfn: run `jobfn db migrate`"):
        await open_operations(pool, "app_jobs")


async def test_a_table_that_goes_while_we_look(operations: Operations, pool: "asyncpg.Pool[Any]") -> None:
    """What the driver says becomes one line with what to do."""
    await pool.execute("drop table app_jobs.job_runs")
    with pytest.raises(SchemaError, match="run `jobfn db migrate`"):
        await operations.show_job(1)


async def test_a_role_without_rights_is_told_who_has_them(database: str, jobs: Jobs) -> None:
    """A role that may not look at jobs, such as a worker's, gets one line that says which may."""
    role = f"jobfn_test_{uuid.uuid4().hex[:12]}"
    await jobs.connection.execute(f"create role {role}; grant usage on schema app_jobs to {role}")
    await jobs.connection.execute(f"grant select on app_jobs.history_settings to {role}")
    try:
        async with asyncpg.create_pool(database, min_size=1, max_size=1, server_settings={"role": role}) as limited:
            operations = await open_operations(limited, "app_jobs")
            with pytest.raises(DatabaseError, match="Connect as the owner of schema app_jobs"):
                await operations.list_jobs()
    finally:
        await jobs.connection.execute(f"drop owned by {role}; drop role {role}")


async def test_a_lost_connection_is_a_readable_error(
    operations: Operations, pool: "asyncpg.Pool[Any]", jobs: Jobs
) -> None:
    """The server ends the session in the middle: one line, and the next call works again."""
    database = Database(pool, "app_jobs", operations.features)

    async def look() -> None:
        async with database.transaction() as connection:
            await jobs.connection.execute("select pg_terminate_backend($1)", connection.get_server_pid())
            await connection.fetch("select 1")

    with pytest.raises(DatabaseError, match="the database went away"):
        await look()
    assert (await operations.list_jobs()).jobs == ()
