"""Sessions that change one durable job, or a parent and its children, at the same time."""

import asyncio
import queue
import random
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import httpx
import pytest

from integration.durable.conftest import StartTasks
from jobfn import JobContext, task
from jobfn.database.step_store import HeldJob, StepStore
from jobfn.wire.steps import StepRecord
from jobfn.worker.steps import StepRecorder
from support.durable import park, parked, record, start, step, wait
from support.fixtures import ConnectTo, StartWorker
from support.jobs import WORKER, Jobs
from support.network import eventually
from support.secrets import schema_tokens

SIGNAL = "select app_jobs.signal($1::bigint, 'go', '7')"
PARK = "select id from app_jobs.park_jobs(array[$1], array[$2::bigint], array[$3::int], array['[1]'::json])"
SETTLE = "select id from app_jobs.settle_jobs_with_results($1, $2, $3, $4, $5, $6, $7, $8, $9)"
SETTLE_ONE = """
    select from app_jobs.settle_jobs(
        array['worker-under-test'], array[$1::bigint], array[null::int], array['completed'], array[null],
        array[null::interval]
    )
"""
REMOVE = "select from app_jobs.complete_jobs(array[$1::bigint])"
DEADLOCKS = "select deadlocks from pg_stat_database where datname = current_database()"
#: Rounds in which batches of two sessions end children of the same parents.
BATCH_ROUNDS = 200


async def load(jobs: Jobs, job_id: int, *, worker: str = WORKER, attempt: int | None = None) -> list[StepRecord] | None:
    """Return what has been recorded of a job; None if the worker does not hold it in this attempt."""
    connection: Any = jobs.connection  # has the method of a pool that the store calls
    held = HeldJob(worker, job_id, (await jobs.row(job_id))["attempts"] if attempt is None else attempt)
    page = (await StepStore(connection, "app_jobs").load([(held, 0)])).get(job_id)
    return None if page is None else list(page.records)


async def waits_for_lock(jobs: Jobs, connection: asyncpg.Connection) -> None:
    """Wait until a session waits for a lock."""
    waiting = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    await eventually(lambda: jobs.connection.fetchval(waiting, connection.get_server_pid()))


async def settle(connection: asyncpg.Connection, outcomes: Sequence[tuple[int, str]]) -> None:
    """End jobs of ``WORKER`` in one batch, as a callback server does. Completed ones have the result 1."""
    ids = [job_id for job_id, _ in outcomes]
    nothing = [None for _ in ids]
    errors = [None if outcome == "completed" else "boom" for _, outcome in outcomes]
    results = ["1" if outcome == "completed" else None for _, outcome in outcomes]
    workers = [WORKER for _ in ids]
    await connection.execute(
        SETTLE, workers, ids, nothing, [outcome for _, outcome in outcomes], errors, nothing, results, nothing, nothing
    )


async def children_of(jobs: Jobs, job_id: int) -> list[int]:
    """Return the children of a job in the order of their calls."""
    rows = await jobs.connection.fetch("select child_id from app_jobs.job_steps where job_id = $1 order by 1", job_id)
    return [row["child_id"] for row in rows]


async def parent_of(jobs: Jobs, count: int, task: str = "parent") -> tuple[int, list[int]]:
    """Add a job that is parked for children as one group, and claim the children. Return their ids."""
    calls = [wait(number, f"call:child#{number}", "call", 1, task="child") for number in range(1, count + 1)]
    parent = await parked(jobs, task, *calls)
    children = await children_of(jobs, parent)
    for _ in children:
        assert await jobs.claim_id(tasks=["child"]) in children
    return parent, children


# Signals


async def signal_before_record(jobs: Jobs, other: asyncpg.Connection, job_id: int) -> None:
    assert await other.fetchval(SIGNAL, job_id)
    await record(jobs, job_id, wait(1, "wait:go", "wait", event="go"))
    await park(jobs, job_id, [1])  # of a handler that has not seen the response


async def signal_between_record_and_park(jobs: Jobs, other: asyncpg.Connection, job_id: int) -> None:
    await record(jobs, job_id, wait(1, "wait:go", "wait", event="go"))
    assert await other.fetchval(SIGNAL, job_id)
    await park(jobs, job_id, [1])


async def signal_while_park_commits(jobs: Jobs, other: asyncpg.Connection, job_id: int) -> None:
    await record(jobs, job_id, wait(1, "wait:go", "wait", event="go"))
    async with jobs.connection.transaction():
        await park(jobs, job_id, [1])
        sending = asyncio.ensure_future(other.fetchval(SIGNAL, job_id))
        await waits_for_lock(jobs, other)
    assert await sending


