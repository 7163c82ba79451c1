"""Failures, retries and misuse of durable calls."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from integration.durable.conftest import StartTasks
from jobfn import Backoff, JobContext, PermanentError, task
from jobfn.errors import ChildFailed, DurableError, PermanentStepFailure, StepFailed, WaitTimeout
from jobfn.function.retry_policy import RetryPolicy
from support.jobs import Jobs


async def test_caught_failure_of_a_step_is_final_when_the_handler_goes_on(jobs: Jobs, start_tasks: StartTasks) -> None:
    calls: list[str] = []

    async def charge() -> None:
        calls.append("charge")
        raise LookupError("no such card")

    async def refund() -> None:
        calls.append("refund")

    @task("fulfil")
    async def fulfil(payload: None, ctx: JobContext) -> None:
        try:
            await ctx.step("charge", charge)
        except StepFailed as error:
            calls.append(f"{error.error_type}: {error.reason}")
            await ctx.step("refund", refund)
        await ctx.sleep(0)
        await ctx.sleep(0.01)

    await start_tasks(fulfil)
    await jobs.until_gone(await jobs.add("fulfil"))
    assert calls == ["charge", "LookupError: no such card", "refund", "LookupError: no such card"]


async def test_step_with_its_own_retries_fails_permanently_after_them(jobs: Jobs, start_tasks: StartTasks) -> None:
    calls: list[int] = []

    async def flaky() -> None:
        calls.append(len(calls))
        raise OSError("connection reset")

    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        await ctx.step("flaky", flaky, retry=RetryPolicy(max_attempts=3, backoff=Backoff(seconds=0, jitter=0)))

    await start_tasks(handler)
    row = await jobs.until_failed(await jobs.add("t"))
    assert (calls, row["exhausted"]) == ([0, 1, 2], True)
    assert row["last_error"] == "step 'flaky' failed: connection reset"


async def test_permanent_error_in_a_step_ends_the_job(jobs: Jobs, start_tasks: StartTasks) -> None:
    def refuse() -> None:
        raise PermanentError("no such invoice")

    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        with pytest.raises(PermanentStepFailure, match="no such invoice"):
            await ctx.step("refuse", refuse)
        raise PermanentError("given up")

    await start_tasks(handler)
    row = await jobs.until_failed(await jobs.add("t"))
    assert (row["exhausted"], row["last_error"]) == (True, "given up")


async def test_failure_of_a_child_is_raised_in_its_parent(jobs: Jobs, start_tasks: StartTasks) -> None:
    outcomes: asyncio.Queue[Any] = asyncio.Queue()

    @task("child")
    async def child(number: int) -> int:
        if number == 1:
            raise PermanentError("odd")
        return number

    @task("parent")
    async def parent(payload: None, ctx: JobContext) -> None:
        results = await ctx.gather(*(ctx.call(child, number) for number in range(3)), return_exceptions=True)
        outcomes.put_nowait([str(each) if isinstance(each, ChildFailed) else each for each in results])
        await ctx.call("child", 1)

    await start_tasks(parent, child)
    row = await jobs.until_failed(await jobs.add("parent"))
    async with asyncio.timeout(10):
        assert await outcomes.get() == [0, "child failed: odd", 2]
    while not row["exhausted"]:
        await asyncio.sleep(0.02)
        row = await jobs.row(row["id"])
    assert row["last_error"] == "child failed: odd"


async def test_wait_times_out_once(jobs: Jobs, start_tasks: StartTasks, capsys: pytest.CaptureFixture[str]) -> None:
    timeouts: list[str] = []

    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        try:
            await ctx.wait_for("approved", timeout=0.01)
        except WaitTimeout as error:
            timeouts.append(str(error))
        await ctx.sleep(0.01)

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t"))
    assert timeouts == ["no signal 'approved' came in time"] * 2
    assert capsys.readouterr().out.count("job parked") == 2


async def test_signals_before_the_wait_are_kept_in_order(jobs: Jobs, start_tasks: StartTasks) -> None:
    received: list[Any] = []

    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        received.append(await ctx.wait_for("number", payload_type=int))
        received.append(await ctx.wait_for("number", payload_type=int))

    job_id = await jobs.add("t")
    for number in (1, 2, 3):
        assert await jobs.connection.fetchval("select app_jobs.signal($1::bigint, 'number', $2)", job_id, str(number))
    await start_tasks(handler)
    await jobs.until_gone(job_id)
    assert received == [1, 2]
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_signals") == 0
    assert not await jobs.connection.fetchval("select app_jobs.signal($1::bigint, 'number')", job_id)


@pytest.mark.parametrize("start_tasks", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda ctx: ctx.step("a#b", int), "must not contain '#'"),
        (lambda ctx: ctx.step("", int), "must be a text of 1 to"),
        (lambda ctx: ctx.step("x" * 200, int), "must be a text of 1 to"),
        (lambda ctx: ctx.step("a", 7), "is not a function"),
        (lambda ctx: ctx.step("a", object), "cannot be stored as JSON"),
        (lambda ctx: ctx.step("a", lambda: float("nan")), "cannot be stored as JSON"),
        (lambda ctx: ctx.step("a", lambda: "x" * 2_000_000), "is larger than 1048576 bytes"),
        (lambda ctx: ctx.step("a", lambda: asyncio.run(ctx.sleep(1))), "was called in the step 'a'"),
        (lambda ctx: ctx.sleep_until(datetime(2030, 1, 1)), "has no time zone"),  # noqa: DTZ001  - that is the test
        (lambda ctx: ctx.call("x" * 127), "is not a task"),
        (lambda ctx: ctx.call("child", object()), "is not JSON-serializable"),
    ],
)
async def test_misuse_fails_the_job_with_a_clear_error(
    jobs: Jobs, start_tasks: StartTasks, misuse: Any, message: str
) -> None:
    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        await misuse(ctx)

    await start_tasks(handler)
    row = await jobs.until_failed(await jobs.add("t"))
    assert row["exhausted"]
    assert message in row["last_error"]


async def test_name_that_means_another_thing_is_refused(jobs: Jobs, start_tasks: StartTasks) -> None:
    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        if ctx.attempt == 1 and ctx.snoozes == 0:
            await ctx.step("pause", int)
            await ctx.sleep(0.01)
        await ctx.sleep(60, name="pause")

    await start_tasks(handler)
    job_id = await jobs.add("t")
    row = await jobs.until_failed(job_id, attempts=2)
    assert "'pause' was recorded as a step, and is a sleep now" in row["last_error"]


async def test_sync_handler_makes_durable_calls(jobs: Jobs, start_tasks: StartTasks) -> None:
    calls: list[str] = []

    def charge(order: int) -> datetime:
        calls.append(f"charge {order}")
        return datetime(2030, 1, 31, tzinfo=UTC)

    @task("t")
    def handler(order: int, ctx: JobContext) -> None:
        at = ctx.run(ctx.step("charge", charge, order))
        try:
            ctx.run(ctx.sleep(0.01))
        except Exception as error:  # noqa: BLE001  - must not see the end of the delivery
            calls.append(repr(error))
        calls.append(at.isoformat())

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t", 7))
    assert calls == ["charge 7", "2030-01-31T00:00:00+00:00"]


async def test_concurrent_steps_and_waits_park_only_when_all_steps_have_ended(
    jobs: Jobs, start_tasks: StartTasks
) -> None:
    calls: list[str] = []

    async def slow(name: str) -> str:
        await asyncio.sleep(0.05)
        calls.append(name)
        return name

    @task("t")
    async def handler(payload: None, ctx: JobContext) -> None:
        results = await asyncio.gather(
            ctx.step("slow", slow, "a"),
            ctx.sleep(0.01),
            ctx.step("slow", slow, "b"),
            ctx.wait_for("go", timeout=0.02),
            return_exceptions=True,
        )
        calls.append(str([type(each).__name__ for each in results]))

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t"))
    assert calls == ["a", "b", "['str', 'NoneType', 'str', 'WaitTimeout']"]


async def test_version_keeps_the_old_path_of_runs_that_had_gone_beyond(jobs: Jobs, start_tasks: StartTasks) -> None:
    versions: list[tuple[int, bool]] = []
    deliveries = 0

    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        nonlocal deliveries
        deliveries += 1
        if number == 2 or deliveries > 1:  # the code of job 1 was changed after its first delivery
            versions.append((number, await ctx.version("new-tax")))
        await ctx.step("tax", int)
        await ctx.sleep(0.01)

    await start_tasks(handler)
    await jobs.until_gone(await jobs.add("t", 1))
    await jobs.until_gone(await jobs.add("t", 2))
    assert versions == [(1, False), (2, True), (2, True)]


async def test_parked_job_keeps_its_record_when_another_job_takes_its_key(jobs: Jobs, start_tasks: StartTasks) -> None:
    ended: asyncio.Queue[int] = asyncio.Queue()

    @task("t")
    async def handler(number: int, ctx: JobContext) -> None:
        await ctx.step("once", int)
        await ctx.wait_for("go")
        ended.put_nowait(number)

    await start_tasks(handler)
    first = await jobs.add("t", 1, job_key="k")
    await jobs.until_parked(first)
    second = await jobs.add("t", 2, job_key="k")
    assert second != first
    await jobs.until_parked(second)
    assert await jobs.values(first, "key") == (None,)
    assert await jobs.connection.fetchval("select app_jobs.signal($1::text, 'go')", str(first))
    await jobs.until_gone(first)
    assert await jobs.connection.fetchval("select app_jobs.signal('k', 'go')")
    await jobs.until_gone(second)
    assert [ended.get_nowait(), ended.get_nowait()] == [1, 2]


def test_context_built_by_hand_runs_steps_inline() -> None:
    @task("t")
    async def handler(order: int, ctx: JobContext) -> list[int]:
        await ctx.sleep(3600)
        return [await ctx.step("double", lambda: order * 2), await ctx.step("double", lambda: order * 3)]

    assert asyncio.run(handler(7, JobContext("t"))) == [14, 21]
    with pytest.raises(DurableError, match="drain_jobs"):
        asyncio.run(JobContext("t").wait_for("approved"))
