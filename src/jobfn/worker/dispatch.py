"""Delivering one job: where it goes, what it carries, what came back (contract, section 1).

``Routes`` and ``headers_of`` are pure. What came back is a value; ``worker.py`` matches on it and settles.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from jobfn.database.records import Job
from jobfn.errors import TransportError
from jobfn.http.client import Response, Transport
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import (
    ACTOR_ID,
    CALLBACK_BATCH,
    CALLBACK_URL,
    DATABASE_ID,
    ENTITY_ID,
    HEARTBEAT_URL,
    INVOKE_SECRET,
    JOB_ATTEMPT,
    JOB_ERROR,
    JOB_ID,
    LEASE_SECONDS,
    WORKER_ID,
    Failure,
    StoredResult,
    is_failure,
    redact_url,
    task_url,
)

ACCEPTED_STATUS = 202
BUSY_STATUSES = frozenset({429, 503})
_SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The function's response says that the job is done.

    Attributes:
        kept: What the handler returned, where it is to be kept and this process knows it.
    """

    kept: StoredResult | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The function's response says that the job failed.

    Attributes:
        error: Why: its message, or its status and URL where it has none.
        permanent: Whether it asked not to be tried again.
        retry_after_seconds: When it asked to be tried again, if it did.
    """

    error: str
    permanent: bool = False
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The function will report later (HTTP 202): only its report decides."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No response came: the connection failed, or the function took too long.

    Attributes:
        error: What happened, with the URL.
    """

    error: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The function, or what stands before it, takes no more now (HTTP 429 or 503): not the job's failure.

    Attributes:
        error: What it said, with the URL.
        retry_after_seconds: When to come back, where it said so.
    """

    error: str
    retry_after_seconds: float | None = None


Delivery = Succeeded | Failed | Accepted | Busy | Unreachable


class Deliverer(Protocol):
    """What takes a job to its task: over HTTP (``Dispatcher``), or in this process."""

    async def deliver(self, job: Job) -> Delivery:
        """Have a job run. Raises nothing: every end is a value."""


@dataclass(frozen=True, slots=True)
class CallbackConfig:
    """How a function is to report on one delivery.

    Attributes:
        callback_url: Where its outcome goes; None: the response alone says it.
        batch_url: Where it may go together with others.
        heartbeat_url: Where its signs of life go.
        lease_seconds: For how long each of them keeps the job's lock.
        invoke_secret: What the function may want to hear first; None: nothing.
    """

    callback_url: str | None
    heartbeat_url: str
    lease_seconds: float
    batch_url: str | None = None
    invoke_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """Where each task lives.

    Attributes:
        gateway_url: The base URL of the functions; ``{task}`` in it is filled in (``wire.task_url``).
        by_task: URLs of single tasks, used whole and as they are, before the gateway.
    """

    gateway_url: str
    by_task: Mapping[str, str]

    def url_of(self, task: str) -> str:
        """The URL to POST a job of this task to."""
        mapped = self.by_task.get(task)
        return mapped or task_url(self.gateway_url, task)


def headers_of(job: Job, *, worker_id: str, reporting: CallbackConfig) -> dict[str, str]:
    """What a delivery carries; a header whose value is absent is left out."""
    headers = {
        "Content-Type": "application/json",
        WORKER_ID: worker_id,
        JOB_ID: str(job.id),
        JOB_ATTEMPT: str(job.attempt),
        HEARTBEAT_URL: reporting.heartbeat_url,
        LEASE_SECONDS: f"{reporting.lease_seconds:g}",
    }
    optional = {
        CALLBACK_URL: reporting.callback_url,
        CALLBACK_BATCH: reporting.batch_url,
        DATABASE_ID: job.database_id,
        ACTOR_ID: job.actor_id,
        ENTITY_ID: job.entity_id,
        INVOKE_SECRET: reporting.invoke_secret,
    }
    return headers | {name: value for name, value in optional.items() if value is not None}


class Dispatcher:
    """Delivers jobs.

    Args:
        transport: What carries them.
        routes: Where each task lives.
        worker_id: Goes into ``X-Worker-Id``.
        reporting: How a function is to report on a job.
        request_timeout_seconds: How long a function may take to answer, in seconds.
        tracing: Says which trace to hand on.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        routes: Routes,
        worker_id: str,
        reporting: Callable[[Job], CallbackConfig],
        request_timeout_seconds: float,
        tracing: Tracing = GLOBAL,
    ) -> None:
        self._tracing = tracing
        self._transport = transport
        self._routes = routes
        self._worker_id = worker_id
        self._reporting = reporting
        self._request_seconds = request_timeout_seconds

    async def deliver(self, job: Job) -> Delivery:
        """POST a job to its function and read what came of it. Raises nothing: every end is a value."""
        url = self._routes.url_of(job.task)
        headers = headers_of(job, worker_id=self._worker_id, reporting=self._reporting(job))
        trace = self._tracing.propagate(job.trace)
        if trace is not None:
            headers |= trace.headers()
        try:
            answer = await self._transport.post(
                url,
                body=job.payload.encode(),
                headers=headers,
                timeout_seconds=self._request_seconds,
            )
        except TransportError as error:
            return Unreachable(str(error))
        return parse_response(answer, url)


def parse_response(answer: Response, url: str) -> Delivery:
    """What a function's response says of the job (contract, section 2)."""
    if answer.status in BUSY_STATUSES and JOB_ERROR not in answer.headers:
        said = f"{redact_url(url)} answered {answer.status}{_excerpt(answer.body)}"
        return Busy(said, _seconds(answer.headers.get("Retry-After")))
    if is_failure(answer.status, answer.headers):
        failure = Failure.from_json(answer.body)
        return Failed(
            failure.error or f"{redact_url(url)} answered {answer.status}{_excerpt(answer.body)}",
            permanent=failure.permanent,
            retry_after_seconds=failure.retry_after_seconds,
        )
    if answer.status == ACCEPTED_STATUS:
        return Accepted()
    return Succeeded(StoredResult.from_response(answer.headers, answer.body))


def _seconds(retry_after: str | None) -> float | None:
    """A Retry-After header in seconds; one that names a date instead is left to our own pauses."""
    text = (retry_after or "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None


def _excerpt(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    return f": {text[:_SHOWN_CHARACTERS]}" if text else ""