async def park_while_signal_commits(jobs: Jobs, other: asyncpg.Connection, job_id: int) -> None:
    await record(jobs, job_id, wait(1, "wait:go", "wait", event="go"))
    attempt = (await jobs.row(job_id))["attempts"]
    async with jobs.connection.transaction():
        assert await jobs.connection.fetchval(SIGNAL, job_id)
        parking = asyncio.ensure_future(other.fetchval(PARK, WORKER, job_id, attempt))
        await waits_for_lock(jobs, other)
    assert await parking == job_id


async def record_while_signal_commits(jobs: Jobs, other: asyncpg.Connection, job_id: int) -> None:
    async with other.transaction():
        assert await other.fetchval(SIGNAL, job_id)
        recording = asyncio.ensure_future(record(jobs, job_id, wait(1, "wait:go", "wait", event="go")))
        await asyncio.sleep(0)
    await recording
    await park(jobs, job_id, [1])


async def signal_after_park(jobs: Jobs, other: asyncpg.Connection, job_id: int) -> None:
    await record(jobs, job_id, wait(1, "wait:go", "wait", event="go"))
    await park(jobs, job_id, [1])
    assert await other.fetchval(SIGNAL, job_id)


@pytest.mark.parametrize(
    "scenario",
    [
        signal_before_record,
        signal_between_record_and_park,
        signal_while_park_commits,
        park_while_signal_commits,
        record_while_signal_commits,
        signal_after_park,
    ],
)
async def test_signal_at_any_moment_of_parking_wakes_the_job_once(
    jobs: Jobs, database: str, connect_to: ConnectTo, scenario: Callable[..., Awaitable[None]]
) -> None:
    other = await connect_to(database)
    job_id = await start(jobs, "t")
    await scenario(jobs, other, job_id)
    assert await jobs.claim_id() == job_id  # woken
    assert await load(jobs, job_id) == [StepRecord(1, "wait:go", "wait", "completed", 1, "7")]
    await record(jobs, job_id, wait(2, "wait:go#2", "wait", event="go"))  # not taken a second time
    await park(jobs, job_id, [2])
    assert await jobs.claim_id() is None
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_signals") == 0


async def test_signal_at_the_deadline_is_taken_or_kept_but_not_both(
    jobs: Jobs, database: str, connect_to: ConnectTo
) -> None:
    other = await connect_to(database)
    states: list[tuple[str, int]] = []
    for number in range(30):
        job_id = await parked(jobs, "t", wait(1, "wait:go", "wait", event="go", seconds=0.002))
        await asyncio.sleep(0.0002 * (number % 20))
        sending = asyncio.ensure_future(other.fetchval(SIGNAL, job_id))
        assert await eventually(jobs.claim_id) == job_id
        [waited] = await load(jobs, job_id) or []
        assert await sending
        kept = await jobs.connection.fetchval("select count(*) from app_jobs.job_signals where job_id = $1", job_id)
        assert waited.state != "waiting"
        states.append((waited.state, kept))
        assert await jobs.complete(job_id) == job_id
    assert set(states) <= {("completed", 0), ("timed_out", 1)}


async def test_signal_after_the_deadline_is_kept_for_the_next_wait(jobs: Jobs) -> None:
    job_id = await parked(jobs, "t", wait(1, "wait:go", "wait", event="go", seconds=0))
    assert await jobs.connection.fetchval(SIGNAL, job_id)
    assert await jobs.claim_id() == job_id
    assert [each.state for each in await load(jobs, job_id) or []] == ["timed_out"]
    await record(jobs, job_id, wait(2, "wait:go#2", "wait", event="go"))
    assert [each.result for each in await load(jobs, job_id) or []] == [None, "7"]


# Children


@pytest.mark.parametrize("outcome", ["completed", "permanently_failed"])
async def test_last_two_children_of_two_transactions_wake_the_parent_once(
    jobs: Jobs, database: str, connect_to: ConnectTo, outcome: str
) -> None:
    one, two = await connect_to(database), await connect_to(database)
    parent, (first, second) = await parent_of(jobs, 2)
    async with one.transaction():
        await settle(one, [(first, "completed")])
        ending = asyncio.ensure_future(settle(two, [(second, outcome)]))
        await waits_for_lock(jobs, two)
        assert await jobs.claim_id(tasks=["parent"]) is None
    await ending
    assert await jobs.claim_id(tasks=["parent"]) == parent
    assert await jobs.claim_id(tasks=["parent"]) is None
    assert [each.state for each in await load(jobs, parent) or []] == [
        "completed",
        "completed" if outcome == "completed" else "failed",
    ]


