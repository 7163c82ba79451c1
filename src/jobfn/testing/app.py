"""Call tasks as a worker does: with the real ASGI app, real headers and the report, but without a network."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self
from uuid import UUID

import httpx

from jobfn.client.validation import to_json
from jobfn.errors import ConfigurationError
from jobfn.function.app import FunctionApp, create_app
from jobfn.function.outcome import NO_REPORT_STATUSES
from jobfn.function.task import Task
from jobfn.http.client import Response
from jobfn.http.loopback import without_network
from jobfn.testing.buffered_transport import BufferedTransport
from jobfn.testing.memory_steps import MemorySteps, RecordedStep
from jobfn.wire import (
    ACTOR_ID,
    CALLBACK_URL,
    DATABASE_ID,
    DURABLE,
    DURABLE_STEPS,
    ENTITY_ID,
    HEARTBEAT_URL,
    JOB_ATTEMPT,
    JOB_ID,
    STEPS_SEGMENT,
    WORKER_ID,
    sibling_url,
    task_url,
)

_FUNCTION_URL = "http://function"
_CALLBACK_URL = "http://callbacks/callback"
_HEARTBEAT_URL = "http://callbacks/heartbeat"
_STEPS_URL = sibling_url(_HEARTBEAT_URL, STEPS_SEGMENT)


@dataclass(frozen=True)
class DeliveryResult:
    """Result of a delivery, as the worker and the callback server see it.

    Attributes:
        status_code: Status of the response.
        result: JSON of the response: the handler's result, or ``{"message": ...}``.
        report: JSON of the report; None if there is no report.
        headers: Headers of the report; without a report, of the response.
        progress: Progress reports: ``{"progress": ..., "note": ...}`` each.
        steps: What a durable handler recorded, in order.
        waiting_for: The names of the steps that a parked job waits for, such as ``wait:approved``.
    """

    status_code: int
    result: Any
    report: dict[str, Any] | None
    headers: Mapping[str, str]
    progress: list[dict[str, Any]] = field(default_factory=list)
    steps: tuple[RecordedStep, ...] = ()
    waiting_for: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the report says that the job succeeded."""
        return self.report is not None and self.report["status"] == "success"

    @property
    def is_parked(self) -> bool:
        """Whether a durable handler waits: ``waiting_for`` says for what."""
        return self.report is not None and self.report["status"] == "parked"

    @property
    def error(self) -> str | None:
        """Error of the report; None if it succeeded or the job is parked."""
        return None if self.report is None else self.report.get("error")


class _RecordingCallbacks(BufferedTransport):
    """A ``Transport`` that records the reports and steps sent to it."""

    def __init__(self) -> None:
        self.reports: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
        self.progress: dict[str, list[dict[str, Any]]] = {}
        self.steps: dict[str, MemorySteps] = {}
        self.reported = asyncio.Event()

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float | None = None,  # noqa: ARG002  - it never waits
    ) -> Response:
        """Record a report, progress or steps."""
        job_id, content = headers[JOB_ID], json.loads(body)
        if url == _STEPS_URL:
            return Response(200, {}, self.steps.setdefault(job_id, MemorySteps()).respond(body))
        if url == _HEARTBEAT_URL:
            if content:
                self.progress.setdefault(job_id, []).append(content)
        else:
            self.reports[job_id] = (content, dict(headers))
            self.reported.set()
        return Response(200, {}, b"{}")


