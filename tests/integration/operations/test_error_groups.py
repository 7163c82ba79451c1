"""Jobs grouped by error: ``Operations.error_groups``, ``jobfn jobs errors``, and actions on a group."""

import json
from datetime import UTC, datetime

import asyncpg
import pytest

from jobfn.cli.render_errors import group_lines
from jobfn.errors import ConfigurationError
from jobfn.operations import Action, JobFilter, JobState, Operations
from jobfn.operations.error_groups import MAX_GROUPED_JOBS
from support.commands import Command
from support.jobs import Jobs

TIMEOUTS = (
    "no answer from 10.0.0.17:8080 in 2.5 s for order 'A-17'",
    "no answer from 10.0.0.3:80 in 30 s for order 'B'\n  at line 7",
    'no answer from 192.168.0.1:8080 in 1,000 s for order "C"',
)
NORMALIZED = "no answer from <n>:<n> in <n> s for order <value>"


async def fail(connection: asyncpg.Connection, task: str, error: str, *, permanent: bool = True) -> int:
    job: int = await connection.fetchval("select id from app_jobs.add_job($1)", task)
    await connection.execute(
        "update app_jobs.jobs set last_error = $2, attempts = case when $3 then max_attempts else 1 end where id = $1",
        job,
        error,
        permanent,
    )
    return job


@pytest.fixture
async def failed_jobs(jobs: Jobs) -> list[int]:
    ids = [await fail(jobs.connection, "mail", error) for error in TIMEOUTS]
    ids.append(await fail(jobs.connection, "mail", TIMEOUTS[0], permanent=False))
    ids.append(await fail(jobs.connection, "bill", TIMEOUTS[0]))
    ids.append(await fail(jobs.connection, "bill", "KeyError: 'id'"))
    await jobs.add("mail")
    return ids


async def test_errors_of_one_cause_are_a_group_for_each_task(operations: Operations, failed_jobs: list[int]) -> None:
    found = await operations.error_groups()
    assert [(group.task, group.error, group.failed, group.retrying) for group in found.groups] == [
        ("mail", NORMALIZED, 3, 1),
        ("bill", "KeyError: <value>", 1, 0),
        ("bill", NORMALIZED, 1, 0),
    ]
    assert (found.jobs, found.is_partial) == (6, False)
    mail, key_error, bill = found.groups
    assert mail.id == bill.id != key_error.id
    assert mail.first_at < mail.last_at < bill.last_at < key_error.last_at
    failed = await operations.error_groups(JobFilter(task="mail", state=JobState.FAILED), limit=1)
    assert [(group.failed, group.retrying) for group in failed.groups] == [(3, 0)]


@pytest.mark.parametrize(
    ("error", "normalized"),
    [
        ("job 5b720132-17d5-424d-9bcb-ee7b17c13d43 is gone", "job <id> is gone"),
        ("commit 3F786850e387550fdab836ed7e6dc881de23001b", "commit <id>"),
        ("<Order object at 0x7f3c2a> of defaced facade", "<Order object at <id>> of defaced facade"),
        ("can't read user 7's file `a.txt`", "can't read user <n>'s file <value>"),
        ("\n  second line counts", "second line counts"),
        ("x" * 400, "x" * 200),
    ],
)
async def test_ids_numbers_and_quoted_values_are_replaced(
    operations: Operations, jobs: Jobs, error: str, normalized: str
) -> None:
    await fail(jobs.connection, "t", error)
    [group] = (await operations.error_groups()).groups
    assert group.error == normalized
    assert len((await operations.list_jobs(JobFilter(error_group=group.id))).jobs) == 1


async def test_values_of_different_lengths_do_not_split_long_errors(operations: Operations, jobs: Jobs) -> None:
    for value in (1, 10**9):
        await fail(jobs.connection, "t", f"order {value} of '{value}': " + "x" * 5000)
    [group] = (await operations.error_groups()).groups
    assert (group.failed, len(group.error)) == (2, 200)


async def test_actions_apply_to_a_group(operations: Operations, failed_jobs: list[int]) -> None:
    group = (await operations.error_groups()).groups[0]
    of_group = JobFilter(task=group.task, error_group=group.id)
    assert await operations.count_targets(Action.RETRY, of_group, limit=100) == 3
    cancelled = await operations.apply_to_matching(Action.CANCEL, of_group)
    assert cancelled.ids == (failed_jobs[3],)
    retried = await operations.apply_to_matching(Action.RETRY, of_group)
    assert sorted(retried.ids) == failed_jobs[:3]
    removed = await operations.apply_to_matching(Action.REMOVE, JobFilter(task="bill", error_group=group.id))
    assert removed.ids == (failed_jobs[4],)


async def test_older_jobs_are_not_counted(operations: Operations, jobs: Jobs) -> None:
    await fail(jobs.connection, "t", "the oldest")
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, last_error) "
        "select 't', 'error ' || i from generate_series(1, $1) i",
        MAX_GROUPED_JOBS,
    )
    found = await operations.error_groups()
    assert [(group.error, group.count) for group in found.groups] == [("error <n>", 100_000)]
    assert (found.jobs, found.is_partial) == (100_000, True)
    assert group_lines(found, datetime.now(UTC))[-2] == "of the newest 100,000 jobs with an error"


async def test_cancelled_jobs_are_not_errors(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("t")
    await operations.apply(Action.CANCEL, [job])
    assert (await operations.error_groups()).groups == ()
    with pytest.raises(ConfigurationError, match="cancelled jobs have no errors to group: choose another state"):
        await operations.error_groups(JobFilter(state=JobState.CANCELLED))


async def test_group_must_be_an_id(operations: Operations) -> None:
    with pytest.raises(ConfigurationError, match="the error group 'odd' is not an id: `jobfn jobs errors` lists them"):
        await operations.list_jobs(JobFilter(error_group="odd"))


async def test_platform_schema_has_groups(
    platform_operations: Operations, platform_pool: "asyncpg.Pool[asyncpg.Record]"
) -> None:
    async with platform_pool.acquire() as connection:
        await connection.execute(
            "insert into app_jobs.jobs (database_id, task_identifier, last_error, attempts, max_attempts) "
            "select gen_random_uuid(), 't', 'boom ' || i, 3, 3 from generate_series(1, 2) i"
        )
    [group] = (await platform_operations.error_groups()).groups
    assert (group.error, group.failed) == ("boom <n>", 2)
    assert len((await platform_operations.list_jobs(JobFilter(error_group=group.id))).jobs) == 2


async def test_command_lists_groups_and_acts_on_one(invoke: Command, database: str, failed_jobs: list[int]) -> None:
    async def run(*arguments: str) -> str:
        result = await invoke("jobfn", *arguments, DATABASE_URL=database)
        assert result.code == 0, result.output
        return result.output

    lines = (await run("jobs", "errors")).splitlines()
    assert lines[0].split() == ["GROUP", "FAILED", "RETRYING", "FIRST", "LAST", "TASK", "ERROR"]
    group = lines[1].split()[0]
    assert lines[1].split()[1:3] == ["3", "1"]
    assert lines[-1] == f"retry a group: jobfn jobs retry --task mail --error-group {group}"
    found = json.loads(await run("jobs", "errors", "--json", "--limit", "1"))
    assert (found["jobs"], found["groups"][0]["id"]) == (6, group)
    assert (await run("jobs", "errors", "--limit", "1")).splitlines()[-2] == "2 jobs are in further groups: see --limit"
    assert "retried 3 jobs" in await run("jobs", "retry", "--task", "mail", "--error-group", group, "--yes")
    assert await run("jobs", "errors", "--task", "none") == "no errors"
