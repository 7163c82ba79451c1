"""What tests of several folders speak of: jobs in a database, and functions that record what reaches them."""

import asyncio
import json
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import asyncpg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from jobfn.database.jobs import Job, JobStore, NewJob, SingleStore, enqueue

T = TypeVar("T")
LOOPBACK = "127.0.0.1"
WORKER = "worker-under-test"
TENANT = "5b720132-17d5-424d-9bcb-ee7b17c13d43"


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


async def eventually(condition: Callable[[], Awaitable[T]], *, seconds: float = 10.0) -> T:
    """Ask until the answer is true, at most for so many seconds; returns the answer."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):  # noqa: ASYNC110  - what is asked lies in another process
            await asyncio.sleep(0.01)
    return found


async def settle(
    connection: "asyncpg.Connection[Any]", *ends: tuple[str | None, int | None, int | None, str | None]
) -> list["asyncpg.Record"]:
    """End jobs in one statement: each by its worker, its id, its attempt (None: any) and its error (None: done)."""
    workers, ids, attempts, errors = (list(column) for column in zip(*ends, strict=True)) if ends else ([], [], [], [])
    return list(
        await connection.fetch(
            "select * from app_jobs.settle_held_jobs($1, $2, $3, $4, $5, $6)",
            workers,
            ids,
            attempts,
            ["completed" if error is None else "failed" for error in errors],
            errors,
            [None for _ in ends],
        )
    )


@dataclass(frozen=True)
class Jobs:
    """The jobs of one database, as a test asks for them."""

    connection: "asyncpg.Connection[Any]"

    async def add(self, task: str, payload: object = None, **options: object) -> int:
        """Call add_job with these arguments, by name; returns the id."""
        named = "".join(f", {name} := ${number}" for number, name in enumerate(options, 3))
        found: int = await self.connection.fetchval(
            f"select (app_jobs.add_job(identifier := $1, payload := $2::text{named})).id",
            task,
            json.dumps({} if payload is None else payload),
            *options.values(),
        )
        return found

    async def row(self, job: int) -> "asyncpg.Record | None":
        """The job's row."""
        return await self.connection.fetchrow("select * from app_jobs.jobs where id = $1", job)

    async def claim(self, worker: str = WORKER, tasks: list[str] | None = None) -> "asyncpg.Record | None":
        """Call get_job; returns the job's row, None where there is none."""
        row = await self.connection.fetchrow("select * from app_jobs.get_job($1, $2)", worker, tasks)
        assert row is not None, "get_job returns a row in any case"
        return row if row["id"] is not None else None

    async def queue(self, name: str) -> "asyncpg.Record | None":
        """The named queue's row in job_queues."""
        return await self.connection.fetchrow("select * from app_jobs.job_queues where queue_name = $1", name)

    async def count(self) -> int:
        """How many rows there are."""
        found: int = await self.connection.fetchval("select count(*) from app_jobs.jobs")
        return found

    async def until_gone(self, *jobs: int, seconds: float = 10.0) -> None:
        """Wait until these jobs are completed; without any, until there is none at all."""

        async def gone() -> bool:
            left = "select not exists (select from app_jobs.jobs where $1::bigint[] = '{}' or id = any ($1))"
            return bool(await self.connection.fetchval(left, jobs))

        await eventually(gone, seconds=seconds)

    async def until_failed(self, job: int, *, attempts: int = 1, seconds: float = 10.0) -> "asyncpg.Record":
        """Wait until a job has failed so many times and nobody holds it; returns its row."""

        async def failed() -> "asyncpg.Record | None":
            return await self.connection.fetchrow(
                "select * from app_jobs.jobs where id = $1 and locked_at is null and attempts >= $2", job, attempts
            )

        row = await eventually(failed, seconds=seconds)
        assert row is not None
        return row

    async def until_held(self, job: int, *, seconds: float = 10.0) -> "asyncpg.Record":
        """Wait until a worker holds a job; returns its row."""

        async def held() -> "asyncpg.Record | None":
            return await self.connection.fetchrow(
                "select * from app_jobs.jobs where id = $1 and locked_at is not null", job
            )

        row = await eventually(held, seconds=seconds)
        assert row is not None
        return row