class FunctionUnderTest:
    """A function app that is called as a worker does. See the fixture ``jobfn_app``.

    Each ``deliver`` runs the app's lifespan, unless it is called within ``async with``, which runs it once.
    """

    def __init__(self, app: FunctionApp, callbacks: "_RecordingCallbacks") -> None:
        self.app = app
        self._callbacks = callbacks
        self._next_job_id = 1
        self._lifespan_stack = contextlib.AsyncExitStack()
        self._is_running = False

    async def __aenter__(self) -> Self:
        """Start the app's lifespan."""
        await self._lifespan_stack.enter_async_context(self.app.lifespan_context())
        self._is_running = True
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop the app's lifespan."""
        self._is_running = False
        await self._lifespan_stack.aclose()

    async def deliver(
        self,
        task: "Task[..., Any] | str",
        payload: Any = None,
        *,
        attempt: int = 1,
        database_id: UUID | str | None = None,
        actor_id: UUID | str | None = None,
        entity_id: UUID | str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
    ) -> DeliveryResult:
        """Deliver one job and wait for its report.

        A durable handler parks at its first wait, unless it is a sleep of no time.

        Args:
            task: A task or its identifier.
            payload: JSON types or a model; bytes are sent unchanged. Default: ``{}``.
            attempt: Number of the attempt.
            database_id: The tenant.
            actor_id: The user that caused the job.
            entity_id: The entity that the job is about.
            headers: More headers, or other values for those of a worker.
            timeout_seconds: Timeout for the report of a background task.

        Raises:
            TimeoutError: A background task has not ended in time.
        """
        job_id = str(self._next_job_id)
        self._next_job_id += 1
        ids = {DATABASE_ID: database_id, ACTOR_ID: actor_id, ENTITY_ID: entity_id}
        request_headers = {
            "Content-Type": "application/json",
            WORKER_ID: "jobfn-tests",
            JOB_ID: job_id,
            JOB_ATTEMPT: str(attempt),
            CALLBACK_URL: _CALLBACK_URL,
            HEARTBEAT_URL: _HEARTBEAT_URL,
            DURABLE: DURABLE_STEPS,
            **{name: str(value) for name, value in ids.items() if value is not None},
            **(headers or {}),
        }
        identifier = task.identifier if isinstance(task, Task) else task
        body = payload if isinstance(payload, bytes) else to_json(payload).encode()
        async with self._lifespan():
            response = await self._post(identifier, body, request_headers)
            if request_headers[CALLBACK_URL] == _CALLBACK_URL and response.status_code not in NO_REPORT_STATUSES:
                async with asyncio.timeout(timeout_seconds):
                    while job_id not in self._callbacks.reports:
                        self._callbacks.reported.clear()
                        await self._callbacks.reported.wait()
        report, report_headers = self._callbacks.reports.pop(job_id, (None, dict(response.headers)))
        steps = self._callbacks.steps.pop(job_id, MemorySteps())
        return DeliveryResult(
            response.status_code,
            json.loads(response.content) if response.content else None,
            report,
            httpx.Headers(report_headers),
            self._callbacks.progress.pop(job_id, []),
            steps.recorded,
            steps.names((report or {}).get("waitingFor", ())),
        )

    async def _post(self, identifier: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(without_network(self.app))
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113  - the test has a timeout
            return await client.post(task_url(_FUNCTION_URL, identifier), content=body, headers=headers)

    @contextlib.asynccontextmanager
    async def _lifespan(self) -> AsyncIterator[None]:
        if self._is_running:
            yield
        else:
            async with self.app.lifespan_context():
                yield


def function_under_test(
    functions: "ModuleType | FunctionApp | Task[..., Any]", *more: "Task[..., Any]", **options: Any
) -> FunctionUnderTest:
    """Wrap a function app for tests.

    Args:
        functions: A module with tasks, one task, or the app of ``create_app``.
        more: More tasks.
        options: Options for ``create_app`` (``resources``, ``settings``, ...), unless an app is given.

    Raises:
        ConfigurationError: Options were given for an app.
        TaskDefinitionError: There is no task.
    """
    callbacks = _RecordingCallbacks()
    app = app_of(functions, *more, **options)
    app.use_report_transport(callbacks)
    return FunctionUnderTest(app, callbacks)


def app_of(
    functions: "ModuleType | FunctionApp | Task[..., Any]", *more: "Task[..., Any]", **options: Any
) -> FunctionApp:
    """Return an app, or create one: see ``function_under_test``."""
    if isinstance(functions, FunctionApp):
        if options or more:
            raise ConfigurationError("options cannot be given for an app: pass them to its create_app")
        return functions
    if isinstance(functions, Task):
        return create_app(tasks=[functions, *more], **options)
    return create_app(functions, tasks=more, **options)
