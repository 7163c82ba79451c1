"""The ids in log lines about errors.

The fixture ``lines`` checks all lines of a test: each line about a job has all of its ids.
"""

import asyncio
from typing import Any

import httpx
import pytest

from jobfn import JobContext, PermanentError, RetryLater, create_app, task
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.worker.settings import ServiceRole
from jobfn.worker.tokens import Claim
from support.fixtures import Serve, StartWorker
from support.functions import RecordingFunction
from support.jobs import TENANT, WORKER, Jobs
from support.observability import Deploy, LogLines, add_for_tenant, ids_of, job_ids
from support.secrets import schema_tokens, sign_url

#: Makes settlements fail like a server that shuts down.
SHUT_DOWN = """
create function public.shut_down() returns trigger language plpgsql as
    $$ begin raise exception sqlstate '57P01' using message = 'shutting down'; end $$;
create trigger shut_down before delete on app_jobs.jobs for each row execute function public.shut_down()
"""
RECOVER = "drop trigger shut_down on app_jobs.jobs"


@task("fails")
async def fails(payload: dict[str, Any]) -> None:
    raise ValueError("odd")


@task("gives_up")
async def gives_up(payload: dict[str, Any]) -> None:
    raise PermanentError("never")


@task("waits")
def waits(payload: dict[str, Any]) -> None:
    raise RetryLater("not yet", seconds=60)


@task("times_out", timeout=0.05)
async def times_out(payload: dict[str, Any]) -> None:
    await asyncio.Event().wait()


@task("rejects_payload")
async def rejects_payload(payload: list[int]) -> None: ...


@task("unserializable")
async def unserializable(payload: dict[str, Any]) -> object:
    return object()


@task("loses_lease", background=True)
async def loses_lease(payload: dict[str, Any], ctx: JobContext) -> None:
    ctx.log.info("handler started")
    await asyncio.Event().wait()


#: The event that each task logs.
EVENTS: dict[Task[..., Any], str] = {
    fails: "task failed",
    gives_up: "task failed",
    waits: "task snoozed",
    times_out: "task timed out",
    rejects_payload: "request refused",
    unserializable: "job done",
}


async def test_function_and_callback_server_log_the_same_ids(jobs: Jobs, lines: LogLines, deploy: Deploy) -> None:
    await deploy(*EVENTS)
    names = {await add_for_tenant(jobs, each.identifier, max_attempts=1): each.identifier for each in EVENTS}
    await lines.until("job done")
    await lines.until("job failed", times=2)
    await lines.until("job permanently failed", times=2)
    await lines.until("job snoozed")
    about_jobs = [line for line in lines.all() if "job" in line]
    assert [ids_of(line) for line in about_jobs] == [job_ids(line["job"], names[line["job"]]) for line in about_jobs]
    assert {(each.identifier, event) for each, event in EVENTS.items()} <= {
        (line["task"], line["event"]) for line in about_jobs
    }


async def test_function_logs_a_lost_lease(jobs: Jobs, lines: LogLines, deploy: Deploy) -> None:
    await deploy(loses_lease, lease_seconds=1.0)
    job = await add_for_tenant(jobs, "loses_lease")
    await lines.until("handler started")
    await jobs.connection.execute("update app_jobs.jobs set locked_by = 'another'")
    for event in ("lease lost: cancelling the handler", "task cancelled: lease lost"):
        assert ids_of(await lines.until(event)) == job_ids(job, "loses_lease")


async def test_restarted_worker_logs_each_reclaimed_job(
    jobs: Jobs, lines: LogLines, function: RecordingFunction, start_worker: StartWorker
) -> None:
    held = {await add_for_tenant(jobs, name): name for name in ("a", "b", "c")}
    await jobs.connection.execute("select app_jobs.claim_jobs($1, null, '4 hours', 9, '1 hour')", WORKER)
    await start_worker()
    await jobs.until_gone()
    event = "job reclaimed: this worker died while it held the job"
    reclaimed = [ids_of(line) for line in lines.all() if line["event"] == event]
    assert sorted(reclaimed, key=lambda ids: int(ids["job"])) == [job_ids(job, name) for job, name in held.items()]


