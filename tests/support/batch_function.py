"""Functions that accept batches: one without jobfn, and a proxy of another one. Both record; and jobs for them."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import asyncpg
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobfn.http.messages import read_body
from support.jobs import Jobs
from support.network import eventually

CONTENT_TYPE = "application/x-ndjson"
CONTENT_LENGTH = b"content-length"
#: Headers of a response to a single job, after which the worker sends batches of up to 50 jobs.
OFFER = [(b"x-settle-on", b"response"), (b"x-accept-batch", b"50"), (b"x-handler-seconds", b"0.000001")]


@dataclass(frozen=True)
class ReceivedDelivery:
    """A request as it arrived: its job headers, and its payload or body."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def jobs(self) -> "list[ReceivedDelivery]":
        """The jobs of a batch."""
        lines = self.body.removesuffix(b"\n").split(b"\n")
        return [
            ReceivedDelivery(self.path, {name.lower(): value for name, value in json.loads(own).items()}, payload)
            for own, payload in zip(lines[::2], lines[1::2], strict=True)
        ]

    @property
    def job_ids(self) -> list[int]:
        """The ids of the jobs of a batch."""
        return [int(job.headers["x-job-id"]) for job in self.jobs]


#: Responds to a batch.
RespondToBatch = Callable[[ReceivedDelivery, Send], Awaitable[None]]


@dataclass
class Recorded:
    """The requests that arrived.

    Attributes:
        singles: Those with a single job.
        batches: Those with several jobs.
    """

    singles: list[ReceivedDelivery] = field(default_factory=list)
    batches: list[ReceivedDelivery] = field(default_factory=list)
    batch_arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, scope: Scope, body: bytes) -> ReceivedDelivery:
        """Record a request."""
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        received = ReceivedDelivery(scope["path"], headers, body)
        if headers["content-type"] == CONTENT_TYPE:
            self.batches.append(received)
            self.batch_arrived.set()
        else:
            self.singles.append(received)
        return received


@dataclass
class BatchFunction(Recorded):
    """An ASGI app that completes single jobs and offers batches, to which it responds as configured."""

    respond: RespondToBatch | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record and respond to one request."""
        if scope["type"] != "http":
            raise ValueError("there is no lifespan")
        received = self.record(scope, await read_body(receive, limit=10_000_000))
        if received.headers["content-type"] == CONTENT_TYPE and self.respond is not None:
            await self.respond(received, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*OFFER, (b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"null"})


@dataclass
class RecordingProxy(Recorded):
    """An ASGI app that records the requests of another one, whose handlers seem to take a microsecond."""

    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        assert self.app is not None, "set app first"
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = await read_body(receive, limit=10_000_000)
        self.record(scope, body)
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive_again() -> Message:
            return messages.pop() if messages else await receive()

        async def send_quick(message: Message) -> None:
            if message["type"] == "http.response.start":
                # the new body may be shorter
                headers = [each for each in message["headers"] if each[0] not in {b"x-handler-seconds", CONTENT_LENGTH}]
                message = {**message, "headers": [*headers, (b"x-handler-seconds", b"0.000001")]}
            elif "body" in message:
                quick = re.sub(rb'"seconds": ?[0-9.e-]+', b'"seconds": 0.000001', message["body"])
                message = {**message, "body": quick}
            await send(message)

        await self.app(scope, receive_again, send_quick)


def respond_with(
    *parts: bytes, status: int = 200, headers: Iterable[tuple[str, str]] = (), breaks: bool = False
) -> RespondToBatch:
    """Respond to each batch with these parts of a body; if it breaks, the connection is closed before the end."""

    async def respond(_batch: ReceivedDelivery, send: Send) -> None:
        raw = [(b"content-type", CONTENT_TYPE.encode())] if status == 200 and not headers else []
        raw += [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        if not breaks:
            await send({"type": "http.response.body", "body": b""})

    return respond


def line(job: int | str, status: int = 200, **members: object) -> bytes:
    """Return the line of a job in a response."""
    return json.dumps({"job": str(job), "status": status, "seconds": 0.000001} | members).encode() + b"\n"


def complete_all(batch: ReceivedDelivery, send: Send) -> Awaitable[None]:
    """Respond that all jobs have succeeded."""
    return respond_with(*(line(job_id) for job_id in batch.job_ids))(batch, send)


async def add_many(jobs: Jobs, count: int, name: str = "t", payload: str = "{}") -> list[int]:
    """Add jobs in one statement, so that one claim finds all of them."""
    statement = "select (app_jobs.add_job($1, $2::json)).id from generate_series(1, $3)"
    return [row["id"] for row in await jobs.connection.fetch(statement, name, payload, count)]


async def add_payloads(jobs: Jobs, name: str, *payloads: object) -> list[int]:
    """Add a job for each payload, in one statement."""
    statement = """
        select (app_jobs.add_job($1, payload::json)).id
        from unnest($2::text[]) with ordinality as given (payload, position) order by position
    """
    rows = await jobs.connection.fetch(statement, name, [json.dumps(payload) for payload in payloads])
    return [row["id"] for row in rows]


async def run_now(jobs: Jobs, ids: list[int]) -> None:
    """Make failed jobs due, and wake the worker with another job."""
    await jobs.connection.execute("select app_jobs.reschedule_jobs($1, now())", ids)
    await jobs.add("t")


async def rows_of(jobs: Jobs, ids: list[int]) -> dict[int, asyncpg.Record]:
    rows = await jobs.connection.fetch("select * from app_jobs.jobs where id = any ($1)", ids)
    return {row["id"]: row for row in rows}


async def until_settled(jobs: Jobs, ids: list[int]) -> dict[int, asyncpg.Record]:
    """Wait until these jobs are unlocked or completed; return the rows of those that are not completed."""

    async def settled() -> list[dict[int, asyncpg.Record]]:
        rows = await rows_of(jobs, ids)
        is_settled = all(
            row["locked_by"] is None and (row["exhausted"] or row["run_at"] > row["updated_at"])
            for row in rows.values()
        )
        return [rows] if is_settled else []

    return (await eventually(settled))[0]