async def test_last_child_that_ends_while_the_parent_parks_wakes_it(
    jobs: Jobs, database: str, connect_to: ConnectTo
) -> None:
    other = await connect_to(database)
    parent = await start(jobs, "parent", wait(1, "call:child", "call", 1, task="child"))
    child = await jobs.claim_id(tasks=["child"])
    assert child is not None
    async with jobs.connection.transaction():
        await park(jobs, parent, [1])
        ending = asyncio.ensure_future(settle(other, [(child, "completed")]))
        await waits_for_lock(jobs, other)
    await ending
    assert await jobs.claim_id(tasks=["parent"]) == parent
    assert [each.result for each in await load(jobs, parent) or []] == ["1"]


async def test_batches_with_children_of_the_same_parents_do_not_deadlock(
    jobs: Jobs, database: str, connect_to: ConnectTo
) -> None:
    sessions = [await connect_to(database) for _ in range(2)]
    before = await jobs.connection.fetchval(DEADLOCKS)
    rand = random.Random(19)  # noqa: S311  - repeatable, not secret
    for number in range(BATCH_ROUNDS):
        families = [await parent_of(jobs, 2) for _ in range(2)]
        batches: list[list[tuple[int, str]]] = [[], []]
        for _, children in families:
            for batch, child in zip(batches, rand.sample(children, 2), strict=True):
                batch.append((child, rand.choice(["completed", "permanently_failed"]) if number % 2 else "completed"))
        for batch in batches:
            rand.shuffle(batch)
        await asyncio.gather(*(settle(session, batch) for session, batch in zip(sessions, batches, strict=True)))
        for parent in sorted(parent for parent, _ in families):
            assert await jobs.claim_id(tasks=["parent"]) is not None, f"parent {parent} was not woken"
        await jobs.connection.execute("delete from app_jobs.jobs")
    await jobs.connection.execute("select pg_stat_clear_snapshot()")
    assert await jobs.connection.fetchval(DEADLOCKS) == before


async def test_mixed_batch_locks_all_parents_in_the_order_of_ids(
    jobs: Jobs, database: str, connect_to: ConnectTo
) -> None:
    one, two = await connect_to(database), await connect_to(database)
    first, _ = await parent_of(jobs, 1, "first")
    later, _ = await parent_of(jobs, 1, "later")
    # The child with the lower id belongs to the later parent.
    await jobs.connection.execute("update app_jobs.job_steps set child_id = -child_id")
    ids = sorted([row["id"] for row in await jobs.connection.fetch("select id from app_jobs.jobs where is_awaited")])
    for parent, child in zip([later, first], ids, strict=True):
        await jobs.connection.execute("update app_jobs.job_steps set child_id = $2 where job_id = $1", parent, child)
    async with one.transaction():
        await one.execute("select from app_jobs.jobs where id = $1 for no key update", first)
        ending = asyncio.ensure_future(settle(two, [(ids[0], "completed"), (ids[1], "permanently_failed")]))
        await waits_for_lock(jobs, two)
        # The batch waits for the first parent, so it must not have the later one.
        await one.execute("select from app_jobs.jobs where id = $1 for no key update nowait", later)
    await ending


async def test_removal_of_a_parent_while_its_child_ends(jobs: Jobs, database: str, connect_to: ConnectTo) -> None:
    await _change_parent_while_child_ends(jobs, await connect_to(database), REMOVE)
    assert await jobs.count() == 0
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_steps") == 0


async def test_retry_from_a_step_while_a_child_ends(jobs: Jobs, database: str, connect_to: ConnectTo) -> None:
    parent = await _change_parent_while_child_ends(
        jobs, await connect_to(database), "select app_jobs.retry_job_from_step($1::bigint, 1)"
    )
    assert await jobs.claim_id(tasks=["parent"]) == parent
    assert await load(jobs, parent) == []


async def test_cancel_with_children_while_a_child_ends(jobs: Jobs, database: str, connect_to: ConnectTo) -> None:
    parent = await _change_parent_while_child_ends(
        jobs, await connect_to(database), "select from app_jobs.cancel_jobs(array[$1::bigint], 'stop', false)"
    )
    assert await jobs.values(parent, "exhausted", "last_error") == (True, "stop")
    [other] = await jobs.connection.fetch("select exhausted, last_error from app_jobs.jobs where id <> $1", parent)
    assert tuple(other) == (True, "the job that called it was cancelled")


