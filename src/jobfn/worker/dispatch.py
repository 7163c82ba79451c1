"""Deliver a job: its URL, its headers, and the meaning of the response (contract, section 1).

``Routes``, ``delivery_headers`` and ``parse_response`` are pure. The result of a delivery is a value; ``worker.py``
matches on it.
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
#: Maximum length of the response body in an error message.
_MAX_EXCERPT_CHARACTERS = 500
#: Maximum number of digits in a Retry-After header.
_MAX_RETRY_AFTER_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The response completes the job, perhaps with a result to store."""

    kept: StoredResult | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The response fails the attempt.

    Attributes:
        error: The response's message; its URL, status and body if it has none.
        permanent: Whether the job must not be retried.
        retry_after_seconds: Delay before the retry; None: the contract's backoff.
    """

    error: str
    permanent: bool = False
    retry_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The function runs the job in the background (HTTP 202), and will report its outcome."""


@dataclass(frozen=True, slots=True)
class Unreachable:
    """There was no response: the connection failed, or the request timed out."""

    error: str


@dataclass(frozen=True, slots=True)
class Busy:
    """The function, or a proxy before it, accepts no more jobs at present (HTTP 429 or 503, ``Retry-After``)."""

    error: str
    retry_after_seconds: float | None = None


DeliveryResult = Succeeded | Failed | Accepted | Busy | Unreachable


class Deliverer(Protocol):
    """Delivers jobs to their tasks: over HTTP (``Dispatcher``), or in this process (``InProcessDispatcher``)."""

    async def deliver(self, job: Job) -> DeliveryResult:
        """Run a job. Failures are results, not exceptions."""


@dataclass(frozen=True, slots=True)
class CallbackConfig:
    """How a function reports on a delivery.

    Attributes:
        callback_url: URL for the outcome; None: the response is the outcome.
        batch_url: URL for several outcomes in one request; None: not supported.
        invoke_secret: Shared secret that the function may require; None: not sent.
    """

    callback_url: str | None
    heartbeat_url: str
    lease_seconds: float
    batch_url: str | None = None
    invoke_secret: str | None = None


@dataclass(frozen=True, slots=True)
class Routes:
    """The URLs of tasks.

    Attributes:
        gateway_url: Base URL of the functions; a ``{task}`` in it is filled in (``wire.task_url``).
        by_task: URLs of single tasks, used unchanged. They take precedence.
    """

    gateway_url: str
    by_task: Mapping[str, str]

    def url_for(self, task: str) -> str:
        """Return the URL that jobs of this task are POSTed to."""
        return self.by_task.get(task) or task_url(self.gateway_url, task)


def delivery_headers(job: Job, *, worker_id: str, callbacks: CallbackConfig) -> dict[str, str]:
    """Return the headers of a delivery. Headers without a value are omitted."""
    headers = {
        "Content-Type": "application/json",
        WORKER_ID: worker_id,
        JOB_ID: str(job.id),
        JOB_ATTEMPT: str(job.attempt),
        HEARTBEAT_URL: callbacks.heartbeat_url,
        LEASE_SECONDS: f"{callbacks.lease_seconds:g}",
    }
    optional = {
        CALLBACK_URL: callbacks.callback_url,
        CALLBACK_BATCH: callbacks.batch_url,
        DATABASE_ID: job.database_id,
        ACTOR_ID: job.actor_id,
        ENTITY_ID: job.entity_id,
        INVOKE_SECRET: callbacks.invoke_secret,
    }
    return headers | {name: value for name, value in optional.items() if value is not None}


class Dispatcher:
    """Delivers jobs over HTTP."""

    def __init__(
        self,
        transport: Transport,
        *,
        routes: Routes,
        worker_id: str,
        callback_config: Callable[[Job], CallbackConfig],
        request_timeout_seconds: float,
        tracing: Tracing = GLOBAL,
    ) -> None:
        self._transport = transport
        self._routes = routes
        self._worker_id = worker_id
        self._callback_config = callback_config
        self._timeout_seconds = request_timeout_seconds
        self._tracing = tracing

    async def deliver(self, job: Job) -> DeliveryResult:
        """POST a job to its function. See ``Deliverer.deliver``."""
        url = self._routes.url_for(job.task)
        headers = delivery_headers(job, worker_id=self._worker_id, callbacks=self._callback_config(job))
        trace = self._tracing.propagate(job.trace)
        if trace is not None:
            headers |= trace.headers()
        try:
            response = await self._transport.post(
                url, body=job.payload.encode(), headers=headers, timeout_seconds=self._timeout_seconds
            )
        except TransportError as error:
            return Unreachable(str(error))
        return parse_response(response, url)


def parse_response(response: Response, url: str) -> DeliveryResult:
    """Return what a function's response means for the job (contract, section 2)."""
    if response.status in BUSY_STATUSES and JOB_ERROR not in response.headers:
        return Busy(_error_message(response, url), _parse_retry_after(response.headers.get("Retry-After")))
    if is_failure(response.status, response.headers):
        failure = Failure.from_json(response.body)
        return Failed(failure.error or _error_message(response, url), failure.permanent, failure.retry_after_seconds)
    if response.status == ACCEPTED_STATUS:
        return Accepted()
    return Succeeded(StoredResult.from_response(response.headers, response.body))


def _parse_retry_after(header: str | None) -> float | None:
    """Return a Retry-After header in seconds; None if it is a date: the throttle then chooses the pause."""
    text = (header or "").strip()
    return float(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_RETRY_AFTER_DIGITS else None


def _error_message(response: Response, url: str) -> str:
    body = response.body.decode("utf-8", "replace").strip()
    excerpt = f": {body[:_MAX_EXCERPT_CHARACTERS]}" if body else ""
    return f"{redact_url(url)} responded with {response.status}{excerpt}"
