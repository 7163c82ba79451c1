"""Durable functions with the fixtures of the pytest plugin."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobfn import ChildFailed, JobContext, PermanentError, StepFailed, Task, WaitTimeout, task
from jobfn.testing import DrainJobs, JobRun, JobsClock, JobsDatabase

NOON = datetime(2040, 1, 31, 12, tzinfo=UTC)


async def add(jobs_db: JobsDatabase, target: Task[..., Any], payload: Any = None, **options: Any) -> int:
    connection = await jobs_db.connect()
    try:
        return int(await target.enqueue(connection, payload, **options))
    finally:
        await connection.close()


def outcomes(runs: list[JobRun]) -> list[tuple[str, str]]:
    return [(run.task, run.outcome) for run in runs]


@pytest.mark.parametrize("frozen_at", [None, NOON])
async def test_drain_skips_sleeps_and_moves_the_clock(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, jobs_clock: JobsClock, frozen_at: datetime | None
) -> None:
    @task("nap")
    async def nap(payload: int, ctx: JobContext) -> str:
        await ctx.sleep(timedelta(days=payload))
        await ctx.sleep(timedelta(hours=1))
        return "awake"

    if frozen_at is not None:
        jobs_clock.freeze(frozen_at)
    started_at = jobs_clock.now()
    await add(jobs_db, nap, 3)
    await add(jobs_db, nap, 1)
    runs = await drain_jobs(nap)
    assert [(run.payload, run.outcome, run.result) for run in runs] == [
        (3, "parked", None),
        (1, "parked", None),
        (1, "parked", None),
        (1, "completed", "awake"),
        (3, "parked", None),
        (3, "completed", "awake"),
    ]
    assert runs[0].waiting_for == ("sleep",)
    assert runs[2].waiting_for == ("sleep#2",)
    assert runs[0].retry_at is not None
    assert abs(runs[0].retry_at - started_at - timedelta(days=3)) < timedelta(minutes=1)
    assert abs(jobs_clock.now() - started_at - timedelta(days=3, hours=1)) < timedelta(minutes=1)


async def test_drain_leaves_sleeps_to_the_clock_if_asked(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, jobs_clock: JobsClock
) -> None:
    @task("nap")
    async def nap(payload: None, ctx: JobContext) -> None:
        await ctx.gather(ctx.sleep(timedelta(hours=1)), ctx.sleep(timedelta(hours=3)))

    await add(jobs_db, nap)
    (first,) = await drain_jobs(nap, skip_sleeps=False)
    assert first.waiting_for == ("sleep", "sleep#2")
    jobs_clock.advance(hours=2)
    (second,) = await drain_jobs(nap, skip_sleeps=False)
    assert second.waiting_for == ("sleep#2",)
    assert await drain_jobs(nap, skip_sleeps=False) == []
    jobs_clock.advance(minutes=59)
    assert await drain_jobs(nap, skip_sleeps=False) == []
    jobs_clock.advance(minutes=2)
    assert outcomes(await drain_jobs(nap, skip_sleeps=False)) == [("nap", "completed")]


async def test_absolute_time_of_a_sleep_is_the_clocks(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, jobs_clock: JobsClock
) -> None:
    @task("nap")
    async def nap(payload: None, ctx: JobContext) -> None:
        await ctx.sleep_until(NOON + timedelta(hours=2))
        await ctx.sleep_until(NOON)

    jobs_clock.freeze(NOON)
    await add(jobs_db, nap)
    runs = await drain_jobs(nap)
    assert [(run.outcome, run.waiting_for) for run in runs] == [("parked", ("sleep",)), ("completed", ())]
    assert abs(jobs_clock.now() - NOON - timedelta(hours=2)) < timedelta(minutes=1)


@task("approve")
async def approve(payload: None, ctx: JobContext) -> str:
    try:
        approval = await ctx.wait_for("approved", timeout=timedelta(days=3))
    except WaitTimeout:
        return "nobody"
    await ctx.sleep(60)
    return str(approval["by"])


async def test_signal_wakes_a_job_that_is_parked(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    job_id = await add(jobs_db, approve, key="order-42")
    (parked,) = await drain_jobs(approve)
    assert (parked.outcome, parked.waiting_for) == ("parked", ("wait:approved",))
    assert await drain_jobs(approve) == []
    assert jobs_db.signal("order-42", "approved", {"by": "ada"})
    runs = await drain_jobs(approve)
    assert [(run.outcome, run.result) for run in runs] == [("parked", None), ("completed", "ada")]
    assert not jobs_db.signal(job_id, "approved")


async def test_signal_before_the_wait_is_kept(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    job_id = await add(jobs_db, approve)
    assert jobs_db.signal(job_id, "approved", {"by": "bob"})
    assert [run.result for run in await drain_jobs(approve)] == [None, "bob"]


@pytest.mark.parametrize(("hours", "result"), [(71, "eve"), (73, "nobody")])
async def test_deadline_is_decided_by_the_clock(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, jobs_clock: JobsClock, hours: int, result: str
) -> None:
    job_id = await add(jobs_db, approve)
    await drain_jobs(approve)
    jobs_clock.advance(hours=hours)
    assert jobs_db.signal(job_id, "approved", {"by": "eve"})
    assert [run.result for run in await drain_jobs(approve)][-1] == result


async def test_drain_skips_deadlines_if_asked(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, jobs_clock: JobsClock
) -> None:
    before = jobs_clock.now()
    await add(jobs_db, approve)
    runs = await drain_jobs(approve, skip_timeouts=True)
    assert [(run.outcome, run.result) for run in runs] == [("parked", None), ("completed", "nobody")]
    assert timedelta(days=3) <= jobs_clock.now() - before < timedelta(days=3, minutes=1)


@task("print_label")
async def print_label(payload: int) -> str:
    if payload == 13:
        raise PermanentError("unlucky")
    return f"label {payload}"


@task("send_receipt")
async def send_receipt(payload: list[str]) -> None: ...


@task("ship")
async def ship(payload: list[int], ctx: JobContext) -> None:
    try:
        labels = await ctx.gather(*(ctx.call(print_label, item) for item in payload))
    except ChildFailed:
        labels = []
    ctx.then(send_receipt, labels)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_children_and_then_run_in_the_same_drain(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, concurrency: int
) -> None:
    await add(jobs_db, ship, [1, 13])
    runs = await drain_jobs(ship, print_label, send_receipt, concurrency=concurrency)
    assert sorted(outcomes(runs)) == [
        ("print_label", "completed"),
        ("print_label", "permanently_failed"),
        ("send_receipt", "completed"),
        ("ship", "completed"),
        ("ship", "parked"),
    ]
    assert runs[0].waiting_for == ("call:print_label", "call:print_label#2")
    assert [step.kind for step in runs[0].steps] == ["call", "call"]
    assert [step.name for run in runs if run.outcome == "completed" for step in run.steps] == ["then"]
    assert runs[-1].payload == []


async def test_steps_of_each_delivery_are_in_its_run(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    def fail() -> None:
        raise PermanentError("the bank said no")

    @task("pay")
    async def pay(payload: int, ctx: JobContext) -> None:
        await ctx.step("charge", lambda: {"charge": payload})
        try:
            await ctx.step("confirm", fail)
        except StepFailed:
            await ctx.sleep(1)

    await add(jobs_db, pay, 7)
    first, second = await drain_jobs(pay)
    assert [(step.name, step.kind, step.state, step.result, step.error) for step in first.steps] == [
        ("charge", "step", "completed", {"charge": 7}, None),
        ("confirm", "step", "failed", None, "the bank said no"),
        ("sleep", "sleep", "waiting", None, None),
    ]
    assert (second.outcome, second.steps) == ("completed", ())


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, ["charge", "mail"]),
        ({"crash_after": "charge"}, ["charge", "mail"]),
        ({"crash_in": "charge"}, ["charge", "charge", "mail"]),
        ({"crash_in": ["charge", "mail"], "crash_after": "mail"}, ["charge", "charge", "mail", "mail"]),
        ({"crash_in": "sleep", "crash_after": "sleep"}, ["charge", "mail"]),
    ],
)
@pytest.mark.parametrize("kind", ["async", "sync", "background"])
async def test_delivery_that_crashes_at_a_step_is_delivered_again(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, kind: str, options: dict[str, Any], calls: list[str]
) -> None:
    called: list[str] = []

    @task("pay", background=kind == "background")
    async def pay(payload: None, ctx: JobContext) -> int:
        await ctx.step("charge", called.append, "charge")
        await ctx.sleep(60)
        await ctx.step("mail", called.append, "mail")
        return len(called)

    @task("pay")
    def pay_in_thread(payload: None, ctx: JobContext) -> int:
        ctx.run(ctx.step("charge", called.append, "charge"))
        ctx.run(ctx.sleep(60))
        ctx.run(ctx.step("mail", called.append, "mail"))
        return len(called)

    target = pay_in_thread if kind == "sync" else pay
    await add(jobs_db, target)
    runs = await drain_jobs(target, **options)
    crashes = sum(len([names] if isinstance(names, str) else names) for names in options.values())
    assert called == calls
    assert sorted(run.outcome for run in runs) == ["completed", *["lost"] * crashes, "parked"]
    assert runs[-1].outcome == "completed"
    assert [run.attempt for run in runs] == list(range(1, len(runs) + 1))
    assert {run.error for run in runs if run.outcome == "lost"} <= {"the test's crash at a step"}


async def test_crash_in_the_last_attempt_fails_the_job(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    @task("pay")
    async def pay(payload: None, ctx: JobContext) -> None:
        await ctx.step("charge", lambda: 1)

    await add(jobs_db, pay, max_attempts=1)
    (run,) = await drain_jobs(pay, crash_after="charge")
    assert (run.outcome, [step.name for step in run.steps]) == ("lost", ["charge"])
    assert await drain_jobs(pay) == []
    assert jobs_db.fetch("select exhausted, locked_at from app_jobs.jobs") == [{"exhausted": True, "locked_at": None}]


@pytest.mark.parametrize("concurrency", [1, 4])
async def test_crash_at_every_step_keeps_what_was_recorded(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs, concurrency: int
) -> None:
    charges: list[int] = []

    @task("pay")
    async def pay(payload: list[int], ctx: JobContext) -> list[str]:
        await ctx.step("charge", charges.append, payload[0])
        await ctx.sleep(60)
        labels = await ctx.gather(*(ctx.call(print_label, item) for item in payload))
        ctx.then(send_receipt, labels)
        return list(labels)

    await add(jobs_db, pay, [1, 2])
    names = ["charge", "sleep", "call:print_label", "then"]
    runs = await drain_jobs(pay, print_label, send_receipt, concurrency=concurrency, crash_in=names, crash_after=names)
    done = [run for run in runs if run.outcome == "completed"]
    assert sorted(run.task for run in done) == ["pay", "print_label", "print_label", "send_receipt"]
    assert [run.result for run in done if run.task == "pay"] == [["label 1", "label 2"]]
    assert [run.outcome for run in runs].count("lost") == 8
    assert charges == [1, 1]
    assert jobs_db.fetch("select id from app_jobs.jobs") == []


async def test_last_attempt_that_fails_is_permanently_failed(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    @task("pay")
    async def pay(payload: None, ctx: JobContext) -> None:
        await ctx.sleep(60)
        await ctx.step("charge", lambda: 1 / 0)

    await add(jobs_db, pay, max_attempts=1)
    runs = await drain_jobs(pay)
    assert [(run.outcome, run.error) for run in runs] == [
        ("parked", None),
        ("permanently_failed", "step 'charge' failed: division by zero"),
    ]


async def test_job_of_a_queue_that_crashes_is_delivered_before_the_next_one(
    jobs_db: JobsDatabase, drain_jobs: DrainJobs
) -> None:
    @task("pay")
    async def pay(payload: int, ctx: JobContext) -> None:
        await ctx.step("charge", lambda: payload)

    await add(jobs_db, pay, 1, queue="bank")
    await add(jobs_db, pay, 2, queue="bank")
    runs = await drain_jobs(pay, crash_in="charge")
    assert [(run.payload, run.outcome) for run in runs] == [(1, "lost"), (1, "completed"), (2, "completed")]


async def test_crash_at_a_step_that_is_not_recorded_is_an_error(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    await add(jobs_db, approve)
    with pytest.raises(AssertionError, match="no delivery recorded the step 'charge'") as raised:
        await drain_jobs(approve, crash_in="charge")
    assert "recorded: wait:approved" in str(raised.value)


async def test_endless_sleeps_end_at_the_maximum(jobs_db: JobsDatabase, drain_jobs: DrainJobs) -> None:
    @task("forever")
    async def forever(payload: None, ctx: JobContext) -> None:
        while True:
            await ctx.sleep(3600)

    await add(jobs_db, forever)
    with pytest.raises(AssertionError, match="max_jobs=5 was reached"):
        await drain_jobs(forever, max_jobs=5)


async def test_one_delivery_reports_what_it_waits_for(jobfn_app: Any) -> None:
    result = await jobfn_app(approve).deliver(approve)
    assert (result.ok, result.is_parked, result.error) == (False, True, None)
    assert result.waiting_for == ("wait:approved",)
    assert result.report == {"status": "parked", "waitingFor": [1]}
    assert result.status_code == 200


async def test_one_delivery_records_its_steps(jobfn_app: Any) -> None:
    @task("pay")
    async def pay(payload: int, ctx: JobContext) -> str:
        charge = await ctx.step("charge", lambda: {"id": payload})
        if payload:
            await ctx.gather(ctx.call(print_label, 1), ctx.call(print_label, 2))
        await ctx.sleep(0)
        ctx.then(print_label, 7)
        return f"charge {charge['id']}"

    app = jobfn_app(pay)
    parked = await app.deliver(pay, 7)
    assert parked.waiting_for == ("call:print_label", "call:print_label#2")
    assert [(step.name, step.state, step.result) for step in parked.steps] == [
        ("charge", "completed", {"id": 7}),
        ("call:print_label", "waiting", None),
        ("call:print_label#2", "waiting", None),
    ]
    done = await app.deliver(pay, 0)
    assert (done.ok, done.is_parked, done.waiting_for, done.result) == (True, False, (), "charge 0")
    assert [step.name for step in done.steps] == ["charge", "sleep", "then"]
    assert (await app.deliver(pay, 0, attempt=2)).ok