async def test_each_job_of_a_dead_worker_that_failed_permanently_is_logged(
    jobs: Jobs, lines: LogLines, function: RecordingFunction, start_worker: StartWorker
) -> None:
    """The worker in the line is the dead one. There are more jobs than are logged in one turn of the event loop."""
    first = await add_for_tenant(jobs, "last", max_attempts=1)
    await jobs.connection.execute(
        "insert into app_jobs.jobs (task_identifier, max_attempts) select 'many', 1 from generate_series(1, 250)"
    )
    await jobs.connection.execute("select app_jobs.claim_jobs('dead-worker', null, '4 hours', 999, '1 hour')")
    await jobs.connection.execute("update app_jobs.jobs set lease_expires_at = now() - interval '1 s'")
    await start_worker()
    event = "job permanently failed: its worker died in the last attempt"

    await lines.until(event, times=251)
    reaped = [line for line in lines.all() if line["event"] == event]
    assert ids_of(min(reaped, key=lambda line: int(line["job"]))) == job_ids(first, "last", worker="dead-worker")
    assert {line["task"] for line in reaped} == {"last", "many"}
    assert len({line["job"] for line in reaped}) == 251


@pytest.mark.parametrize(
    ("path", "roles"), [("callback", ()), ("heartbeat", ()), ("callback", (ServiceRole.CALLBACKS,))]
)
async def test_report_without_a_database_is_logged(
    path: str,
    roles: tuple[ServiceRole, ...],
    jobs: Jobs,
    lines: LogLines,
    deploy: Deploy,
    function: RecordingFunction,
    serve: Serve,
) -> None:
    """The worker in the same process completes the ids; a callback server alone has only those of the report."""
    gate = function.hold()
    deployment = await deploy(fails, roles=roles, gateway_url=await serve(function.app))
    job = await add_for_tenant(jobs, "held")
    if roles:
        await jobs.claim()
    else:
        await function.arrived.wait()
    await jobs.connection.execute(SHUT_DOWN.replace("before delete", "before update or delete"))
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
    attempt = {"X-Job-Attempt": "1"} if path == "heartbeat" else {}
    tokens = await schema_tokens(jobs.connection)
    url = sign_url(tokens, deployment.callback_url.replace("/callback", f"/{path}"), Claim(WORKER, job, 1))
    async with httpx.AsyncClient() as client:
        assert (await client.post(url, headers=headers | attempt, json={})).status_code == 503
    line = await lines.until("report not settled: database unreachable")
    unknown = {"task": None, "attempt": None, "tenant": None} if roles else {}
    assert ids_of(line) == job_ids(job, "held") | unknown
    await jobs.connection.execute(RECOVER)
    gate.set()


async def test_worker_that_stops_without_a_database_logs_its_unsettled_jobs(
    jobs: Jobs, lines: LogLines, function: RecordingFunction, start_worker: StartWorker
) -> None:
    await jobs.connection.execute(SHUT_DOWN)
    service = await start_worker(settle_on="response", shutdown_timeout_seconds=0.1)
    job = await add_for_tenant(jobs, "unsettled")
    await function.arrived.wait()
    await service.stop()
    event = "job not settled: database unreachable, it is reclaimed when its lease expires"
    assert ids_of(await lines.until(event)) == job_ids(job, "unsettled")


async def test_missing_headers_are_logged_as_null(lines: LogLines, serve: Serve) -> None:
    """The platform's worker sends no attempt."""
    url = await serve(create_app(tasks=[fails], settings=FunctionSettings()))
    headers = {"X-Worker-Id": "node-worker", "X-Job-Id": "7", "X-Database-Id": "undefined"}
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{url}/fails", headers=headers, json={})).status_code == 500
    assert ids_of(await lines.until("task failed")) == {
        "job": 7,
        "task": "fails",
        "attempt": None,
        "worker": "node-worker",
        "tenant": None,
    }


async def test_scheduler_logs_an_enqueued_job_without_attempt_and_worker(
    jobs: Jobs, lines: LogLines, deploy: Deploy
) -> None:
    await jobs.connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    await jobs.connection.execute("select app_jobs.add_scheduled_job('tick', '* * * * * *')")
    await deploy(fails, roles=(ServiceRole.SCHEDULER,))
    line = await lines.until("job enqueued")
    assert ids_of(line) == job_ids(line["job"], "tick", attempt=0) | {"worker": None}
