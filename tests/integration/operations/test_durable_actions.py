"""Signals, retries from a step and cancelled children, from the command line and from Python."""

import json

import pytest

from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.operations import Action, Operations
from jobfn.operations.durable_actions import StepRetry
from support.commands import Command
from support.durable import call, park, parked, record, start, step, wait
from support.jobs import Jobs

APPROVED = wait(2, "wait:approved", "wait", event="approved")


async def test_signal_command_wakes_a_job(command: Command, jobs: Jobs, database: str) -> None:
    job = await parked(jobs, "fulfil", step(1, "charge"), APPROVED)
    arguments = ("jobfn", "jobs", "signal", str(job), "approved", "--payload", '{"by": "ada"}')
    sent = await command(*arguments, DATABASE_URL=database)
    assert (sent.code, sent.output) == (0, f"sent 'approved' to job {job}")
    assert await jobs.claim_id() == job
    result = await jobs.connection.fetchval("select result from app_jobs.job_steps where position = 2")
    assert json.loads(result) == {"by": "ada"}


async def test_signal_command_takes_a_key(command: Command, jobs: Jobs, database: str) -> None:
    job = await parked(jobs, "fulfil", step(1, "charge"), APPROVED, job_key="order-42")
    sent = await command("jobfn", "jobs", "signal", "--key", "order-42", "approved", DATABASE_URL=database)
    assert (sent.code, sent.output) == (0, "sent 'approved' to the job with the key 'order-42'")
    assert await jobs.claim_id() == job


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (("7", "approved"), 1, "job 7 does not exist or has ended: no signal was sent"),
        (("--key", "no", "approved"), 1, "the job with the key 'no' does not exist or has ended: no signal was sent"),
        (("order-42", "approved"), 2, "'order-42' is not a job id: write --key order-42 if it is a key"),
        (("7",), 2, "a job and an event are required: jobfn jobs signal 42 approved"),
        (("--key", "no", "7", "approved"), 2, "a job id and --key cannot be combined: use one of them"),
        (("7", "approved", "--payload", "{x"), 2, "the payload is not valid JSON"),
        (("7", "x" * 201), 1, "the signal was not sent: signal: event must have 1 to 200 characters"),
    ],
)
async def test_signal_command_rejects(
    arguments: tuple[str, ...], code: int, problem: str, command: Command, database: str
) -> None:
    result = await command("jobfn", "jobs", "signal", *arguments, DATABASE_URL=database)
    assert result.code == code
    assert problem in result.output
    assert "Traceback" not in result.output


async def test_retry_from_step_forgets_it_and_later_ones(command: Command, jobs: Jobs, database: str) -> None:
    job = await parked(jobs, "fulfil", step(1, "charge"), step(2, "mail"), call(3, "label"))
    arguments = ("jobfn", "jobs", "retry", str(job), "--from-step", "mail")
    asked = await command(*arguments, DATABASE_URL=database)
    question = f"forget step 'mail' and 1 later one with 1 child job of job {job}, and run it now?"
    assert asked.code == 2
    assert question in asked.output
    assert await jobs.connection.fetchval("select count(*) from app_jobs.job_steps") == 3
    done = await command(*arguments, "--yes", DATABASE_URL=database)
    text = f"job {job} forgot step 'mail' and 1 later one with 1 child job, and runs now"
    assert (done.code, done.output) == (0, text)
    assert await jobs.connection.fetchval("select array_agg(name) from app_jobs.job_steps") == ["charge"]
    assert await jobs.claim_id() == job


async def test_retry_from_step_rejects_what_cannot_be_retried(operations: Operations, jobs: Jobs) -> None:
    with pytest.raises(DatabaseError, match=r"^job 7 does not exist, or was completed or removed"):
        await operations.plan_retry(7, "charge")
    job = await start(jobs, "fulfil", step(1, "charge"))
    with pytest.raises(DatabaseError, match=f"^job {job} is running: wait until it ends, or cancel it first"):
        await operations.plan_retry(job, "charge")
    with pytest.raises(DatabaseError, match=f"^job {job} has just been started, or has ended: nothing changed"):
        await operations.retry_from_step(StepRetry(job, 1, "charge", 1, 0))
    await jobs.fail(job)
    with pytest.raises(ConfigurationError, match=f"^job {job} has no step 'mail': see `jobfn jobs show {job}`"):
        await operations.plan_retry(job, "mail")
    assert await operations.plan_retry(job, 1) == StepRetry(job, 1, "charge", 1, 0)


@pytest.mark.parametrize(
    "arguments", [("cancel", "1", "--from-step", "a"), ("retry", "1", "2", "--from-step", "a", "--yes")]
)
async def test_from_step_is_for_the_retry_of_one_job(
    arguments: tuple[str, ...], command: Command, database: str
) -> None:
    result = await command("jobfn", "jobs", *arguments, DATABASE_URL=database)
    assert result.code == 2
    assert "--from-step is for one job: jobfn jobs retry ID --from-step NAME" in result.output


async def test_cancel_counts_the_cancelled_children(
    command: Command, operations: Operations, jobs: Jobs, database: str
) -> None:
    parent = await start(jobs, "fulfil", call(1, "label", 1), call(2, "label", 1), call(3, "slow", 1))
    await park(jobs, parent, [1])
    running = await jobs.claim_id(tasks=["slow"])
    assert running is not None
    child = await jobs.claim_id(tasks=["label"])
    assert child is not None
    await record(jobs, child, call(1, "ink"))
    await park(jobs, child, [1])
    cancelled = await command("jobfn", "jobs", "cancel", str(parent), DATABASE_URL=database)
    assert (cancelled.code, cancelled.output) == (0, "cancelled 1 job, and 3 waiting child jobs")
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where exhausted") == 4
    assert (await jobs.row(running))["locked_at"] is not None
    alone = await operations.apply(Action.CANCEL, [await jobs.add("x")])
    assert (alone.done, alone.children) == (1, 0)


async def test_platform_schema_has_no_durable_functions(
    platform_operations: Operations, command: Command, empty_database: str
) -> None:
    reason = "^schema app_jobs is the platform's own and has no durable functions"
    with pytest.raises(ConfigurationError, match=reason):
        await platform_operations.send_signal(1, "approved")
    with pytest.raises(ConfigurationError, match=reason):
        await platform_operations.plan_retry(1, "charge")
    for arguments, code in (
        (("signal", "1", "approved"), 1),
        (("wake", "1"), 2),
        (("retry", "1", "--from-step", "a"), 2),
    ):
        result = await command("jobfn", "jobs", *arguments, DATABASE_URL=empty_database)
        assert result.code == code, result.output
        assert "has no durable functions" in result.output
        assert "Traceback" not in result.output
