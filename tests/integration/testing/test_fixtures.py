"""The fixtures of the pytest plugin, as a user's tests use them."""

import asyncio
import contextlib
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
from jobfn.errors import DatabaseUnreachable
from jobfn.testing import JobsClock, JobsDatabase, JobsServer
from support.function_app import ACTOR
from support.jobs import TENANT

NOON = datetime(2040, 1, 31, 12, tzinfo=UTC)


class Invoice(BaseModel):
    """A payload."""

    id: int


@task("charge")
async def charge(payload: Invoice, ctx: JobContext) -> dict[str, Any]:
    """What a job looks like from inside."""
    await ctx.progress(0.5, "half")
    return {"id": payload.id, "attempt": ctx.attempt, "tenant": str(ctx.database_id)}


@task("flaky")
async def flaky(payload: None, ctx: JobContext) -> str:
    """It fails twice, a minute apart."""
    if (ctx.attempt or 0) < 3:
        raise RetryLater("not yet", seconds=60)
    return "now"


@task("hopeless")
def hopeless(payload: None) -> None:
    """It fails for good."""
    raise PermanentError("no such thing")


@task("failing", max_attempts=1)
def failing(payload: None) -> None:
    """It fails as exceptions do, and may only once."""
    raise ValueError("broken")


@task("accepted", background=True)
async def accepted(payload: None, ctx: JobContext) -> str:
    """Answered before it ends."""
    await asyncio.sleep(0)
    return "done"


@task("report", schedule="0 9 * * *", tz="Europe/Paris")
async def report(payload: dict[str, Any]) -> str:
    """Every morning."""
    return "sent"


functions = types.ModuleType("functions")
for each in (charge, flaky, hopeless, failing, accepted, report):
    setattr(functions, each.identifier, each)


async def test_a_delivery_with_its_report(jobfn_app: Any) -> None:
    """The handler sees the headers' ids; response, report and progress are told."""
    delivered = await jobfn_app(functions).deliver(charge, Invoice(id=7), attempt=3, database_id=TENANT, actor_id=ACTOR)
    assert delivered.ok
    assert delivered.status_code == 200
    assert delivered.result == {"id": 7, "attempt": 3, "tenant": TENANT}
    assert delivered.report == {"status": "success"}
    assert delivered.headers["X-Actor-Id"] == ACTOR
    assert delivered.progress == [{"progress": 0.5, "note": "half"}]
    assert delivered.error is None


@pytest.mark.parametrize(
    ("name", "payload", "status", "error", "extra"),
    [
        ("charge", {"id": "x"}, 422, "The payload does not fit charge: id: ", {"permanent": True}),
        ("charge", b"{", 400, "not valid JSON", {}),
        ("hopeless", None, 500, "no such thing", {"permanent": True}),
        ("flaky", None, 500, "not yet", {"retryAfterSeconds": 60.0}),
        ("nowhere", None, 404, "No task 'nowhere' here", {}),
    ],
)
async def test_deliveries_that_fail(
    jobfn_app: Any, name: str, payload: Any, status: int, error: str, extra: dict[str, Any]
) -> None:
    """Each with the report that the callback server gets."""
    delivered = await jobfn_app(functions).deliver(name, payload)
    assert not delivered.ok
    assert delivered.status_code == status
    assert error in delivered.error
    assert extra.items() <= delivered.report.items()


async def test_a_background_tasks_report_is_waited_for(jobfn_app: Any) -> None:
    """The response is 202, the report says how it ended."""
    delivered = await jobfn_app(accepted).deliver(accepted)
    assert (delivered.status_code, delivered.ok) == (202, True)


async def test_without_a_report_the_response_is_told(jobfn_app: Any) -> None:
    """401 is reported to nobody."""
    app = jobfn_app(accepted, settings=FunctionSettings(invoke_secrets=["s"]))
    delivered = await app.deliver(accepted)
    assert (delivered.status_code, delivered.report, delivered.ok, delivered.error) == (401, None, False, None)


async def test_an_app_that_is_made_already(jobfn_app: Any) -> None:
    """An app of create_app's can be tested as it is, its lifespan once around all deliveries; options come too late."""
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


async def test_jobs_run_until_the_queue_is_empty(jobs_db: JobsDatabase, drain_jobs: Any) -> None:
    """Each delivery's end is told in order, with what the handler returned, or why it failed."""
    connection = await jobs_db.connect()
    first = await charge.enqueue(connection, Invoice(id=1), database_id=TENANT)
    second = await hopeless.enqueue(connection, None)
    third = await failing.enqueue(connection, None)
    fourth = await accepted.enqueue(connection, None)
    await connection.close()

    ended = {each.job_id: each for each in await drain_jobs(functions)}
    assert {job: each.outcome for job, each in ended.items()} == {
        first: "completed",
        second: "failed_for_good",
        third: "failed_for_good",
        fourth: "completed",
    }
    assert ended[first].result == {"id": 1, "attempt": 1, "tenant": TENANT}
    assert ended[first].payload == {"id": 1}
    assert ended[second].error == "no such thing"
    assert ended[third].error == "broken"
    assert [row["last_error"] for row in jobs_db.fetch("select last_error from app_jobs.jobs order by id")] == [
        "no such thing",
        "broken",
    ]


