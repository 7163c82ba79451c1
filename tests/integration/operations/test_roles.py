"""Rights of viewers, operators and other roles in the commands and the dashboard, and the refusals."""

import contextlib
import html
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import httpx
import pytest

from jobfn.client import enqueue
from jobfn.database.migrate import migrate
from jobfn.database.permissions import explain_denied
from jobfn.database.privileges import Grants
from jobfn.errors import PermissionDenied
from support.commands import Command, Spawn
from support.dashboard import site
from support.durable import parked, wait
from support.fixtures import ConnectTo
from support.jobs import WORKER, Jobs, settle_jobs
from support.network import LOOPBACK, free_port
from support.roles import Role, login_role

OWNER = "postgres"
#: Commands that only read.
LOOK = (
    "workers",
    "jobs list",
    "jobs list --state completed",
    "jobs show 1",
    "explain-wait 1",
    "jobs stats",
    "jobs watch --times 1",
    "db status",
    "schedules list",
)
#: Commands that change something. Each works once, in this order.
ACT = (
    "enqueue t",
    "jobs cancel 1",
    "jobs retry 1",
    "jobs run-now 2",
    "jobs remove 1 --yes",
    "schedules add t @daily --key k",
    "schedules run 1",
    "schedules pause 1",
    "schedules resume 1",
    "schedules remove 1",
)
MakeRole = Callable[..., Awaitable[Role]]


@pytest.fixture
async def make_role(connection: asyncpg.Connection, database: str) -> AsyncIterator[MakeRole]:
    """Create a role with some of the grants of ``jobfn db migrate``."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(*grants: str) -> Role:
            role = await stack.enter_async_context(login_role(connection, database))
            await migrate(connection, "app_jobs", grants=Grants(**dict.fromkeys(grants, (role.name,))))
            return role

        yield make


@pytest.fixture
async def two_jobs(jobs: Jobs) -> None:
    """A ready job with id 1, a delayed job with id 2, and a schedule with id 1."""
    await jobs.add("t")
    await jobs.connection.execute("select app_jobs.add_job('t', run_at := now() + interval '1 hour')")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('t', '@daily')")


async def run(invoke: Command, line: str, role: Role) -> tuple[int, str]:
    ports = {"INTERNAL_JOBS_CALLBACK_PORT": str(free_port()), "JOBS_HEALTH_PORT": str(free_port())}
    result = await invoke("jobfn", *line.split(), DATABASE_URL=role.dsn, **ports)
    assert "Traceback" not in result.output
    return result.code, result.output


def text(response: httpx.Response) -> str:
    """Return the text of a page, on one line, without markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", response.text)).split())


def refusal(role: Role, right: str, grant: str | None) -> str:
    grant_advice = f"run `jobfn db migrate --grant-{grant} {role.name}` as {OWNER}"
    advice = grant_advice if grant else f"connect as {OWNER}, the owner of schema app_jobs"
    return f"jobfn: role {role.name} lacks {right}: {advice} [J123]"


@pytest.mark.usefixtures("two_jobs")
async def test_viewer_can_look_and_change_nothing(make_role: MakeRole, invoke: Command, jobs: Jobs) -> None:
    viewer = await make_role("viewer")
    for line in LOOK:
        assert (await run(invoke, line, viewer))[0] == 0, line
    expected = {
        "enqueue t": ("EXECUTE on function app_jobs.add_job", "enqueue"),
        "jobs cancel 1": ("EXECUTE on function app_jobs.cancel_jobs", "operator"),
        "jobs retry 1": ("EXECUTE on function app_jobs.retry_jobs", "operator"),
        "jobs run-now 2": ("EXECUTE on function app_jobs.run_jobs_now", "operator"),
        "jobs remove 1 --yes": ("EXECUTE on function app_jobs.complete_jobs", "operator"),
        "schedules add t @daily": ("EXECUTE on function app_jobs.add_scheduled_job", "enqueue"),
        "schedules run 1": ("EXECUTE on function app_jobs.run_schedule", "operator"),
        "schedules pause 1": ("EXECUTE on function app_jobs.pause_schedule", "operator"),
        "schedules resume 1": ("EXECUTE on function app_jobs.resume_schedule", "operator"),
        "schedules remove 1": ("the right to change app_jobs.scheduled_jobs", "operator"),
        "db migrate": ("the right to change schema app_jobs", None),
        f"db migrate --grant-viewer {viewer.name}": ("the right to change schema app_jobs", None),
    }
    for line, (right, grant) in expected.items():
        code, output = await run(invoke, line, viewer)
        assert (code, output) == (1, refusal(viewer, right, grant))
    assert await jobs.values(1, "attempts", "last_error") == (0, None)
    assert await jobs.count() == 2


