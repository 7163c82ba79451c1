"""What ``jobfn jobs show`` knows about the run of a durable function."""

import json
from datetime import UTC, datetime

import pytest

from jobfn.cli.render_runs import run_lines, waits_text
from jobfn.operations import JobDetail, Operations
from jobfn.operations.durable_records import Child, DurableRun, Signal, Wait
from support.commands import Command
from support.durable import call, park, parked, record, start, step, wait
from support.jobs import WORKER, Jobs


async def show(operations: Operations, job_id: int) -> DurableRun:
    detail = await operations.get_job(job_id)
    assert detail is not None
    assert detail.run is not None
    return detail.run


async def test_steps_have_their_results_times_and_attempts(operations: Operations, jobs: Jobs) -> None:
    job = await start(
        jobs,
        "fulfil",
        step(1, "charge", '{"id": 7}', seconds=1.5),
        step(2, "mail", '{"type": "ValueError"}', state="failed", error="no route"),
        wait(3, "sleep", "sleep", seconds=3600),
    )
    run = await show(operations, job)
    assert [(each.position, each.name, each.kind, each.state, each.attempt) for each in run.steps] == [
        (1, "charge", "step", "completed", 1),
        (2, "mail", "step", "failed", 1),
        (3, "sleep", "sleep", "waiting", 1),
    ]
    assert (run.steps[0].result, run.steps[1].error, run.steps[2].duration_seconds) == ('{"id": 7}', "no route", None)
    assert run.steps[0].duration_seconds == pytest.approx(1.5, abs=0.001)
    assert run.steps[2].wake_at is not None
    assert (run.step_count, run.waits) == (3, ())


async def test_large_results_are_not_loaded(operations: Operations, jobs: Jobs) -> None:
    job = await start(jobs, "fulfil", step(1, "small", f'"{"x" * 1998}"'), step(2, "large", f'"{"x" * 1999}"'))
    run = await show(operations, job)
    assert [(each.is_large, each.result is None) for each in run.steps] == [(False, False), (True, True)]


async def test_latest_steps_of_many_are_shown(operations: Operations, jobs: Jobs) -> None:
    job = await start(jobs, "fulfil", *(step(number, f"s{number}") for number in range(1, 502)))
    run = await show(operations, job)
    assert (len(run.steps), run.step_count, run.steps[0].position, run.steps[-1].position) == (500, 501, 2, 501)
    assert "    steps (the latest 500 of 501)" in run_lines(run, datetime.now(UTC))


async def test_signals_are_read_or_unread(operations: Operations, jobs: Jobs) -> None:
    job = await jobs.add("fulfil")
    for payload in ('{"by": "ada"}', '{"by": "bob"}'):
        await jobs.connection.execute("select app_jobs.signal($1::bigint, 'approved', $2::json)", job, payload)
    assert await jobs.claim_id() == job
    await record(jobs, job, wait(1, "wait:approved", "wait", event="approved"))
    run = await show(operations, job)
    assert (run.steps[0].state, run.steps[0].event, run.steps[0].result) == ("completed", "approved", '{"by": "ada"}')
    assert run.signals == (Signal("approved", run.signals[0].sent_at, '{"by": "bob"}'),)
    lines = "\n".join(run_lines(run, datetime.now(UTC)))
    assert "1   wait:approved: read the signal 'approved' after 0s" in lines
    assert "        'approved' sent" in lines


async def test_children_are_a_tree_with_their_states(operations: Operations, jobs: Jobs) -> None:
    parent = await start(jobs, "fulfil", call(1, "label", 1), call(2, "label2", 1), step(3, "other"))
    await park(jobs, parent, [1])
    first, second = [
        row["id"] for row in await jobs.connection.fetch("select id from app_jobs.jobs where id <> $1", parent)
    ]
    assert await jobs.claim_id(tasks=["label"]) == first
    await record(jobs, first, call(1, "ink"))
    await park(jobs, first, [1])
    grandchild = await jobs.claim_id(tasks=["ink"])
    assert grandchild is not None
    run = await show(operations, parent)
    assert run.children == (
        Child(first, "call:label", "parked", 1, "label"),
        Child(grandchild, "call:ink", "running", 2, "ink"),
        Child(second, "call:label2", "ready", 1, "label2"),
    )
    assert (run.child_count, run.waits) == (2, (Wait("call", waiting=2, total=2),))
    detail = await operations.get_job(grandchild)
    assert detail is not None
    assert (detail.parent_id, detail.run) == (first, None)
    assert await jobs.claim_id(tasks=["label2"]) == second
    await jobs.complete(second)
    run = await show(operations, parent)
    assert run.children[2] == Child(second, "call:label2", "completed", 1, None)
    assert [each.text for each in run.waits] == ["waits for 1 of 2 children"]


async def test_parked_job_says_what_it_waits_for(operations: Operations, jobs: Jobs) -> None:
    job = await parked(
        jobs,
        "fulfil",
        wait(1, "sleep", "sleep", seconds=7200),
        wait(2, "wait:approved", "wait", event="approved", seconds=86_400 * 3),
        wait(3, "wait:cancelled", "wait", event="cancelled"),
        call(4, "label"),
    )
    run = await show(operations, job)
    assert [each.text for each in run.waits] == [
        "sleeps",
        "waits for the signal 'approved'",
        "waits for the signal 'cancelled'",
        "waits for 1 of 1 child",
    ]
    now = run.steps[0].started_at
    assert waits_text(run.waits[1:], now) == (
        f"waits for the signal 'approved' until {run.steps[1].wake_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC (in 3d), "  # type: ignore[union-attr]
        "or waits for the signal 'cancelled', or waits for 1 of 1 child"
    )


async def test_job_without_durable_calls_has_no_run(operations: Operations, jobs: Jobs) -> None:
    detail = await operations.get_job(await jobs.add("x"))
    assert isinstance(detail, JobDetail)
    assert (detail.run, detail.parent_id) == (None, None)


async def test_platform_job_has_no_run(platform_operations: Operations, platform_pool: object) -> None:
    [row] = await platform_pool.fetch(  # type: ignore[attr-defined]
        "select id from app_jobs.add_job('5b720132-17d5-424d-9bcb-ee7b17c13d43'::uuid, 'x', '{}'::json)"
    )
    detail = await platform_operations.get_job(row["id"])
    assert detail is not None
    assert (detail.run, detail.parent_id) == (None, None)


async def test_command_shows_the_run(command: Command, jobs: Jobs, database: str) -> None:
    job = await parked(
        jobs,
        "fulfil",
        step(1, "charge", '{"id": 7}', seconds=1.5),
        wait(2, "wait:approved", "wait", event="approved", seconds=86_400 * 3),
    )
    shown = await command("jobfn", "jobs", "show", str(job), DATABASE_URL=database)
    assert f"job {job}  fulfil  parked" in shown.output
    assert "attempts    0 of 25, parked once" in shown.output
    assert "now         waits for the signal 'approved' until " in shown.output
    assert "        1   charge: completed after 1.5s" in shown.output
    assert '            {"id": 7}' in shown.output
    as_json = await command("jobfn", "jobs", "show", str(job), "--json", DATABASE_URL=database)
    run = json.loads(as_json.output)["run"]
    assert [(each["name"], each["state"], each["result"]) for each in run["steps"]] == [
        ("charge", "completed", '{"id": 7}'),
        ("wait:approved", "waiting", None),
    ]
    assert [(each["kind"], each["event"]) for each in run["waits"]] == [("wait", "approved")]
    assert WORKER not in str(run)
