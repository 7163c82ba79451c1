"""Why a job waits: each reason agrees with what the claims of workers do."""

import random
import re
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from jobfn.operations import Operations
from support.durable import parked, wait
from support.jobs import TENANT, WORKER, Jobs, settle_jobs

OTHER = "worker-2"
#: Reasons that do not keep a claim from taking the job.
CLAIMABLE = {"ready", "jobs_ahead", "tenant_turn", "workers_busy"}


async def register(
    jobs: Jobs,
    worker: str = WORKER,
    tasks: Sequence[str] | None = None,
    queues: Sequence[str] | None = None,
    *,
    in_flight: int = 0,
    max_in_flight_bytes: int = 32_000_000,
) -> None:
    """Send a worker's heartbeat."""
    call = "select app_jobs.heartbeat_worker($1, 'host', 1, '1', '{worker}', 16, $2, '1 h', $3, $4, $5)"
    await jobs.connection.execute(call, worker, in_flight, tasks, queues, max_in_flight_bytes)


async def explain(jobs: Jobs, job_id: int) -> list[tuple[str, str]]:
    """Return the codes and the texts, with times as ``TIME``."""
    rows = await jobs.connection.fetch("select code, reason from app_jobs.explain_wait($1)", job_id)
    return [(row["code"], re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", "TIME", row["reason"])) for row in rows]


async def codes(jobs: Jobs, job_id: int) -> list[str]:
    return [code for code, _ in await explain(jobs, job_id)]


async def claim(
    jobs: Jobs, limit: int = 100, tasks: Sequence[str] | None = None, max_payload_bytes: int | None = None
) -> list[int]:
    """Claim as a worker does, and release what was claimed. Returns the ids in order."""
    await jobs.connection.execute("begin")
    rows = await jobs.connection.fetch(
        "select id from app_jobs.claim_jobs($1, $2, '4 hours', $3, '1 minute', '{}', $4)",
        WORKER,
        tasks,
        limit,
        max_payload_bytes,
    )
    await jobs.connection.execute("rollback")
    return [row["id"] for row in rows]


async def test_ready_job_is_claimed(jobs: Jobs) -> None:
    await register(jobs)
    job = await jobs.add("mail")
    assert await explain(jobs, job) == [("ready", "ready since TIME: the next claim takes it")]
    assert await claim(jobs) == [job]


async def test_running_job_does_not_wait(jobs: Jobs) -> None:
    job = await jobs.add("mail")
    assert await jobs.claim_id() == job
    assert await explain(jobs, job) == [("running", f"running on {WORKER} since TIME")]
    await jobs.update("lease_expires_at = now() - interval '1 s'")
    await register(jobs)
    assert await explain(jobs, job) == [
        ("ready", f"ready: the lease of {WORKER} has ended, and the next claim takes it over")
    ]
    assert await claim(jobs) == [job]


async def test_ended_job_has_no_reason(jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.claim()
    await jobs.complete(job)
    assert await explain(jobs, job) == []


async def test_attempts_used_up(jobs: Jobs) -> None:
    await register(jobs)
    failed, lost = await jobs.add("mail", max_attempts=1), await jobs.add("mail", max_attempts=1)
    await jobs.claim()
    await jobs.claim(OTHER)
    await jobs.fail(failed)
    await jobs.connection.execute(
        "update app_jobs.jobs set lease_expires_at = now() - interval '1 s' where id = $1", lost
    )
    assert await explain(jobs, failed) == [
        ("attempts_used_up", "attempts used up: it has permanently failed, until it is retried")
    ]
    assert await explain(jobs, lost) == [
        (
            "attempts_used_up",
            f"attempts used up: {OTHER} died in the last one, and a worker will mark it as permanently failed",
        )
    ]
    assert await claim(jobs) == []


async def test_cancelled_and_expired_jobs(jobs: Jobs) -> None:
    await register(jobs)
    cancelled, late = await jobs.add("mail"), await jobs.add("mail")
    await jobs.connection.execute(
        "select app_jobs.cancel_jobs(array[$1]::bigint[], 'no longer needed', false)", cancelled
    )
    await jobs.connection.execute("update app_jobs.jobs set expires_at = now() - interval '1 s' where id = $1", late)
    assert await explain(jobs, cancelled) == [("cancelled", "cancelled, until it is retried")]
    assert await explain(jobs, late) == [("expired", "expired at TIME: the next claim ends it")]
    assert await claim(jobs) == []
    await jobs.claim()
    assert await explain(jobs, late) == [
        ("expired", "expired at TIME: it was not started in time, and runs only if it is retried")
    ]
    await jobs.connection.execute("select app_jobs.retry_jobs(array[$1, $2]::bigint[])", cancelled, late)
    assert await codes(jobs, cancelled) == ["ready"]
    assert await claim(jobs) == [cancelled, late]


async def test_not_due(jobs: Jobs) -> None:
    await register(jobs)
    delayed = await jobs.add("mail")
    await jobs.claim()
    await jobs.fail(delayed)
    later = await jobs.add("mail")
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = $1", later)
    never = await jobs.add("mail")
    await jobs.connection.execute("update app_jobs.jobs set run_at = 'infinity' where id = $1", never)
    assert await explain(jobs, delayed) == [("not_due", "the next attempt is not due until TIME")]
    assert await explain(jobs, later) == [("not_due", "not due until TIME")]
    assert await explain(jobs, never) == [("not_due", "not due: its run_at is infinity")]
    assert await claim(jobs) == []


@pytest.mark.parametrize(
    ("target", "what"),
    [
        ("task => 'mail'", "the task mail"),
        ("queue => 'q'", "the queue q"),
        (f"tenant => '{TENANT}'", f"the tenant {TENANT}"),
        ("everything => true", "everything"),
    ],
)
async def test_paused(jobs: Jobs, target: str, what: str) -> None:
    await register(jobs)
    add = "select (app_jobs.add_job($1::uuid, 'mail', '{}', queue_name := 'q')).id"
    job = await jobs.connection.fetchval(add, TENANT)
    await jobs.connection.execute(f"select app_jobs.pause({target}, paused_by => 'ada', reason => 'no paper')")
    assert await explain(jobs, job) == [("paused", f"paused: {what} since TIME by ada: no paper")]
    assert await claim(jobs) == []
    await jobs.connection.execute(f"select app_jobs.pause({target}, until => now() + interval '1 h')")
    assert await explain(jobs, job) == [("paused", f"paused: {what} since TIME by postgres until TIME")]
    await jobs.connection.execute(f"select app_jobs.resume({target})")
    assert await codes(jobs, job) == ["ready"]
    assert await claim(jobs) == [job]


async def test_limit_of_running_jobs(jobs: Jobs) -> None:
    await register(jobs)
    first, second = await jobs.add("mail"), await jobs.add("mail")
    await jobs.connection.execute("select app_jobs.set_limit('two', task_identifier => 'mail', concurrency => 2)")
    third, other = await jobs.add("mail"), await jobs.add("print")
    assert await jobs.claim_id() == first
    assert await codes(jobs, second) == ["ready"]
    assert await jobs.claim_id() == second
    reached = [("limit", f"limit two reached: 2 of 2 running, jobs {first}, {second}")]
    assert await explain(jobs, third) == reached
    assert await claim(jobs) == [other]
    await jobs.claim()
    held = await jobs.connection.fetchval("select job_id from app_jobs.held_jobs")
    assert (held, await explain(jobs, third)) == (third, reached)
    await jobs.complete(first)
    assert await claim(jobs) == [third]
    assert await explain(jobs, third) == [
        ("limit", "limit two has room again: the next claim looks at the jobs that it holds")
    ]


async def test_limit_of_starts_and_its_pause(jobs: Jobs) -> None:
    await register(jobs)
    tenant, other = TENANT, TENANT.replace("5", "6")
    await jobs.connection.execute(
        "select app_jobs.set_limit('hourly', per => 'tenant', rate_count => 1, rate_interval => interval '1 hour')"
    )
    add = "select (app_jobs.add_job($1::uuid, 'mail', '{}')).id"
    first, second, third = [await jobs.connection.fetchval(add, each) for each in (tenant, tenant, other)]
    assert {await jobs.claim_id(), await jobs.claim_id()} == {first, third}, "tenants take turns, from a random one"
    assert await jobs.claim_id() is None
    ((code, text),) = await explain(jobs, second)
    assert code == "limit"
    assert text in {
        f"limit hourly of the tenant {tenant} reached: 1 of 1 starts in 01:00:00, the next one at TIME",
        f"limit hourly of the tenant {tenant} reached: 1 of 1 starts in 01:00:00",
    }
    fourth = await jobs.connection.fetchval(add, tenant.replace("5", "7"))
    await jobs.connection.execute(
        "insert into app_jobs.limit_keys values ('hourly', $1, now() + interval '1 h', null)", tenant.replace("5", "7")
    )
    assert await explain(jobs, fourth) == [
        ("limit", f"limit hourly of the tenant {tenant.replace('5', '7')} paused until TIME")
    ]
    assert await claim(jobs) == []


async def test_limit_of_a_payload_field_does_not_show_its_value(jobs: Jobs) -> None:
    await register(jobs)
    await jobs.connection.execute("select app_jobs.set_limit('one', per => 'payload.email', concurrency => 1)")
    first, second = [await jobs.add("mail", {"email": "ada@example.com"}) for _ in range(2)]
    assert await jobs.claim_id() == first
    assert await explain(jobs, second) == [
        ("limit", f"limit one of its payload.email reached: 1 of 1 running, job {first}")
    ]
    assert await claim(jobs) == []


async def test_queue_held_by_a_job_or_a_person(jobs: Jobs) -> None:
    await register(jobs)
    first, second = await jobs.add("mail", queue_name="q"), await jobs.add("mail", queue_name="q")
    assert await explain(jobs, second) == [("queue_order", f"job {first} is ahead of it in the queue q")]
    assert await claim(jobs) == [first]
    assert await jobs.claim_id(OTHER) == first
    assert await explain(jobs, second) == [
        ("queue_locked", f"the queue q is held by job {first}, which runs on {OTHER}")
    ]
    assert await claim(jobs) == []
    await jobs.complete(first, worker=OTHER)
    await jobs.connection.execute(
        "update app_jobs.job_queues set locked_at = now(), locked_by = 'ada@example' where queue_name = 'q'"
    )
    assert await explain(jobs, second) == [("queue_locked", "the queue q is locked by ada@example")]
    assert await claim(jobs) == []
    await jobs.connection.execute("update app_jobs.job_queues set locked_at = null, locked_by = null")
    assert await codes(jobs, second) == ["ready"]
    assert await claim(jobs) == [second]


async def test_job_of_another_task_is_ahead_only_for_workers_that_take_both(jobs: Jobs) -> None:
    await register(jobs, WORKER, ["mail"])
    first, second = await jobs.add("print", queue_name="q"), await jobs.add("mail", queue_name="q")
    assert await codes(jobs, first) == ["no_worker"]
    assert await codes(jobs, second) == ["ready"]
    assert await claim(jobs, tasks=["mail"]) == [second]
    await register(jobs, WORKER, ["mail", "print"])
    assert await codes(jobs, second) == ["queue_order"]
    assert await claim(jobs, tasks=["mail", "print"]) == [first]


async def test_no_worker_takes_the_task(jobs: Jobs) -> None:
    job = await jobs.add("mail", queue_name="q")
    nobody = "no registered worker that is alive takes this task from this queue"
    assert await explain(jobs, job) == [("no_worker", f"{nobody}: there is none")]
    await register(jobs, "worker-1", ["print", "fax"])
    await register(jobs, OTHER, None, ["", "p"])
    takes = "worker-1 takes print, fax; worker-2 takes all tasks of the queues none, p"
    assert await explain(jobs, job) == [("no_worker", f"{nobody}: {takes}")]
    assert await claim(jobs, tasks=["print", "fax"]) == []
    await register(jobs, "worker-3", ["mail"], ["q"])
    assert await codes(jobs, job) == ["ready"]
    assert await claim(jobs, tasks=["mail"]) == [job]
    await jobs.connection.execute("update app_jobs.workers set last_heartbeat_at = now() - interval '4 h'")
    assert await explain(jobs, job) == [("no_worker", f"{nobody}: there is none")]


async def test_older_worker_without_a_list_takes_every_task(jobs: Jobs) -> None:
    job = await jobs.add("mail")
    await jobs.connection.execute(
        "select app_jobs.heartbeat_worker('older-1', 'host', 1, '1', '{worker}', 16, 0, interval '1 h')"
    )
    assert await codes(jobs, job) == ["ready"]
    await jobs.connection.execute("update app_jobs.workers set roles = '{scheduler}'")
    assert await codes(jobs, job) == ["no_worker"]


async def test_dependencies(jobs: Jobs) -> None:
    await register(jobs)
    first, second = await jobs.add("mail"), await jobs.add("mail")
    job = await jobs.connection.fetchval(
        "select (app_jobs.add_job_after('report', depends_on := $1)).id", [first, second]
    )
    assert await explain(jobs, job) == [("dependency", f"depends on the jobs {first}, {second}")]
    assert await claim(jobs) == [first, second]
    await jobs.claim()
    await settle_jobs(jobs.connection, (WORKER, first, 1, None))
    assert await explain(jobs, job) == [("dependency", f"depends on the job {second}")]
    await jobs.claim()
    await settle_jobs(jobs.connection, (WORKER, second, 1, None))
    assert await codes(jobs, job) == ["ready"]
    assert await claim(jobs) == [job]


async def test_long_list_of_dependencies_is_short(jobs: Jobs) -> None:
    await register(jobs)
    ids = [await jobs.add("mail") for _ in range(12)]
    job = await jobs.connection.fetchval("select (app_jobs.add_job_after('report', depends_on := $1)).id", ids)
    listed = ", ".join(map(str, ids[:10]))
    assert await explain(jobs, job) == [("dependency", f"depends on the jobs {listed} and 2 more")]


async def test_parked_jobs_say_what_for(jobs: Jobs) -> None:
    await register(jobs)
    sleeping = await parked(jobs, "sleeper", wait(1, "sleep", "sleep", seconds=3600))
    waiting = await parked(jobs, "waiter", wait(1, "wait:paid", "wait", event="paid"))
    calls = [wait(number, f"call:{number}", "call", 2, task="mail", payload={}) for number in (2, 3)]
    both = await parked(jobs, "caller", wait(1, "wait:ok", "wait", event="ok", seconds=60), *calls)
    children = [both + 1, both + 2]
    assert await explain(jobs, sleeping) == [("parked", "parked until TIME")]
    assert await explain(jobs, waiting) == [("parked", "parked until the signal 'paid'")]
    assert await explain(jobs, both) == [
        ("parked", f"parked until the signal 'ok' or TIME, or jobs {children[0]}, {children[1]} end")
    ]
    assert await claim(jobs) == children
    await jobs.connection.execute("select app_jobs.signal($1::bigint, 'paid', '{}')", waiting)
    assert set(await codes(jobs, waiting)) <= CLAIMABLE
    assert waiting in await claim(jobs)


async def test_large_payload_waits_for_room(jobs: Jobs) -> None:
    await register(jobs, max_in_flight_bytes=100_000)
    large = await jobs.add("mail", "x" * 200_000)
    assert await explain(jobs, large) == [
        (
            "too_large",
            (
                "its payload of 200002 bytes does not fit beside those in flight: JOBS_MAX_IN_FLIGHT_BYTES is 100000, "
                "of which 0 are used; it waits until a claim finds no smaller job"
            ),
        )
    ]
    small = await jobs.add("mail")
    assert await claim(jobs, max_payload_bytes=100_000) == [small]
    await register(jobs, max_in_flight_bytes=1_000_000)
    assert await codes(jobs, large) == ["ready"]
    assert await claim(jobs, max_payload_bytes=1_000_000) == [small, large]


async def test_busy_workers_and_jobs_ahead(jobs: Jobs) -> None:
    await register(jobs, in_flight=16)
    first = await jobs.add("mail")
    urgent = await jobs.add("mail", priority=-1)
    job = await jobs.add("mail")
    assert await explain(jobs, job) == [
        ("workers_busy", "all slots of its workers are taken: 16 of 16 at their last heartbeats"),
        ("jobs_ahead", "2 ready jobs are more urgent"),
    ]
    assert await explain(jobs, first) == [
        ("workers_busy", "all slots of its workers are taken: 16 of 16 at their last heartbeats"),
        ("jobs_ahead", "1 ready job is more urgent"),
    ]
    assert await claim(jobs, 2) == [urgent, first]
    await jobs.connection.execute(
        "select app_jobs.add_jobs('mail', array(select '{}'::json from generate_series(1, 1100)), priority := -2)"
    )
    assert (await explain(jobs, job))[-1] == ("jobs_ahead", "1000 or more ready jobs are more urgent")


async def test_tenants_take_turns(jobs: Jobs) -> None:
    await register(jobs)
    add = "select (app_jobs.add_job($1::uuid, 'mail', '{}')).id"
    flood = [await jobs.connection.fetchval(add, TENANT) for _ in range(20)]
    other = await jobs.connection.fetchval(add, TENANT.replace("5", "6"))
    without = await jobs.add("mail")
    assert await explain(jobs, flood[2]) == [("jobs_ahead", "2 ready jobs are more urgent")]
    assert await explain(jobs, other) == [
        ("tenant_turn", "its tenant takes turns with 1 other, and 0 ready jobs come before it")
    ]
    assert await explain(jobs, without) == [
        ("tenant_turn", "jobs without a tenant take turns with 2 others, and 0 ready jobs come before it")
    ]
    assert set(await claim(jobs, 3)) == {flood[0], other, without}
    urgent = await jobs.add("mail", priority=-1)
    assert await explain(jobs, other) == [
        ("tenant_turn", "its tenant takes turns with 1 other, and 1 ready job comes before it")
    ]
    assert (await claim(jobs, 1)) == [urgent]


async def test_several_reasons_are_listed_in_order(jobs: Jobs) -> None:
    first, job = await jobs.add("mail", queue_name="q"), await jobs.add("print", queue_name="q")
    await register(jobs, WORKER, ["mail"])
    await jobs.claim(tasks=["mail"])
    await jobs.connection.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = $1", job)
    assert await codes(jobs, job) == ["not_due", "no_worker", "queue_locked"]
    assert await codes(jobs, first) == ["running"]


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_reasons_agree_with_claims_of_random_jobs(jobs: Jobs, seed: int) -> None:
    """A job is claimed if and only if no reason blocks it."""
    chance = random.Random(seed)  # noqa: S311  - a test
    await register(jobs, WORKER, ["a", "b"])
    for _ in range(60):
        options = {"queue_name": chance.choice([None, None, "p", "q", "r"]), "priority": chance.choice([0, 0, -1, 5])}
        await jobs.add(chance.choice("abc"), max_attempts=chance.choice([1, 25]), **options)
    for row in await jobs.connection.fetch("select id from app_jobs.jobs"):
        change = chance.choice(
            [
                None,
                None,
                "run_at = now() + interval '1 h'",
                "run_at = now() - interval '1 h'",
                "attempts = max_attempts",
                "locked_at = now(), locked_by = 'other-1', attempts = 1, lease_expires_at = now() + interval '1 h'",
                "locked_at = now(), locked_by = 'other-1', attempts = 1, lease_expires_at = now() - interval '1 s'",
            ]
        )
        if change is not None:
            await jobs.connection.execute(f"update app_jobs.jobs set {change} where id = $1", row["id"])
    await jobs.connection.execute(
        "insert into app_jobs.queue_locks select distinct on (queue_name) queue_name, id, locked_by, locked_at, "
        "lease_expires_at from app_jobs.jobs where locked_at is not null and queue_name is not null "
        "order by queue_name, lease_expires_at desc on conflict do nothing"
    )
    if seed == 3:
        await jobs.connection.execute("select app_jobs.pause(task => 'a'), app_jobs.pause(queue => 'r')")
    ids = [row["id"] for row in await jobs.connection.fetch("select id from app_jobs.jobs order by id")]
    expected = {job_id for job_id in ids if set(await codes(jobs, job_id)) <= CLAIMABLE}
    claimed = await claim(jobs, tasks=["a", "b"])
    assert set(claimed) == expected
    assert 2 < len(claimed) < 40


async def test_operations_return_the_reasons(operations: Operations, jobs: Jobs) -> None:
    first, job = await jobs.add("mail", queue_name="q"), await jobs.add("mail", queue_name="q")
    await register(jobs)
    await jobs.claim()
    (reason,) = await operations.explain_wait(job)
    assert (reason.code, reason.job_ids, reason.since is not None) == ("queue_locked", (first,), True)
    detail = await operations.get_job(job)
    assert detail is not None
    assert detail.wait == reason
    running = await operations.get_job(first)
    assert running is not None
    assert running.wait is None
    assert await operations.explain_wait(99) == ()


async def test_explanation_reads_no_delayed_jobs(jobs: Jobs) -> None:
    await register(jobs)
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, run_at, priority) "
        "select 'mail', now() + interval '1 d', -1 from generate_series(1, 20000)"
    )
    job = await jobs.add("mail")
    read = "select coalesce(sum(idx_tup_fetch + seq_tup_read), 0) from pg_stat_xact_user_tables where relname = 'jobs'"
    async with jobs.connection.transaction():
        before = await jobs.connection.fetchval(read)
        assert await codes(jobs, job) == ["ready"]
        assert await jobs.connection.fetchval(read) - before < 100


async def test_reasons_on_the_platform_s_schema(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[Any]"
) -> None:
    add = "select (app_jobs.add_job($1::uuid, 'mail', queue_name := $2, run_at := now() - interval '1 h')).id"
    first, second, other, late = [await platform_pool.fetchval(add, TENANT, queue) for queue in ("q", "q", "r", "s")]

    async def reasons(job_id: int) -> list[tuple[str, str]]:
        found = await platform_operations.explain_wait(job_id)
        return [(reason.code, re.sub(r"[0-9 :-]{19} UTC", "TIME", reason.text)) for reason in found]

    ready = [("ready", "ready: the next claim takes it, unless more urgent jobs are ready")]
    assert await reasons(other) == ready
    assert await platform_pool.fetchval("select (app_jobs.get_job($1)).id", WORKER) == first
    assert await reasons(first) == [("running", f"running on {WORKER} since TIME")]
    assert await reasons(second) == [("queue_locked", f"the queue q is held by job {first}, which runs on {WORKER}")]
    await platform_pool.execute("update app_jobs.jobs set run_at = now() + interval '1 h' where id = $1", late)
    assert await reasons(late) == [("not_due", "not due until TIME")]
    assert await platform_pool.fetchval("select (app_jobs.get_job($1)).id", OTHER) == other
    assert await platform_pool.fetchval("select (app_jobs.get_job($1)).id", OTHER) is None
    await platform_pool.execute(
        "update app_jobs.jobs set attempts = max_attempts, locked_at = null where id = $1", other
    )
    assert await reasons(other) == [
        ("attempts_used_up", "attempts used up: it has permanently failed, until it is retried")
    ]
    assert await reasons(99) == []
