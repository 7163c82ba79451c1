"""Delivering one job: where it goes, what it carries, what came back (contract, section 1).

``Routes`` and ``headers_of`` are pure. What came back is a value; ``worker.py`` matches on it and settles.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from jobfn.database.jobs import Job
from jobfn.errors import TransportError
from jobfn.transport import Answer, Transport
from jobfn.wire import (
    ACTOR_ID,
    CALLBACK_URL,
    DATABASE_ID,
    ENTITY_ID,
    JOB_ATTEMPT,
    JOB_ID,
    WORKER_ID,
    failed,
    task_url,
)

ACCEPTED_STATUS = 202
_SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The function's response says that the job is done."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The function's response says that the job failed.

    Attributes:
        error: Why: its message, or its status and URL where it has none.
    """

    error: str


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


Delivery = Succeeded | Failed | Accepted | Unreachable


@dataclass(frozen=True, slots=True)
class Routes:
    """Where each task lives.

    Attributes:
        gateway_url: The base URL of the functions; ``{task}`` in it is filled in.
        by_task: URLs of single tasks, used whole and as they are, before the gateway.
    """

    gateway_url: str
    by_task: Mapping[str, str]

    def url_of(self, task: str) -> str:
        """The URL to POST a job of this task to."""
        mapped = self.by_task.get(task)
        return mapped or task_url(self.gateway_url, task)


def headers_of(job: Job, *, worker_id: str, callback_url: str) -> dict[str, str]:
    """What a delivery carries; a header whose value is absent is left out."""
    headers = {
        "Content-Type": "application/json",
        WORKER_ID: worker_id,
        JOB_ID: str(job.id),
        JOB_ATTEMPT: str(job.attempt),
        CALLBACK_URL: callback_url,
    }
    optional = {DATABASE_ID: job.database_id, ACTOR_ID: job.actor_id, ENTITY_ID: job.entity_id}
    return headers | {name: value for name, value in optional.items() if value is not None}


class Dispatcher:
    """Delivers jobs.

    Args:
        transport: What carries them.
        routes: Where each task lives.
        worker_id: Goes into ``X-Worker-Id``.
        callback_url: Goes into ``X-Callback-Url``.
        request_seconds: How long a function may take to answer, in seconds.
    """

    def __init__(
        self, transport: Transport, *, routes: Routes, worker_id: str, callback_url: str, request_seconds: float
    ) -> None:
        self._transport = transport
        self._routes = routes
        self._worker_id = worker_id
        self._callback_url = callback_url
        self._request_seconds = request_seconds

    async def deliver(self, job: Job) -> Delivery:
        """POST a job to its function and read what came of it. Raises nothing: every end is a value."""
        url = self._routes.url_of(job.task)
        try:
            answer = await self._transport.post(
                url,
                body=job.payload.encode(),
                headers=headers_of(job, worker_id=self._worker_id, callback_url=self._callback_url),
                timeout_seconds=self._request_seconds,
            )
        except TransportError as error:
            return Unreachable(str(error))
        return read_answer(answer, url)


def read_answer(answer: Answer, url: str) -> Delivery:
    """What a function's response says of the job (contract, section 2)."""
    if failed(answer.status, answer.headers):
        message = _message(answer.body)
        return Failed(message or f"{url} answered {answer.status}{_excerpt(answer.body)}")
    if answer.status == ACCEPTED_STATUS:
        return Accepted()
    return Succeeded()


def _message(body: bytes) -> str | None:
    try:
        content = json.loads(body)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    message = content.get("message") or content.get("error")
    return message if isinstance(message, str) else None


def _excerpt(body: bytes) -> str:
    text = body.decode("utf-8", "replace").strip()
    return f": {text[:_SHOWN_CHARACTERS]}" if text else ""