async def test_an_empty_queue(drain_jobs: Any) -> None:
    """Nothing is due: nothing is told."""
    assert await drain_jobs(functions) == []


async def test_jobs_that_handlers_add_run_too(jobs_db: JobsDatabase, drain_jobs: Any) -> None:
    """A chain is followed to its end; one without an end is stopped."""

    @task("countdown")
    async def countdown(payload: int) -> None:
        if payload:
            connection = await jobs_db.connect()
            await enqueue(connection, "countdown", payload - 1)
            await connection.close()

    connection = await jobs_db.connect()
    await countdown.enqueue(connection, 3)
    assert [each.payload for each in await drain_jobs(countdown)] == [3, 2, 1, 0]
    await countdown.enqueue(connection, 50)
    with pytest.raises(AssertionError, match="does a job enqueue itself"):
        await drain_jobs(countdown, max_jobs=5)
    await connection.close()


async def test_time_passes_for_retries(jobs_db: JobsDatabase, drain_jobs: Any, advance: Any, freeze: Any) -> None:
    """A failed job is tried again when its time has come by the test's clock, and not before."""
    freeze(NOON)
    connection = await jobs_db.connect()
    await flaky.enqueue(connection, None)
    await connection.close()

    (first,) = await drain_jobs(functions)
    assert (first.outcome, first.attempt) == ("failed", 1)
    assert abs(first.retry_at - NOON - timedelta(seconds=60)) < timedelta(seconds=5)
    assert await drain_jobs(functions) == []
    assert advance(seconds=50) == timedelta(seconds=50)
    assert await drain_jobs(functions) == []
    advance(seconds=20)
    assert [each.attempt for each in await drain_jobs(functions)] == [2]
    advance(minutes=2)
    assert [(each.attempt, each.result) for each in await drain_jobs(functions)] == [(3, "now")]


async def test_time_passes_for_run_at(jobs_db: JobsDatabase, drain_jobs: Any, advance: Any) -> None:
    """Without a frozen clock, too, a delayed job runs when time was set on to it."""
    connection = await jobs_db.connect()
    await charge.enqueue(connection, Invoice(id=2), run_at=datetime.now(UTC) + timedelta(hours=3))
    await charge.enqueue(connection, Invoice(id=1), run_at=datetime.now(UTC) + timedelta(hours=2))
    await connection.close()
    assert await drain_jobs(functions) == []
    advance(hours=1)
    assert await drain_jobs(functions) == []
    advance(hours=3)
    assert [each.payload["id"] for each in await drain_jobs(functions)] == [1, 2]


async def test_schedules_make_their_jobs(jobs_db: JobsDatabase, drain_jobs: Any, freeze: Any, advance: Any) -> None:
    """A schedule's due time makes a job by the test's clock."""
    freeze(NOON)
    jobs_db.execute("select app_jobs.add_scheduled_job('report', '0 9 * * *', '{}'::json)")
    advance(hours=19)
    assert await drain_jobs(functions) == []
    advance(hours=2)
    assert [(each.task, each.result) for each in await drain_jobs(functions)] == [("report", "sent")]
    assert await drain_jobs(functions) == []


async def test_a_handler_that_never_ends(jobs_db: JobsDatabase, drain_jobs: Any) -> None:
    """The time limit says what was still running."""

    @task("stuck")
    async def stuck(payload: None) -> None:
        await asyncio.Event().wait()

    connection = await jobs_db.connect()
    job = await stuck.enqueue(connection, None)
    await connection.close()
    with pytest.raises(TimeoutError, match=rf"still running: {int(job)} \(stuck\)"):
        await drain_jobs(stuck, timeout_seconds=0.5)


def test_what_is_enqueued(jobs_db: JobsDatabase, assert_enqueued: Any) -> None:
    """In a sync test, too: what fits is returned, what does not is shown."""
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
    with pytest.raises(AssertionError) as told:
        assert_enqueued(charge, {"id": 99}, key="k99")
    assert "no job of 'charge' with payload={'id': 99}, key='k99'; the queue holds:" in str(told.value)
    assert "1 charge payload={'id': 1} key='k1'" in str(told.value)
    assert "and 2 more" in str(told.value)
    with pytest.raises(AssertionError, match=r"12 jobs of 'charge', where 2 should be"):
        assert_enqueued(charge, count=2)
    with pytest.raises(AssertionError, match=r"no job of 'charge' with database_id='5b72"):
        assert_enqueued(charge, database_id=UUID(TENANT))


def test_each_test_has_a_database_of_its_own(jobs_db: JobsDatabase) -> None:
    """What the tests before have added is not here."""
    assert jobs_db.fetch("select count(*) as jobs from app_jobs.jobs") == [{"jobs": 0}]