async def test_rights_for_durable_functions(make_role: MakeRole, invoke: Command, jobs: Jobs) -> None:
    sleep = wait(1, "sleep", "sleep", seconds=3600)
    job = await parked(jobs, "t", sleep)
    viewer, enqueuer, operator = await make_role("viewer"), await make_role("enqueue"), await make_role("operator")
    signal, wake, retry = f"jobs signal {job} approved", f"jobs wake {job}", f"jobs retry {job} --from-step sleep --yes"
    assert "steps" in (await run(invoke, f"jobs show {job}", viewer))[1]
    expected = {
        signal: ("EXECUTE on function app_jobs.signal", "enqueue"),
        wake: ("EXECUTE on function app_jobs.wake_jobs", "operator"),
        retry: ("EXECUTE on function app_jobs.retry_job_from_step", "operator"),
    }
    for line, (right, grant) in expected.items():
        assert await run(invoke, line, viewer) == (1, refusal(viewer, right, grant))
    assert await run(invoke, signal, enqueuer) == (0, f"sent 'approved' to job {job}")
    assert (await run(invoke, wake, enqueuer))[0] == 1
    for line in (signal, wake, retry):
        code, output = await run(invoke, line, operator)
        assert code == 0, output


@pytest.mark.usefixtures("two_jobs")
async def test_operator_can_look_and_act(make_role: MakeRole, invoke: Command, jobs: Jobs) -> None:
    operator = await make_role("operator")
    for line in (*LOOK, *ACT):
        assert (await run(invoke, line, operator))[0] == 0, line
    code, output = await run(invoke, "db migrate", operator)
    assert (code, output) == (1, refusal(operator, "the right to change schema app_jobs", None))
    # The job of `enqueue` and of `schedules run`, and the one that is due now.
    assert await jobs.connection.fetchval("select count(*) from app_jobs.jobs where run_at <= now()") == 3
    assert await jobs.connection.fetchval("select array_agg(key) from app_jobs.scheduled_jobs") == ["k"]


