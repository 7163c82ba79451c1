"""Log lines where something went wrong: each is about one job, and says which.

The fixture ``lines`` looks at all lines of a test: none about a job may lack one of the five ids.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from jobfn import JobContext, PermanentError, RetryLater, create_app, task
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.worker.settings import ServiceRole
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs
from support.network import eventually
from support.observability import Lines, StartPath

#: What the driver makes of a server that shuts down, for whoever ends a job.
AWAY = """
create function public.away() returns trigger language plpgsql as
    $$ begin raise exception sqlstate '57P01' using message = 'shutting down'; end $$;
create trigger away before delete on app_jobs.jobs for each row execute function public.away()
"""


@task("fails")
async def fails(payload: dict[str, Any]) -> None:
    raise ValueError("odd")


@task("gives_up")
async def gives_up(payload: dict[str, Any]) -> None:
    raise PermanentError("never")


@task("waits")
def waits(payload: dict[str, Any]) -> None:
    raise RetryLater("not yet", seconds=60)


@task("dawdles", timeout=0.05)
async def dawdles(payload: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@task("picky")
async def picky(payload: list[int]) -> None:
    """Takes what no job here sends."""


@task("odd_result")
async def odd_result(payload: dict[str, Any]) -> object:
    return object()


@task("lost", background=True)
async def lost(payload: dict[str, Any], ctx: JobContext) -> None:
    ctx.log.info("lost begins")
    await asyncio.Event().wait()


#: What each of them has the log say.
ODD: dict[Task[..., Any], str] = {
    fails: "task failed",
    gives_up: "task failed",
    waits: "task failed",
    dawdles: "task timed out",
    picky: "request refused",
    odd_result: "job done",
}


def ids(job: int, name: str, attempt: int = 1, worker: str = WORKER) -> dict[str, object]:
    """What each line about this job says."""
    return {"job": job, "task": name, "attempt": attempt, "worker": worker, "tenant": TENANT}


def said(line: Mapping[str, Any]) -> dict[str, Any]:
    """The ids in a line."""
    return {name: line[name] for name in ids(0, "")}


async def add(jobs: Jobs, name: str, **options: object) -> int:
    """A job of a tenant's."""
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    return await jobs.add(name, **options)


@pytest.mark.parametrize("name", [each.identifier for each in ODD])
async def test_however_a_handler_ends(name: str, jobs: Jobs, lines: Lines, start_path: StartPath) -> None:
    """Raising, too late, refused, with a result that is no JSON: function and callback server name the job alike."""
    await start_path(*ODD)
    job = await add(jobs, name, max_attempts=1)
    await lines.until("job done" if name == "odd_result" else "job failed")
    about = [line for line in lines.all() if "job" in line]
    assert [said(line) for line in about] == [ids(job, name)] * len(about)
    assert {event for each, event in ODD.items() if each.identifier == name} <= {line["event"] for line in about}


async def test_a_handler_whose_job_was_given_to_another(jobs: Jobs, lines: Lines, start_path: StartPath) -> None:
    """It is stopped, and the log says which."""
    await start_path(lost, lease_seconds=1.0)
    job = await add(jobs, "lost")
    await lines.until("lost begins")
    await jobs.connection.execute("update app_jobs.jobs set locked_by = 'another'")
    for event in (
        "lease lost: cancelling the handler",
        "task cancelled: lease lost",
    ):
        assert said(await lines.until(event)) == ids(job, "lost")