async def _change_parent_while_child_ends(jobs: Jobs, other: asyncpg.Connection, statement: str) -> int:
    """Change a parent of two children when the transaction that ends one of them waits for it. Return its id."""
    calls = [wait(number, f"call:child#{number}", "call", 1, task="child") for number in (1, 2)]
    parent = await parked(jobs, "parent", *calls)
    child = await jobs.claim_id(tasks=["child"])
    assert child is not None
    async with other.transaction():
        await other.execute("set local deadlock_timeout = '20s'")
        await other.execute("set local statement_timeout = '5s'")  # a deadlock would take longer
        await other.execute("select from app_jobs.jobs where id = $1 for update", parent)
        ending = asyncio.ensure_future(settle(jobs.connection, [(child, "completed")]))
        waiting = "select exists (select from pg_locks where not granted)"
        await eventually(lambda: other.fetchval(waiting))
        await other.execute(statement, parent)
    await ending
    if "cancel" not in statement:
        await jobs.connection.execute("delete from app_jobs.jobs where task_identifier = 'child'")
    return parent


async def test_removal_of_a_child_fails_its_call(jobs: Jobs) -> None:
    for statement in (
        REMOVE,
        "delete from app_jobs.jobs where id = $1",
    ):
        parent = await parked(jobs, "parent", wait(1, "call:child", "call", 1, task="child"))
        [child] = await children_of(jobs, parent)
        await jobs.connection.execute(statement, child)
        assert await jobs.claim_id(tasks=["parent"]) == parent
        [call] = await load(jobs, parent) or []
        assert (call.state, call.error) == ("failed", "it was removed")
        await jobs.connection.execute("delete from app_jobs.jobs")


# Fencing


@pytest.mark.parametrize("end", ["release_jobs", "released", "snoozed", "parked", "failed", "retried", "from step"])
async def test_no_two_deliveries_have_the_same_number(jobs: Jobs, end: str) -> None:
    job_id = await start(jobs, "t", step(1, "one"))
    numbers: list[int] = []
    for position in range(2, 5):
        attempt = (await jobs.row(job_id))["attempts"]
        numbers.append(attempt)
        await _end_delivery(jobs, job_id, end, position)
        await jobs.update("run_at = now()")
        assert await jobs.claim_id() == job_id
        assert await load(jobs, job_id, attempt=attempt) is None
    assert sorted(set(numbers)) == numbers


async def _end_delivery(jobs: Jobs, job_id: int, end: str, position: int) -> None:
    if end == "release_jobs":
        await jobs.release()
    elif end == "snoozed":
        await jobs.connection.execute(
            "select from app_jobs.snooze_jobs(array[$1], array[$2::bigint], array[null::int], array['later'], "
            "array['0 s'::interval], array['1 hour'::interval])",
            WORKER,
            job_id,
        )
    elif end == "parked":
        await record(jobs, job_id, wait(position, f"wait:go#{position}", "wait", event="go"))
        await park(jobs, job_id, [position])
        assert await jobs.connection.fetchval(SIGNAL, job_id)
    elif end == "retried":
        await settle(jobs.connection, [(job_id, "permanently_failed")])
        assert await jobs.connection.fetchval("select app_jobs.retry_jobs(array[$1::bigint])", job_id) == job_id
    elif end == "from step":
        await settle(jobs.connection, [(job_id, "permanently_failed")])
        assert await jobs.connection.fetchval("select app_jobs.retry_job_from_step($1, 1)", job_id)
        assert await jobs.connection.fetchval("select count(*) from app_jobs.job_steps") == 0
        await jobs.update("has_steps = true")
    else:
        await settle(jobs.connection, [(job_id, end)])


async def test_deliveries_of_a_job_that_record_at_the_same_moment_are_fenced(jobs: Jobs) -> None:
    connection: Any = jobs.connection
    recorder = StepRecorder(StepStore(connection, "app_jobs"), lease_seconds=60)
    job_id = await start(jobs, "t", step(1, "one"))
    older = HeldJob(WORKER, job_id, 1)
    await settle(jobs.connection, [(job_id, "failed")])
    await jobs.update("run_at = now()")
    assert await jobs.claim_id() == job_id
    newer = HeldJob(WORKER, job_id, 2)
    pages = await asyncio.gather(
        recorder.record(older, [step(2, "two", "1")]),
        recorder.record(newer, [step(2, "two", "2")]),
        recorder.record(older, [step(3, "three", "1")]),
    )
    assert [page is None for page in pages] == [True, False, True]
    loads = await asyncio.gather(recorder.load(newer, 1), recorder.load(older, 1))
    assert [page and [each.result for each in page.records] for page in loads] == [["2"], None]


