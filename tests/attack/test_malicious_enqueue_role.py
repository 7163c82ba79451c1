"""A role that may only enqueue, and the rows and payloads that it chooses."""

import asyncpg

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.attack import ATTACKERS, StartProduction
from support.commands import Command
from support.dashboard import OpenSite
from support.fixtures import StartWorker
from support.functions import RecordingFunction
from support.jobs import Jobs
from support.network import eventually
from support.roles import login_role

#: Times that PostgreSQL can store and Python's datetime cannot, and the most distant ones that it can.
TIMES = ("infinity", "-infinity", "294276-12-31", "4714-11-24 BC", "9999-12-31 23:59:59", "0001-01-01")


async def add_at_every_time(jobs: Jobs) -> None:
    for time in TIMES:
        for queue in ("null", "'q'"):
            add = f"select app_jobs.add_job('parked', queue_name := {queue}, run_at := '{time}')"
            await jobs.connection.execute(add)


async def test_extreme_times_do_not_stop_a_service(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    async def has_run(task: str, times: int) -> bool:
        return sum(request.path == f"/{task}" for request in function.received) == times

    await add_at_every_time(jobs)
    await start_worker(poll_interval_seconds=0.05)
    await eventually(lambda: has_run("parked", 6))  # those of the past
    await jobs.add("honest")
    await eventually(lambda: has_run("honest", 1))
    remaining = await jobs.connection.fetchval("select count(*) from app_jobs.jobs where run_at > now()")
    assert remaining == 6


async def test_jobs_at_extreme_times_are_shown(jobs: Jobs, database: str, invoke: Command, open_site: OpenSite) -> None:
    await add_at_every_time(jobs)
    listed = await invoke("jobfn", "jobs", "list", DATABASE_URL=database)
    assert (listed.output.count("due never"), listed.output.count("due long ago")) == (4, 6), listed.output
    for command in ("jobs list --json", "jobs stats", "jobs show 1", "jobs show 3", "doctor"):
        result = await invoke("jobfn", *command.split(), DATABASE_URL=database)
        assert "Traceback" not in result.output
        assert "rejected" not in result.output
    site = await open_site()
    for path in ("/", "/jobs", "/jobs?state=delayed", "/jobs/1", "/jobs/3"):
        assert (await site.get(path)).status_code == 200, path
    assert (await site.get("/jobs")).text.count(">never<") == 4


async def test_names_and_errors_do_not_steer_the_terminal(jobs: Jobs, database: str, invoke: Command) -> None:
    hostile = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\rc"
    job = await jobs.add(hostile, queue_name=hostile)
    await jobs.claim()
    await jobs.fail(job, hostile + "\nsecond line")
    for command in ("jobs list", f"jobs show {job}", "jobs stats", "jobs watch --once", f"jobs retry {job}", "doctor"):
        result = await invoke("jobfn", *command.split(), DATABASE_URL=database)
        assert not set(result.output) & set("\x1b\x07\x9b\u202e\r"), command
    listed = await invoke("jobfn", "jobs", "list", DATABASE_URL=database)
    assert r"a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\rc" in listed.output


#: Statements of a role that may only enqueue: many tasks, priorities, queues and keys, and large payloads.
FLOOD = (
    """
    select app_jobs.add_job(
        md5(random()::text), json_build_object('text', repeat('x', 50000)), queue_name := 'evil-' || n,
        priority := n - 500, max_attempts := 1
    ) from generate_series(1, 20) n
    """,
    "select app_jobs.add_job('parked', '{}'::json, 'key-' || n, run_at := 'infinity') from generate_series(1, 50) n",
    "select app_jobs.add_job('late', priority := n, run_at := now() + '1 h'::interval) from generate_series(1, 50) n",
    "select pg_notify('jobs:insert', n::text) from generate_series(1, 100) n",
)


async def test_honest_jobs_run_while_a_role_floods_the_table(
    start_production: StartProduction, jobs: Jobs, database: str
) -> None:
    production = await start_production()
    async with login_role(jobs.connection, database) as role:
        await migrate(jobs.connection, "app_jobs", grants=Grants(enqueue=(role.name,)))
        async with asyncpg.create_pool(role.dsn, min_size=ATTACKERS, max_size=ATTACKERS) as pool:

            async def attack() -> None:
                for statement in FLOOD:
                    await pool.execute(statement)

            await production.withstands(attack)


async def test_large_payloads_do_not_fill_the_memory_of_a_worker(
    jobs: Jobs, function: RecordingFunction, start_worker: StartWorker
) -> None:
    add_large = "select app_jobs.add_job('large', to_json(repeat('x', 1000000))) from generate_series(1, 12)"
    await jobs.connection.execute(add_large)
    gate = function.hold()
    await start_worker(concurrency=100, max_in_flight_bytes=2_500_000)

    async def has_received(number: int) -> bool:
        return len(function.received) == number

    await eventually(lambda: has_received(3))
    locked = "select count(*) from app_jobs.jobs where locked_at is not null"
    assert await jobs.connection.fetchval(locked) == 3
    await jobs.until_claimed(await jobs.add("honest"))
    assert await jobs.connection.fetchval(locked) == 4
    gate.set()
    await jobs.until_gone()  # the end of a large job wakes the worker
    assert sorted(request.path for request in function.received) == ["/honest"] + 12 * ["/large"]
