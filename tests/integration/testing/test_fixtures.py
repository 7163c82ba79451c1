"""The fixtures of the pytest plugin."""

import asyncio
import contextlib
import os
import subprocess
import sys
import types
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from jobfn import (
    Backoff,
    ConfigurationError,
    FunctionApp,
    FunctionSettings,
    JobContext,
    PermanentError,
    RetryLater,
    TaskDefinitionError,
    create_app,
    enqueue,
    task,
)
from jobfn.errors import DatabaseError, DatabaseUnreachable
from jobfn.testing import JobsClock, JobsDatabase, JobsServer
from support.function_app import ACTOR
from support.jobs import TENANT
from support.secrets import INVOKE_SECRET

NOON = datetime(2040, 1, 31, 12, tzinfo=UTC)


class Invoice(BaseModel):
    id: int


@task("charge")
async def charge(payload: Invoice, ctx: JobContext) -> dict[str, Any]:
    await ctx.progress(0.5, "half")
    return {"id": payload.id, "attempt": ctx.attempt, "tenant": str(ctx.database_id)}


@task("flaky")
async def flaky(payload: None, ctx: JobContext) -> str:
    """Fail twice, with a retry after a minute."""
    if (ctx.attempt or 0) < 3:
        raise RetryLater("not yet", seconds=60, counts=True)
    return "now"


@task("poll", max_attempts=2, keep_result=True)
async def poll(payload: None, ctx: JobContext) -> tuple[int | None, int]:
    """Snooze three times."""
    if ctx.snoozes < 3:
        raise RetryLater("the partner is not ready", seconds=3600)
    return ctx.attempt, ctx.snoozes


@task("hopeless")
def hopeless(payload: None) -> None:
    raise PermanentError("no such thing")


@task("failing", max_attempts=1)
def failing(payload: None) -> None:
    raise ValueError("broken")


@task("growing", backoff=Backoff(seconds=5, factor=3, jitter=0))
def growing(payload: None) -> None:
    raise ValueError("no")


@task("accepted", background=True)
async def accepted(payload: None, ctx: JobContext) -> str:
    await asyncio.sleep(0)
    return "done"


@task("report", schedule="0 9 * * *", tz="Europe/Paris")
async def report(payload: dict[str, Any]) -> str:
    return "sent"


functions = types.ModuleType("functions")
for task_ in (charge, flaky, hopeless, failing, growing, accepted, report):
    setattr(functions, task_.identifier, task_)


async def test_delivery_has_response_report_and_progress(jobfn_app: Any) -> None:
    result = await jobfn_app(functions).deliver(charge, Invoice(id=7), attempt=3, database_id=TENANT, actor_id=ACTOR)
    assert result.ok
    assert result.status_code == 200
    assert result.result == {"id": 7, "attempt": 3, "tenant": TENANT}
    assert result.report == {"status": "success"}
    assert result.headers["X-Actor-Id"] == ACTOR
    assert result.progress == [{"progress": 0.5, "note": "half"}]
    assert result.error is None


@pytest.mark.parametrize(
    ("name", "payload", "status", "error", "extra"),
    [
        ("charge", {"id": "x"}, 422, "The payload does not fit charge: id: ", {"permanent": True}),
        ("charge", b"{", 400, "not valid JSON", {}),
        ("hopeless", None, 500, "no such thing", {"permanent": True}),
        ("flaky", None, 500, "not yet", {"retryAfterSeconds": 60.0}),
        ("failing", None, 500, "broken", {"permanent": True}),
        ("growing", None, 500, "no", {"retryAfterSeconds": 45.0}),
        ("nowhere", None, 404, "No task 'nowhere' here", {}),
    ],
)
async def test_failed_delivery_has_the_report(
    jobfn_app: Any, name: str, payload: Any, status: int, error: str, extra: dict[str, Any]
) -> None:
    result = await jobfn_app(functions).deliver(name, payload, attempt=3 if name == "growing" else 1)
    assert not result.ok
    assert result.status_code == status
    assert error in result.error
    assert extra.items() <= result.report.items()


