"""Bounds of durable functions."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import httpx
import pytest

from integration.durable.conftest import StartTasks
from jobfn import DurableError, JobContext, task
from jobfn.database.step_store import HeldJob, StepStore
from jobfn.function.durable.clients import InlineSteps
from jobfn.function.durable.instrumentation import RunObserver
from jobfn.function.durable.run import DurableRun
from jobfn.wire.steps import MAX_STEPS_BODY_BYTES, StepPage, StepRecord, decode_request
from jobfn.worker.steps import StepRecorder
from support.fixtures import StartWorker
from support.jobs import WORKER, Jobs


class WaitingSteps(InlineSteps):
    """Records steps that never end."""

    async def record(self, records: Sequence[StepRecord]) -> Sequence[StepRecord]:
        return [record._replace(group=record.position) for record in records]


class CountingStore(StepStore):
    """Holds no job, and counts the requests of each statement."""

    def __init__(self) -> None:
        self.statements: list[int] = []

    async def load(self, jobs: Sequence[tuple[HeldJob, int]]) -> dict[int, StepPage]:
        self.statements.append(len(jobs))
        return {}


def inline_run(client: InlineSteps) -> DurableRun:
    return DurableRun(client, RunObserver(None, {}), has_records=False, handler=None, threads=None)


async def test_steps_of_a_job_are_limited() -> None:
    run = inline_run(InlineSteps())
    await run.record([StepRecord(0, f"step {number}", "step") for number in range(10_000)])
    with pytest.raises(DurableError, match="a job may have 10000 steps at most"):
        await run.record([StepRecord(0, "one more", "step")])
    with pytest.raises(DurableError, match="a job may have 10000 steps at most"):
        await run.reserve_position()  # of a transaction


async def test_things_that_a_job_waits_for_are_limited() -> None:
    context = JobContext("t")
    context._durable = inline_run(WaitingSteps())  # noqa: SLF001  - without a worker
    waits = [asyncio.ensure_future(context.wait_for("go")) for _ in range(1001)]
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    for wait in pending:
        wait.cancel()
    [failed] = done
    assert "a job may wait for 1000 things at once" in str(failed.exception())


async def test_requests_in_a_statement_are_limited() -> None:
    store = CountingStore()
    recorder = StepRecorder(store, lease_seconds=30)
    await asyncio.gather(*(recorder.load(HeldJob(WORKER, number, 1), 0) for number in range(600)))
    assert store.statements == [500, 100]


async def test_signals_that_a_job_has_not_read_are_limited(jobs: Jobs) -> None:
    job_id = await jobs.add("t")
    send = "select app_jobs.signal($1::bigint, 'go') from generate_series(1, $2)"
    await jobs.connection.execute(send, job_id, 1000)
    with pytest.raises(asyncpg.ProgramLimitExceededError, match=r"has 1,000 signals that it has not read"):
        await jobs.connection.execute(send, job_id, 1)
    for event, payload in (("", "{}"), ("x" * 201, "{}"), ("go", f'"{"x" * 1024**2}"')):
        with pytest.raises(asyncpg.CheckViolationError):
            await jobs.connection.execute("select app_jobs.signal($1::bigint, $2, $3)", job_id, event, payload)


async def test_depth_of_calls_is_limited(jobs: Jobs, start_tasks: StartTasks) -> None:
    depths: list[int] = []

    @task("deeper")
    async def deeper(depth: int, ctx: JobContext) -> None:
        depths.append(depth)
        await ctx.call("deeper", depth + 1)

    await start_tasks(deeper)
    row = await jobs.until_failed(await jobs.add("deeper", 0), seconds=60)
    while not row["exhausted"]:
        await asyncio.sleep(0.05)
        row = await jobs.row(row["id"])
    assert max(depths) == 20
    assert "20 jobs above this one wait for it already" in row["last_error"]


async def test_request_with_steps_is_limited(jobs: Jobs, start_worker: StartWorker) -> None:
    service = await start_worker(callback_secrets=None)
    async with httpx.AsyncClient() as client:
        url = service.callback_url.replace("/callback", "/steps")
        response = await client.post(url, content=b" " * (MAX_STEPS_BODY_BYTES + 1))
    assert (response.status_code, response.json()["error"]) == (
        400,
        f"a report must have at most {MAX_STEPS_BODY_BYTES} bytes: shorten the error message",
    )


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[]", "the body must be a JSON object"),
        (b"{", "the body is not valid JSON"),
        (b"{}", "the body must have records or load"),
        (b'{"records": []}', "records must have one at least"),
        (b'{"load": -1}', "load must be from 0 to 10000"),
        (b'{"records": [1]}', "a record must be an object"),
        (b'{"records": [{"position": 0}]}', "position must be from 1 to 10000"),
        (b'{"records": [{"position": 1, "name": ""}]}', "name must have 1 to 200 characters"),
        (b'{"records": [{"position": 1, "name": "a", "kind": "x"}]}', "kind must be one of"),
        (b'{"records": [{"position": 1, "name": "a", "kind": "step", "group": 0}]}', "group must be from 1 to 10000"),
        (b'{"records": [{"position": 1, "name": "a", "kind": "step", "error": 1}]}', "error must be a text"),
        (b'{"records": [{"position": 1, "name": "a", "kind": "sleep", "seconds": "x"}]}', "seconds must be a number"),
        (b'{"records": [{"position": 1, "name": "a", "kind": "wait", "event": 1}]}', "event, until, task and queue"),
        (b'{"records": [{"position": 1, "name": "a", "kind": "call", "priority": "x"}]}', "priority and maxAttempts"),
    ],
)
def test_malformed_steps_are_refused(body: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        decode_request(body)


def test_result_of_a_step_in_a_request_is_limited() -> None:
    record: dict[str, Any] = {"position": 1, "name": "a", "kind": "step"}
    with pytest.raises(ValueError, match="result must have at most 1048576 bytes"):
        StepRecord.from_json(record | {"result": "x" * 1024**2})


async def test_recorded_step_renews_the_lock_of_the_queue(pool: "asyncpg.Pool[Any]", jobs: Jobs) -> None:
    job_id = await jobs.add("pay", queue_name="bank")
    await jobs.claim()
    near_its_end = "set lease_expires_at = now() + interval '10 seconds'"
    await jobs.connection.execute(f"update app_jobs.jobs {near_its_end}")
    await jobs.connection.execute(f"update app_jobs.queue_locks {near_its_end}")
    held = HeldJob(WORKER, job_id, 1)
    recorded = await StepStore(pool, "app_jobs").record([(held, StepRecord(1, "charge", "step"))], lease_seconds=600)
    assert recorded[job_id][1].name == "charge"
    leases = """
        select j.lease_expires_at > now() + interval '5 minutes' as job,
            l.lease_expires_at > now() + interval '5 minutes' as queue
        from app_jobs.jobs j join app_jobs.queue_locks l on l.job_id = j.id
    """
    assert dict(await jobs.connection.fetchrow(leases) or {}) == {"job": True, "queue": True}