async def test_what_a_dead_worker_held_is_taken_back_job_by_job(
    jobs: Jobs, lines: Lines, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Back under its id, it says of each job which attempt was lost."""
    held = {await add(jobs, name): name for name in ("a", "b", "c")}
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 9, '1 hour')", WORKER)
    await start_service(await serve(function.app))
    await jobs.until_gone()
    event = "job reclaimed: this worker died while it held the job"
    taken = [said(line) for line in lines.all() if line["event"] == event]
    assert sorted(taken, key=lambda line: str(line["job"])) == [ids(job, name) for job, name in held.items()]


async def test_what_failed_with_its_worker_is_named_job_by_job(
    jobs: Jobs, lines: Lines, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """Also more than are written in one go; the worker in the line is the one that died."""
    first = await add(jobs, "last", max_attempts=1)
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, max_attempts) select 'many', 1 from generate_series(1, 250)"
    )
    await jobs.connection.execute("select app_jobs.claim_jobs('the-dead-one', null, '4 hours', 999, '1 hour')")
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
    await start_service(await serve(function.app))
    event = "job permanently failed: its worker died in the last attempt"

    async def all_of_them() -> list[dict[str, Any]]:
        found = [line for line in lines.all() if line["event"] == event]
        return found if len(found) == 251 else []

    buried = await eventually(all_of_them)
    assert said(min(buried, key=lambda line: int(line["job"]))) == ids(first, "last", worker="the-dead-one")
    assert {line["task"] for line in buried} == {"last", "many"}
    assert len({line["job"] for line in buried}) == 251


@pytest.mark.parametrize("parts", [(), (ServiceRole.CALLBACKS,)], ids=["beside its worker", "alone"])
async def test_a_report_that_finds_no_database(
    parts: tuple[ServiceRole, ...],
    jobs: Jobs,
    lines: Lines,
    start_path: StartPath,
    function: RecordingFunction,
    serve: Serve,
) -> None:
    """Beside the worker that has the job in hand, the callback server knows its task; alone, what the report says."""
    gate = function.hold()
    path = await start_path(fails, only=parts, gateway_url=await serve(function.app))
    await jobs.connection.execute(AWAY)
    job = await add(jobs, "held")
    if parts:
        await jobs.claim()
    else:
        await function.arrived.wait()
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
    async with httpx.AsyncClient() as client:
        assert (await client.post(path.callback_url, headers=headers, json={})).status_code == 503
    line = await lines.until("report not settled: database unreachable")
    unsaid = {"task": None, "attempt": None, "tenant": None} if parts else {}
    assert said(line) == ids(job, "held") | unsaid
    await jobs.connection.execute("drop trigger away on app_jobs.jobs")
    gate.set()


async def test_a_sign_of_life_that_finds_no_database(
    jobs: Jobs, lines: Lines, start_path: StartPath, function: RecordingFunction, serve: Serve
) -> None:
    """As a report that does."""
    gate = function.hold()
    path = await start_path(fails, gateway_url=await serve(function.app))
    job = await add(jobs, "held")
    await function.arrived.wait()
    await jobs.connection.execute(AWAY.replace("before delete", "before update"))
    url = f"{path.callback_url.removesuffix('/callback')}/heartbeat"
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job), "X-Job-Attempt": "1"}
    async with httpx.AsyncClient() as client:
        assert (await client.post(url, headers=headers, json={})).status_code == 503
    assert said(await lines.until("report not settled: database unreachable")) == ids(job, "held")
    await jobs.connection.execute("drop trigger away on app_jobs.jobs")
    gate.set()


async def test_a_worker_that_stops_without_its_database(
    jobs: Jobs, lines: Lines, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    """It names each job whose end it could not write down."""
    await jobs.connection.execute(AWAY)
    service = await start_service(await serve(function.app), settle_on="response", shutdown_timeout_seconds=0.1)
    job = await add(jobs, "unsettled")
    await function.arrived.wait()
    await service.stop()
    event = "job not settled: database unreachable, it is reclaimed when its lease expires"
    assert said(await lines.until(event)) == ids(job, "unsettled")


async def test_by_a_worker_that_says_less(lines: Lines, serve: Serve) -> None:
    """The platform's tells of no attempt, and of a tenant in strange ways: null, and not left out."""
    url = await serve(create_app(tasks=[fails], settings=FunctionSettings()))
    headers = {"X-Worker-Id": "node-worker", "X-Job-Id": "7", "X-Database-Id": "undefined"}
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/fails", headers=headers, json={})).status_code == 500
    line = await lines.until("task failed")
    assert said(line) == {"job": 7, "task": "fails", "attempt": None, "worker": "node-worker", "tenant": None}


async def test_called_by_hand_there_is_no_job(lines: Lines, serve: Serve) -> None:
    """A call that is refused is a line about a task, not about a job that is null."""
    url = await serve(create_app(tasks=[picky], settings=FunctionSettings()))
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/picky", json={})).status_code == 422
    line = await lines.until("request refused")
    assert (line["task"], "job" in line) == ("picky", False)


async def test_a_schedule_s_job_is_named(jobs: Jobs, lines: Lines, start_path: StartPath) -> None:
    """No attempt of it has begun, and no worker has it."""
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('tick', '* * * * * *')")
    await start_path(fails, only=(ServiceRole.SCHEDULER,))
    line = await lines.until("job enqueued")
    assert said(line) == ids(line["job"], "tick", attempt=0) | {"worker": None}