async def test_report_of_a_background_task_is_awaited(jobfn_app: Any) -> None:
    result = await jobfn_app(accepted).deliver(accepted)
    assert (result.status_code, result.ok) == (202, True)


async def test_unauthorized_delivery_has_no_report(jobfn_app: Any) -> None:
    app = jobfn_app(accepted, settings=FunctionSettings(invoke_secrets=[INVOKE_SECRET]))
    result = await app.deliver(accepted)
    assert (result.status_code, result.report, result.ok, result.error) == (401, None, False, None)


async def test_app_with_lifespan_runs_it_once_and_rejects_options(jobfn_app: Any) -> None:
    started: list[str] = []

    @contextlib.asynccontextmanager
    async def lifespan(_app: FunctionApp) -> AsyncIterator[None]:
        started.append("started")
        yield

    app = create_app(functions, lifespan=lifespan)
    async with jobfn_app(app) as entered:
        assert (await entered.deliver("charge", {"id": 1})).ok
        assert (await entered.deliver("charge", {"id": 2})).ok
    assert started == ["started"]
    with pytest.raises(ConfigurationError, match="create_app"):
        jobfn_app(app, settings=FunctionSettings())


async def test_drain_returns_each_attempt_with_its_outcome(jobs_db: JobsDatabase, drain_jobs: Any) -> None:
    connection = await jobs_db.connect()
    first = await charge.enqueue(connection, Invoice(id=1), database_id=TENANT)
    second = await hopeless.enqueue(connection, None)
    third = await failing.enqueue(connection, None)
    fourth = await accepted.enqueue(connection, None)
    await connection.close()

    runs = {run.job_id: run for run in await drain_jobs(functions)}
    assert {job: run.outcome for job, run in runs.items()} == {
        first: "completed",
        second: "permanently_failed",
        third: "permanently_failed",
        fourth: "completed",
    }
    assert runs[first].result == {"id": 1, "attempt": 1, "tenant": TENANT}
    assert runs[first].payload == {"id": 1}
    assert runs[second].error == "no such thing"
    assert runs[third].error == "broken"
    assert [row["last_error"] for row in jobs_db.fetch("select last_error from app_jobs.jobs order by id")] == [
        "no such thing",
        "broken",
    ]


async def test_drain_runs_jobs_that_handlers_enqueue(jobs_db: JobsDatabase, drain_jobs: Any) -> None:

    @task("countdown")
    async def countdown(payload: int) -> None:
        if payload:
            connection = await jobs_db.connect()
            await enqueue(connection, "countdown", payload - 1)
            await connection.close()

    connection = await jobs_db.connect()
    await countdown.enqueue(connection, 3)
    assert [run.payload for run in await drain_jobs(countdown)] == [3, 2, 1, 0]
    await countdown.enqueue(connection, 50)
    with pytest.raises(AssertionError, match="max_jobs=5 was reached"):
        await drain_jobs(countdown, max_jobs=5)
    await connection.close()


async def test_retry_runs_when_it_is_due_by_the_clock(
    jobs_db: JobsDatabase, drain_jobs: Any, jobs_clock: JobsClock
) -> None:
    jobs_clock.freeze(NOON)
    connection = await jobs_db.connect()
    await flaky.enqueue(connection, None)
    await connection.close()

    (first,) = await drain_jobs(functions)
    assert (first.outcome, first.attempt) == ("failed", 1)
    assert abs(first.retry_at - NOON - timedelta(seconds=60)) < timedelta(seconds=5)
    assert await drain_jobs(functions) == []
    assert jobs_clock.advance(seconds=50) == timedelta(seconds=50)
    assert await drain_jobs(functions) == []
    jobs_clock.advance(seconds=20)
    assert [run.attempt for run in await drain_jobs(functions)] == [2]
    jobs_clock.advance(minutes=2)
    assert [(run.attempt, run.result) for run in await drain_jobs(functions)] == [(3, "now")]