@dataclass(frozen=True)
class Stage:
    """A store, and a connection that looks over its shoulder."""

    store: JobStore
    connection: "asyncpg.Connection[Any]"
    is_platform: bool
    has_ids: bool

    async def add(self, task: str = "x", **options: Any) -> int:
        """Enqueue for a tenant, as both schemas can."""
        return await enqueue(self.connection, "app_jobs", NewJob(task, database_id=TENANT, **options))

    async def claim(
        self,
        worker: str = WORKER,
        *,
        limit: int = 1,
        tasks: list[str] | None = None,
        lease_seconds: float | None = None,
        except_tasks: Sequence[str] = (),
    ) -> list[Job]:
        """What the store gives this worker."""
        return await self.store.claim(
            worker, tasks=tasks, limit=limit, lease_seconds=lease_seconds, except_tasks=except_tasks
        )

    async def row(self, job: int) -> "asyncpg.Record | None":
        """The job's row."""
        return await self.connection.fetchrow("select * from app_jobs.jobs where id = $1", job)

    async def pass_time(self, seconds: float) -> None:
        """Make all locks, and their leases, older."""
        columns = ["locked_at"]
        if await self.connection.fetchval("select to_regclass('app_jobs.queue_locks') is not null"):
            columns.append("lease_expires_at")
            await self.connection.execute(
                """
                update app_jobs.queue_locks
                set locked_at = locked_at - $1 * interval '1 second',
                    lease_expires_at = lease_expires_at - $1 * interval '1 second'
                """,
                seconds,
            )
        if isinstance(self.store, SingleStore):
            columns.append("run_at")  # where it keeps the lease
        changes = ", ".join(f"{column} = {column} - $1 * interval '1 second'" for column in columns)
        await self.connection.execute(f"update app_jobs.jobs set {changes} where locked_at is not null", seconds)


class ConnectTo(Protocol):
    """The fixture ``connect_to``: opens a connection to a database; settings of the session by name."""

    def __call__(self, dsn: str, **settings: str) -> "Awaitable[asyncpg.Connection[Any]]": ...


class Connect(Protocol):
    """The fixture ``connect``: the same, to the test's own database."""

    def __call__(self, **settings: str) -> "Awaitable[asyncpg.Connection[Any]]": ...


class Heard(Protocol):
    """The fixture ``heard``: runs a statement and returns what it announced: channels and payloads."""

    def __call__(self, statement: str, *arguments: object) -> Awaitable[list[tuple[str, str]]]: ...


@dataclass(frozen=True)
class Received:
    """A request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class RecordingFunction:
    """A function that is no jobfn: it records, answers as told, and reports nothing."""

    received: list[Received] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _respond: Callable[[], Awaitable[Response]] | None = None

    def answer(self, status: int = 200, content: object = None, headers: dict[str, str] | None = None) -> None:
        """Answer so from now on."""

        async def respond() -> Response:
            return JSONResponse(content, status, headers=headers)

        self._respond = respond

    def hold(self) -> asyncio.Event:
        """Answer nothing until the returned event is set."""
        gate = asyncio.Event()

        async def respond() -> Response:
            await gate.wait()
            return JSONResponse(None)

        self._respond = respond
        return gate

    @property
    def app(self) -> Starlette:
        """The ASGI app."""

        async def take(request: Request) -> Response:
            body = await request.body()
            path = request.scope["raw_path"].decode()
            self.received.append(Received(path, dict(request.headers), json.loads(body)))
            self.arrived.set()
            return await self._respond() if self._respond is not None else JSONResponse(None)

        return Starlette(routes=[Route("/{path:path}", take, methods=["POST"])])


@dataclass
class Service:
    """A platform side that runs in the test's loop."""

    callback_url: str
    stop: Callable[[], Awaitable[None]]


class Serve(Protocol):
    """The fixture ``serve``: serves an ASGI app on a free port, returns its base URL."""

    def __call__(self, app: ASGIApp) -> Awaitable[str]: ...


class StartService(Protocol):
    """The fixture ``start_service``: runs a platform side for the functions at this URL; settings by field name."""

    def __call__(self, gateway_url: str, **settings: object) -> Awaitable[Service]: ...


class RunningCommand(Protocol):
    """A command that runs, and what it has said so far."""

    lines: list[str]
    process: asyncio.subprocess.Process

    async def until(self, text: str, *, times: int = 1, seconds: float = 30.0) -> str:
        """Wait until so many lines hold this text; returns the last of them."""

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""

    async def ended(self, *, seconds: float = 30.0) -> int:
        """Wait for its end; returns the exit code."""


class Spawn(Protocol):
    """The fixture ``spawn``: starts a command, in ``tmp_path`` or its ``PWD``.

    ``jobfn`` and ``python`` are this environment's.
    """

    def __call__(self, *command: str, **env: str) -> Awaitable[RunningCommand]: ...


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, and what it said on both streams."""

    code: int
    output: str


class Command(Protocol):
    """The fixture ``command``: runs a command to its end."""

    def __call__(self, *command: str, **env: str) -> Awaitable[Finished]: ...