async def test_step_that_is_recorded_already_keeps_its_result(jobs: Jobs) -> None:
    connection: Any = jobs.connection
    recorder = StepRecorder(StepStore(connection, "app_jobs"), lease_seconds=60)
    job_id = await start(jobs, "t", step(1, "one", "1"))
    page = await recorder.record(HeldJob(WORKER, job_id, 1), [step(1, "one", "2"), step(2, "two", "3")])
    assert page is not None
    assert [each.result for each in page.records] == ["1", "3"]


# Ends


@pytest.mark.parametrize(
    "statement",
    [
        "select from app_jobs.complete_job('worker-under-test', $1)",
        SETTLE_ONE,
        "delete from app_jobs.jobs where id = $1",
        REMOVE,
    ],
    ids=["complete_job", "settle_jobs", "delete", "complete_jobs"],
)
async def test_end_of_a_job_deletes_its_steps_and_signals(jobs: Jobs, statement: str) -> None:
    kept = await parked(jobs, "kept", step(1, "one"), wait(2, "wait:go", "wait", event="go"))
    job_id = await start(jobs, "t", step(1, "one"), wait(2, "sleep", "sleep", seconds=60))
    assert await jobs.connection.fetchval("select app_jobs.signal($1::bigint, 'other')", job_id)
    await jobs.connection.execute(statement, job_id)
    if statement == REMOVE:
        await jobs.release()
        await jobs.connection.execute(statement, job_id)
    assert not await jobs.exists(job_id)
    left = "select job_id from app_jobs.job_steps union select job_id from app_jobs.job_signals"
    assert [row["job_id"] for row in await jobs.connection.fetch(left)] == [kept]


@pytest.mark.parametrize("kind", ["async", "sync"])
async def test_handler_of_an_older_delivery_is_cancelled(jobs: Jobs, start_tasks: StartTasks, kind: str) -> None:
    entered, proceed = threading.Event(), threading.Event()
    ends: queue.Queue[str] = queue.Queue()

    async def enter() -> None:
        entered.set()
        await asyncio.to_thread(proceed.wait, 60)

    @task("t")
    async def async_handler(payload: None, ctx: JobContext) -> None:
        try:
            await ctx.step("first", enter)
            ends.put("went on")
        except asyncio.CancelledError:
            ends.put("cancelled")
            raise

    @task("t")
    def sync_handler(payload: None, ctx: JobContext) -> None:
        try:
            ctx.run(ctx.step("first", enter))
            ends.put("went on")
        except BaseException as error:
            ends.put(type(error).__name__)
            raise

    await start_tasks(async_handler if kind == "async" else sync_handler)
    job_id = await jobs.add("t")
    await asyncio.to_thread(entered.wait, 60)
    await jobs.update("attempts = attempts + 1, locked_by = 'another', lease_expires_at = now() + interval '1 hour'")
    proceed.set()
    assert await asyncio.to_thread(ends.get, timeout=60) == ("cancelled" if kind == "async" else "RunParked")
    assert await load(jobs, job_id, worker="another", attempt=2) == []
    assert await jobs.values(job_id, "attempts", "locked_by", "last_error") == (2, "another", None)


@pytest.mark.parametrize(
    ("segment", "headers", "body"),
    [
        ("steps", {}, {"load": 0}),
        ("steps", {}, {"records": [{"position": 1, "name": "a", "kind": "step", "result": 1}]}),
        ("heartbeat", {}, {}),
        ("callback", {"X-Job-Outcome": "parked"}, {"status": "parked", "waitingFor": [1]}),
        ("callback", {}, {}),
    ],
    ids=["load", "record", "heartbeat", "park", "report"],
)
async def test_request_of_an_older_delivery_is_a_conflict(
    jobs: Jobs, start_worker: StartWorker, segment: str, headers: dict[str, str], body: dict[str, object]
) -> None:
    service = await start_worker(callback_secrets=None, support_any=False, supported=["other"])
    tokens = await schema_tokens(jobs.connection)
    job_id = await start(jobs, "t", wait(1, "wait:go", "wait", event="go"))
    await park(jobs, job_id, [1])
    assert await jobs.connection.fetchval(SIGNAL, job_id)
    assert await jobs.claim_id(tasks=["t"]) == job_id
    url = service.callback_url.replace("/callback", f"/{segment}")
    statuses: list[int] = []
    async with httpx.AsyncClient() as client:
        for attempt in (1, 2):
            identity = {"X-Worker-Id": WORKER, "X-Job-Id": str(job_id), "X-Job-Attempt": str(attempt)}
            token = tokens.sign(WORKER, [(job_id, attempt)])
            response = await client.post(url, params={"token": token}, json=body, headers=identity | headers)
            statuses.append(response.status_code)
    assert statuses == [409, 200]
