"""``jobfn jobs`` on many jobs: dry run, filters, Ctrl-C, and completed jobs that run again."""

import functools
import json
import signal
from collections.abc import Awaitable, Callable

import pytest

from jobfn.operations.actions import BATCH_SIZE
from support.commands import Command, CommandResult, Spawn
from support.fixtures import ConnectTo
from support.jobs import Jobs
from support.network import eventually

Jobfn = Callable[..., Awaitable[CommandResult]]
ADD_FAILED = """
    insert into app_jobs.jobs (task_identifier, attempts, max_attempts, last_error, updated_at)
    select 'x', 1, 1, 'timeout', now() - interval '2 hours' from generate_series(1, $1)
"""


@pytest.fixture
def jobfn(invoke: Command, database: str) -> Jobfn:
    """Run jobfn on ``database`` to its end."""
    return functools.partial(invoke, "jobfn", DATABASE_URL=database)


async def test_dry_run_counts_and_changes_nothing(jobfn: Jobfn, jobs: Jobs) -> None:
    await jobs.connection.execute(ADD_FAILED, 1200)
    ready = await jobs.add("x")
    by_filter = await jobfn("jobs", "retry", "--task", "x", "--error", "timeout", "--failed-before", "1h", "--dry-run")
    assert (by_filter.code, by_filter.output) == (0, "would retry 1,200 jobs")
    by_ids = await jobfn("jobs", "remove", "1", str(ready), "--dry-run", "--json")
    result = json.loads(by_ids.output)
    assert (result["dry_run"], result["done"], result["ids"]) == (True, 2, [1, ready])
    skipped = await jobfn("jobs", "retry", str(ready), "--dry-run")
    assert (skipped.code, skipped.output.splitlines()[0]) == (4, "would retry 0 jobs")
    assert await jobs.count() == 1201
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where exhausted") == 1200
    none = await jobfn("jobs", "retry", "--failed-after", "1h", "--dry-run")
    assert none.output == "would retry 0 jobs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--payload", "n"), "--payload has no field and value: write --payload FIELD=VALUE"),
        (("--failed-before", "soon"), "--failed-before 'soon' is not an age"),
    ],
)
async def test_invalid_filter_is_a_usage_error(jobfn: Jobfn, arguments: tuple[str, str], message: str) -> None:
    result = await jobfn("jobs", "retry", *arguments)
    assert (result.code, message in result.output) == (2, True)


@pytest.mark.parametrize("command", ["retry", "list"])
async def test_misspelt_task_is_named_with_the_nearest_one(jobfn: Jobfn, jobs: Jobs, command: str) -> None:
    await jobs.add("send_email")
    near = await jobfn("jobs", command, "--task", "send_emial")
    line = "no recent job has the task 'send_emial': did you mean 'send_email'?"
    assert (near.code, line in near.output.splitlines()) == (0, True)
    far = await jobfn("jobs", command, "--task", "resize")
    assert "no recent job has the task 'resize'" in far.output.splitlines()
    known = await jobfn("jobs", command, "--task", "send_email")
    assert "no recent job" not in known.output


async def test_step_cannot_be_retried_as_a_dry_run(jobfn: Jobfn) -> None:
    result = await jobfn("jobs", "retry", "1", "--from-step", "a", "--dry-run")
    assert (result.code, "--from-step cannot be combined with --dry-run" in result.output) == (2, True)


async def test_ctrl_c_stops_after_a_transaction_and_says_how_many_were_done(
    spawn: Spawn, database: str, jobs: Jobs, connect_to: ConnectTo
) -> None:
    await jobs.connection.execute(ADD_FAILED, 3 * BATCH_SIZE)
    other = await connect_to(database)
    async with other.transaction():
        await other.execute("select from app_jobs.jobs where id = $1 for update", 3 * BATCH_SIZE - BATCH_SIZE - 1)
        command = await spawn("jobfn", "jobs", "retry", "--task", "x", "--yes", DATABASE_URL=database)
        second_batch_waits = "select exists (select from pg_locks where not granted)"
        await eventually(lambda: jobs.connection.fetchval(second_batch_waits))
        command.send(signal.SIGINT)
    assert await command.wait() == 130
    assert command.lines == [
        f"retried {2 * BATCH_SIZE:,} jobs",
        "stopped by Ctrl-C: run the command again for the others",
    ]
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where exhausted") == BATCH_SIZE


async def test_completed_job_runs_again(jobfn: Jobfn, jobs: Jobs) -> None:
    nothing = await jobfn("jobs", "run-again", "--task", "x", "--dry-run")
    assert nothing.output.splitlines() == [
        "would run again 0 jobs",
        "no recent job has the task 'x'",
        "only jobs that complete while JOBS_COMPLETED_PAYLOAD_DAYS is set are stored, and can run again",
    ]
    await jobs.connection.execute("select app_jobs.set_completed_payload_retention(1)")
    job = await jobs.add("x", {"customer": {"id": 42}})
    await jobs.claim()
    await jobs.complete(job)
    shown = (await jobfn("jobs", "show", str(job))).output
    assert "the job was deleted; this is its history" in shown
    assert '"id": 42' in shown
    again = await jobfn("jobs", "run-again", "--payload", "customer.id=42", "--yes")
    [new] = [row["id"] for row in await jobs.connection.fetch("select id from app_jobs.jobs")]
    assert again.output.splitlines() == ["added again 1 job", f"job {job} runs again as job {new}"]