async def test_operator_cannot_write_tables_or_claim(make_role: MakeRole, jobs: Jobs, connect_to: ConnectTo) -> None:
    await jobs.add("t")
    operator = await connect_to((await make_role("operator")).dsn)
    for statement in (
        "insert into app_jobs.jobs (task_identifier) values ('x')",
        "update app_jobs.jobs set payload = '{}'",
        "delete from app_jobs.jobs",
        "truncate app_jobs.jobs",
        "update app_jobs.scheduled_jobs set schedule_info = '{}'",
        "delete from app_jobs.job_runs",
        "update app_jobs.history_settings set retention = '0'",
        "insert into app_jobs.job_runs select * from app_jobs.job_runs",
        "select * from app_jobs.job_results",
        "select app_jobs.get_job('worker')",
        "select app_jobs.complete_job('worker', 1)",
        "select app_jobs.job_result(1)",
        "create table app_jobs.x ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await operator.execute(statement)
    assert await jobs.count() == 1


@pytest.mark.usefixtures("two_jobs")
@pytest.mark.parametrize(
    ("grants", "right", "grant"),
    [
        ((), "USAGE on schema app_jobs", "viewer"),
        (("enqueue",), "SELECT on app_jobs.history_settings", "viewer"),
        (("worker",), "SELECT on app_jobs.history_settings", "viewer"),
    ],
)
async def test_roles_that_may_not_look_are_refused_in_one_line(
    grants: tuple[str, ...], right: str, grant: str, make_role: MakeRole, invoke: Command
) -> None:
    role = await make_role(*grants)
    for line in ("workers", "jobs list", "jobs stats", "jobs show 1", "jobs watch --times 1", "jobs retry 1"):
        assert await run(invoke, line, role) == (1, refusal(role, right, grant)), line
    for line, table in (("db status", "jobfn_migrations"), ("schedules list", "scheduled_jobs")):
        right = f"SELECT on app_jobs.{table}" if grants else "USAGE on schema app_jobs"
        assert await run(invoke, line, role) == (1, refusal(role, right, "viewer")), line


async def test_role_without_grants_is_told_the_grant_to_enqueue_and_to_work(
    make_role: MakeRole, command: Command
) -> None:
    role = await make_role()
    right = "USAGE on schema app_jobs"
    assert await run(command, "enqueue t", role) == (1, refusal(role, right, "enqueue"))
    code, output = await run(command, "service", role)
    assert (code, output.splitlines()[-1]) == (1, refusal(role, right, "worker"))


async def test_service_of_a_role_that_may_not_work_ends_with_the_grant(make_role: MakeRole, command: Command) -> None:
    viewer = await make_role("viewer")
    code, output = await run(command, "service", viewer)
    assert code == 1
    last_line = output.splitlines()[-1]
    assert last_line == refusal(viewer, "EXECUTE on function app_jobs.callback_secret", "worker")


@pytest.mark.parametrize(
    ("only", "grants", "right"),
    [
        ("worker", ("enqueue",), "EXECUTE on function app_jobs.callback_secret"),
        ("scheduler", ("enqueue",), "EXECUTE on function app_jobs.end_schedule_pauses"),
        ("scheduler", ("viewer",), "EXECUTE on function app_jobs.end_schedule_pauses"),
    ],
)
async def test_single_role_of_a_service_ends_with_the_missing_right(
    only: str, grants: tuple[str, ...], right: str, make_role: MakeRole, command: Command
) -> None:
    role = await make_role(*grants)
    code, output = await run(command, f"service --only {only}", role)
    assert (code, output.splitlines()[-1]) == (1, refusal(role, right, "worker"))


async def test_missing_right_outside_of_the_jobs_schema_names_the_role(
    make_role: MakeRole, connection: asyncpg.Connection, connect_to: ConnectTo
) -> None:
    operator = await make_role("operator")
    await connection.execute("create table public.secret ()")
    other = await connect_to(operator.dsn)
    message = rf"role {operator.name} lacks a right \(permission denied for table secret\): connect as another role"
    with pytest.raises(PermissionDenied, match=message):
        async with explain_denied(other, "app_jobs"):
            await other.execute("select * from public.secret")


async def test_triggers_need_the_owner(
    make_role: MakeRole, invoke: Command, connection: asyncpg.Connection, tmp_path: Path
) -> None:
    await connection.execute("create table notes (id int primary key)")
    node = {"$type": "JobTrigger", "data": {"task_identifier": "t"}}
    (tmp_path / "b.json").write_text(json.dumps({"table_name": "notes", "nodes": [node]}))
    operator = await make_role("operator")
    assert (await run(invoke, "triggers plan b.json", operator))[0] == 3
    code, output = await run(invoke, "triggers apply b.json", operator)
    assert (code, output.count("\n")) == (1, 0)
    assert output.startswith(f"jobfn: role {operator.name} ")
    assert output.endswith(("[J120]", "[J123]"))


async def test_doctor_reports_missing_rights_and_goes_on(make_role: MakeRole, invoke: Command) -> None:
    worker = await make_role("worker")
    code, output = await run(invoke, "doctor", worker)
    assert code == 3  # there is no callback server
    lines = output.splitlines()
    advice = f"         -> run `jobfn db migrate --grant-viewer {worker.name}` as {OWNER}"
    for name, table in (("schema", "jobfn_migrations"), ("rights", "history_settings")):
        position = lines.index(f"warning  {name}: role {worker.name} lacks SELECT on app_jobs.{table}")
        assert lines[position + 1] == advice
    assert any(line.startswith("ok       clocks: ") for line in lines)
    assert any(line.startswith("error    callback URL: ") for line in lines)
    assert any(line.startswith("warning  functions: ") for line in lines)


async def test_doctor_checks_everything_as_a_viewer(make_role: MakeRole, invoke: Command, jobs: Jobs) -> None:
    await jobs.connection.execute("select app_jobs.add_scheduled_job('t', '@daily')")
    viewer = await make_role("viewer")
    _, output = await run(invoke, "doctor", viewer)
    assert "lacks" not in output
    assert "ok       schema: schema app_jobs is up to date" in output
    assert "error    worker: no worker is running" in output
    assert "error    scheduler: there is 1 schedule, but no running scheduler" in output


async def test_doctor_reports_a_single_missing_right_and_goes_on(
    make_role: MakeRole, invoke: Command, connection: asyncpg.Connection
) -> None:
    viewer = await make_role("viewer")
    await connection.execute(f"revoke select on app_jobs.workers from {viewer.name}")
    _, output = await run(invoke, "doctor", viewer)
    assert f"warning  worker: role {viewer.name} lacks SELECT on app_jobs.workers\n" in output
    assert "error    callback URL: " in output


async def test_dashboard_of_a_viewer_shows_every_page_and_refuses_actions(make_role: MakeRole, jobs: Jobs) -> None:
    await jobs.add("t")
    await jobs.connection.execute("select app_jobs.add_scheduled_job('t', '@daily')")
    viewer = await make_role("viewer")
    async with site(viewer.dsn) as dashboard:
        for path in ("/", "/jobs", "/jobs/1", "/schedules", "/triggers", "/workers", "/enqueue"):
            assert (await dashboard.get(path)).status_code == 200, path
        refused = await dashboard.post("/jobs/apply", {"action": "cancel", "id": "1"})
        added = await dashboard.post("/enqueue", {"task": "t", "as": "json", "payload": "{}"})
    assert refused.status_code == 403
    assert "Permission denied" in refused.text
    for page, function, grant in ((refused, "cancel_jobs", "operator"), (added, "add_job", "enqueue")):
        line = refusal(viewer, f"EXECUTE on function app_jobs.{function}", grant)
        assert line.removeprefix("jobfn: ").removesuffix(" [J123]") in text(page)
    assert await jobs.values(1, "last_error") == (None,)


async def test_dashboard_of_a_viewer_refuses_actions_on_durable_functions(make_role: MakeRole, jobs: Jobs) -> None:
    job = await parked(jobs, "t", wait(1, "sleep", "sleep", seconds=3600))
    viewer = await make_role("viewer")
    async with site(viewer.dsn) as dashboard:
        assert "sleeps" in text(await dashboard.get(f"/jobs/{job}"))
        signalled = await dashboard.post(f"/jobs/{job}/signal/send", {"event": "approved"})
        woken = await dashboard.post("/jobs/apply", {"action": "wake", "id": str(job)})
        retried = await dashboard.post(f"/jobs/{job}/retry-from-step/apply", {"position": "1"})
    for page, function, grant in (
        (signalled, "signal", "enqueue"),
        (woken, "wake_jobs", "operator"),
        (retried, "retry_job_from_step", "operator"),
    ):
        assert page.status_code == 403
        line = refusal(viewer, f"EXECUTE on function app_jobs.{function}", grant)
        assert line.removeprefix("jobfn: ").removesuffix(" [J123]") in text(page)


async def test_live_page_shows_a_right_that_was_revoked(make_role: MakeRole, connection: asyncpg.Connection) -> None:
    viewer = await make_role("viewer")
    async with site(viewer.dsn) as dashboard:
        await dashboard.get("/")
        await connection.execute(f"revoke select on app_jobs.workers from {viewer.name}")
        async with dashboard.events("/workers") as events:
            shown = (await events.next("error"))["text"]
    assert f"jobfn: {shown} [J123]" == refusal(viewer, "SELECT on app_jobs.workers", "viewer")


async def test_dashboard_of_an_operator_can_act(make_role: MakeRole, jobs: Jobs) -> None:
    await jobs.add("t")
    async with site((await make_role("operator")).dsn) as dashboard:
        assert (await dashboard.post("/jobs/apply", {"action": "cancel", "id": "1"})).status_code == 200
    assert await jobs.values(1, "last_error") == ("cancelled by hand",)


async def test_service_with_dashboard_needs_the_grants_of_both(
    make_role: MakeRole, command: Command, spawn: Spawn
) -> None:
    port = free_port()
    ports = {"INTERNAL_JOBS_CALLBACK_PORT": str(free_port()), "JOBFN_DASHBOARD_PORT": str(port)}
    worker = await make_role("worker")
    result = await command("jobfn", "service", "--dashboard", DATABASE_URL=worker.dsn, **ports)
    assert result.code == 1
    assert result.output.splitlines()[-1] == refusal(worker, "SELECT on app_jobs.history_settings", "viewer")
    both = await make_role("worker", "operator")
    service = await spawn("jobfn", "service", "--dashboard", DATABASE_URL=both.dsn, **ports)
    await service.until("looking for jobs")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"http://{LOOPBACK}:{port}/")).status_code == 200


async def test_application_waits_for_results_with_its_grants(
    make_role: MakeRole, connect_to: ConnectTo, jobs: Jobs
) -> None:
    role = await make_role("enqueue", "result")
    connection = await connect_to(role.dsn)
    job = await enqueue(connection, "t", {}, max_attempts=1)
    await jobs.claim()
    await settle_jobs(jobs.connection, (WORKER, int(job), 1, "boom"))
    result = await job.result(timeout=10)
    assert (result.outcome, result.error) == ("failed", "boom")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("select result from app_jobs.job_results")