async def test_snoozes_do_not_use_up_the_attempts(
    jobs_db: JobsDatabase, drain_jobs: Any, jobs_clock: JobsClock
) -> None:
    connection = await jobs_db.connect()
    await poll.enqueue(connection, None)
    await connection.close()
    runs = []
    for _ in range(4):
        runs += await drain_jobs(poll)
        jobs_clock.advance(hours=2)
    assert [(run.attempt, run.outcome, run.error, run.result) for run in runs] == [
        (1, "snoozed", "the partner is not ready", None),
        (2, "snoozed", "the partner is not ready", None),
        (3, "snoozed", "the partner is not ready", None),
        (4, "completed", None, [1, 3]),
    ]


async def test_delayed_job_runs_after_the_clock_advanced(
    jobs_db: JobsDatabase, drain_jobs: Any, jobs_clock: JobsClock
) -> None:
    connection = await jobs_db.connect()
    await charge.enqueue(connection, Invoice(id=2), run_at=datetime.now(UTC) + timedelta(hours=3))
    await charge.enqueue(connection, Invoice(id=1), run_at=datetime.now(UTC) + timedelta(hours=2))
    await connection.close()
    assert await drain_jobs(functions) == []
    jobs_clock.advance(hours=1)
    assert await drain_jobs(functions) == []
    jobs_clock.advance(hours=3)
    assert [run.payload["id"] for run in await drain_jobs(functions)] == [1, 2]


async def test_schedule_enqueues_its_job_by_the_clock(
    jobs_db: JobsDatabase, drain_jobs: Any, jobs_clock: JobsClock
) -> None:
    jobs_clock.freeze(NOON)
    jobs_db.execute("select app_jobs.add_scheduled_job('report', '0 9 * * *', '{}'::json)")
    jobs_clock.advance(hours=19)
    assert await drain_jobs(functions) == []
    jobs_clock.advance(hours=2)
    assert [(run.task, run.result) for run in await drain_jobs(functions)] == [("report", "sent")]
    assert await drain_jobs(functions) == []


async def test_drain_timeout_names_the_running_jobs(jobs_db: JobsDatabase, drain_jobs: Any) -> None:

    @task("stuck")
    async def stuck(payload: None) -> None:
        await asyncio.Event().wait()

    connection = await jobs_db.connect()
    job = await stuck.enqueue(connection, None)
    await connection.close()
    with pytest.raises(TimeoutError, match=rf"still running: {int(job)} \(stuck\)"):
        await drain_jobs(stuck, timeout_seconds=0.5)


def test_assert_enqueued_returns_matches_and_lists_the_queue(jobs_db: JobsDatabase, assert_enqueued: Any) -> None:
    with pytest.raises(AssertionError, match="no job of 'charge'; the queue is empty"):
        assert_enqueued(charge)
    assert_enqueued("charge", count=0)
    jobs_db.execute(
        "select app_jobs.add_job("
        "    'charge', json_build_object('id', n), job_key := 'k' || n, run_at := '2040-01-31 12:00Z'"
        ") from generate_series(1, 12) n"
    )
    (row,) = assert_enqueued(charge, Invoice(id=3), key="k3", queue=None, run_at=NOON, priority=0, max_attempts=25)
    assert row["payload"] == {"id": 3}
    assert len(assert_enqueued("charge", count=12)) == 12
    with pytest.raises(AssertionError) as caught:
        assert_enqueued(charge, {"id": 99}, key="k99")
    assert "no job of 'charge' with payload={'id': 99}, key='k99'; the queue contains:" in str(caught.value)
    assert "1 charge payload={'id': 1} key='k1'" in str(caught.value)
    assert "and 2 more" in str(caught.value)
    with pytest.raises(AssertionError, match=r"12 jobs of 'charge', expected 2"):
        assert_enqueued(charge, count=2)
    with pytest.raises(AssertionError, match=r"no job of 'charge' with database_id='5b72"):
        assert_enqueued(charge, database_id=UUID(TENANT))