def test_a_clock_goes_on_only() -> None:
    """Times without a zone, times that are over and steps back are refused."""
    clock = JobsClock(lambda: NOON)
    assert clock.now() == NOON
    with pytest.raises(ValueError, match="time zone"):
        clock.freeze(datetime(2041, 1, 1))  # noqa: DTZ001  - that is the mistake
    with pytest.raises(ValueError, match="time zone"):
        clock.freeze("2041-01-01")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="is over"):
        clock.freeze(NOON - timedelta(seconds=1))
    with pytest.raises(ValueError, match="not back"):
        clock.advance(hours=-1)
    assert clock.at(NOON) == NOON
    clock.advance(days=1)
    assert (clock.now(), clock.ahead()) == (NOON + timedelta(days=1), timedelta(days=1))
    assert clock.at(NOON + timedelta(hours=1)) == NOON + timedelta(days=1, hours=1)
    assert clock.at(NOON - timedelta(hours=1)) == NOON - timedelta(hours=1)
    clock.freeze(NOON + timedelta(days=3))
    assert clock.at(NOON + timedelta(hours=1)) == NOON + timedelta(days=3)


@pytest.mark.parametrize("wrong", ["functions.py", charge.handler, charge])
def test_what_holds_no_tasks_is_told(wrong: Any, jobfn_app: Any) -> None:
    """A file's name, a handler, a task by itself: what to give instead."""
    if wrong is charge:
        assert set(jobfn_app(wrong).app.tasks) == {"charge"}
    else:
        with pytest.raises(TaskDefinitionError, match=r"is not a module: pass the module that defines the tasks"):
            jobfn_app(wrong)
    with pytest.raises(TaskDefinitionError, match=r"is not a module"):
        create_app(wrong)


@pytest.mark.parametrize(
    ("address", "error", "told"),
    [
        ("postgresql://nobody@127.0.0.1:9/x", DatabaseUnreachable, "127.0.0.1:9/x cannot be reached"),
        ("nonsense", ConfigurationError, "nonsense is no database address"),
    ],
)
def test_a_server_that_is_not_there_is_named(
    address: str, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the variable that names it."""
    monkeypatch.setenv("JOBFN_TEST_DATABASE_URL", address)
    with pytest.raises(error, match=told) as raised, JobsServer.started():
        pass
    assert any("JOBFN_TEST_DATABASE_URL names it" in note for note in raised.value.__notes__)


USERS_TESTS = """
import pytest

from jobfn import task


@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="session")
def jobs_db_setup(request):
    return request.config.rootpath / "schema.sql"


@task("noted")
async def noted(payload: dict) -> str:
    return payload["text"]


async def test_a_row_makes_a_job(jobs_db, drain_jobs, assert_enqueued):
    jobs_db.execute("insert into notes (text) values ('hello')")
    assert_enqueued(noted, payload={"text": "hello"}, count=1)
    assert [ended.result for ended in await drain_jobs(noted)] == ["hello"]
"""
USERS_SCHEMA = """
create table notes (text text);
create function tell() returns trigger language plpgsql as
    $$ begin perform app_jobs.add_job('noted', json_build_object('text', new.text)); return new; end $$;
create trigger tell after insert on notes for each row execute function tell();
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest in a folder of a user's, in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_a_users_own_project(tmp_path: Path) -> None:
    """The fixtures are there without any import; the user's own schema is in every database."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n")
    (tmp_path / "schema.sql").write_text(USERS_SCHEMA)
    (tmp_path / "test_notes.py").write_text(USERS_TESTS)
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_a_setup_that_postgres_refuses(tmp_path: Path) -> None:
    """What is wrong with the user's SQL is told, with the fixture's name."""
    (tmp_path / "test_x.py").write_text(
        "import pytest\n"
        "@pytest.fixture(scope='session')\ndef jobs_db_setup():\n    return 'create tabel x ()'\n"
        "def test_x(jobs_db):\n    pass\n"
    )
    done = run_pytest(tmp_path)
    assert "jobs_db_setup was refused: syntax error" in done.stdout


def test_unused_the_plugin_loads_nothing(tmp_path: Path) -> None:
    """A test run without jobfn's fixtures imports none of jobfn."""
    (tmp_path / "test_x.py").write_text(
        "import sys\n"
        "def test_x():\n"
        "    assert 'jobfn_pytest' in sys.modules\n"
        "    assert not [name for name in sys.modules if name.partition('.')[0] in {'jobfn', 'asyncpg', 'starlette'}]\n"
    )
    done = run_pytest(tmp_path)
    assert "1 passed" in done.stdout, done.stdout


def test_deliveries_need_no_database_driver() -> None:
    """A function's project tests its deliveries with jobfn alone; the rest is there when it is asked for."""
    code = (
        "import sys, jobfn.testing, jobfn.testing.app\n"
        "assert jobfn.testing.Delivered and not {'asyncpg', 'typer'} & sys.modules.keys()\n"
        "assert all(hasattr(jobfn.testing, name) for name in jobfn.testing.__all__)\n"
        "assert not hasattr(jobfn.testing, 'nothing')"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