def test_clock_cannot_go_back() -> None:
    clock = JobsClock(lambda: NOON)
    assert clock.now() == NOON
    with pytest.raises(ValueError, match="needs a time zone"):
        clock.freeze(datetime(2041, 1, 1))  # noqa: DTZ001  - the error under test
    with pytest.raises(ValueError, match="needs a time zone"):
        clock.freeze("2041-01-01")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is in the past"):
        clock.freeze(NOON - timedelta(seconds=1))
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(hours=-1)
    assert clock.at(NOON) == NOON
    clock.advance(days=1)
    assert (clock.now(), clock.offset()) == (NOON + timedelta(days=1), timedelta(days=1))
    assert clock.at(NOON + timedelta(hours=1)) == NOON + timedelta(days=1, hours=1)
    assert clock.at(NOON - timedelta(hours=1)) == NOON - timedelta(hours=1)
    clock.freeze(NOON + timedelta(days=3))
    assert clock.at(NOON + timedelta(hours=1)) == NOON + timedelta(days=3)


def test_target_is_a_module_an_app_or_a_task(jobfn_app: Any) -> None:
    assert set(jobfn_app(charge).app.tasks) == {"charge"}
    with pytest.raises(TaskDefinitionError, match=r"is not a module: pass the module that defines the tasks"):
        jobfn_app("functions.py")


@pytest.mark.parametrize(
    ("dsn", "error", "message"),
    [
        ("postgresql://nobody@127.0.0.1:9/x", DatabaseUnreachable, "127.0.0.1:9/x cannot be reached"),
        ("nonsense", ConfigurationError, "nonsense is not a database address"),
    ],
)
def test_unreachable_server_is_an_error_with_its_variable(
    dsn: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBFN_TEST_DATABASE_URL", dsn)
    with pytest.raises(error, match=message) as raised, JobsServer.start():
        pass
    assert any("JOBFN_TEST_DATABASE_URL names this server" in note for note in raised.value.__notes__)


USERS_TESTS = """
import pytest

from jobfn import task


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def jobs_db_setup(request):
    return request.config.rootpath / "schema.sql"


@task("save_note")
async def save_note(payload: dict) -> str:
    return payload["text"]


async def test_row_enqueues_a_job(jobs_db, drain_jobs, assert_enqueued):
    jobs_db.execute("insert into notes (text) values ('hello')")
    assert_enqueued(save_note, payload={"text": "hello"}, count=1)
    assert [run.result for run in await drain_jobs(save_note)] == ["hello"]
"""
USERS_SCHEMA = """
create table notes (text text);
create function enqueue_note() returns trigger language plpgsql as
    $$ begin perform app_jobs.add_job('save_note', json_build_object('text', new.text)); return new; end $$;
create trigger enqueue_note after insert on notes for each row execute function enqueue_note();
"""


def test_fixtures_work_in_a_project_with_its_own_schema(tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "schema.sql").write_text(USERS_SCHEMA)
    (tmp_path / "test_notes.py").write_text(USERS_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "jobfn", "-p", "anyio"]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "1 passed" in process.stdout, process.stdout + process.stderr


def test_invalid_setup_is_an_error_with_the_fixture_s_name(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBFN_TEST_DATABASE_URL", server.admin_dsn)
    message = "the fixture jobs_db_setup: syntax error"
    with pytest.raises(DatabaseError, match=message), JobsServer.start(setup="create tabel x ()"):
        pass


def test_unused_plugin_imports_nothing_and_deliveries_no_database_driver() -> None:
    code = (
        "import sys, jobfn_pytest\n"
        "assert not {'jobfn', 'asyncpg', 'starlette'} & sys.modules.keys()\n"
        "import jobfn.testing, jobfn.testing.app\n"
        "assert jobfn.testing.DeliveryResult and not {'asyncpg', 'typer'} & sys.modules.keys()\n"
        "assert all(hasattr(jobfn.testing, name) for name in jobfn.testing.__all__)\n"
        "assert not hasattr(jobfn.testing, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
