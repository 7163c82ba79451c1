"""Calling tasks as a worker does: the real ASGI app, real headers, and the report that it makes. No network."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Self
from uuid import UUID

import httpx
import pydantic_core

from jobfn.errors import ConfigurationError
from jobfn.function.app import FunctionApp, create_app
from jobfn.function.outcome import NO_REPORT_STATUSES
from jobfn.function.task import Task
from jobfn.http.client import Response
from jobfn.wire import (
    ACTOR_ID,
    CALLBACK_URL,
    DATABASE_ID,
    ENTITY_ID,
    HEARTBEAT_URL,
    JOB_ATTEMPT,
    JOB_ID,
    WORKER_ID,
    task_url,
)

_BASE = "http://function"
_CALLBACKS = "http://callbacks/callback"
_HEARTBEATS = "http://callbacks/heartbeat"


@dataclass(frozen=True)
class DeliveryResult:
    """One delivery, as the worker and the callback server saw it.

    Attributes:
        status_code: Of the response.
        result: The response's JSON: the handler's result, or ``{"message": ...}``. Of a background task, what it was
            accepted with.
        report: The report's JSON; None where none is sent.
        headers: The report's headers; of the response where there is no report.
        progress: What ``ctx.progress`` told, each as ``{"progress": ..., "note": ...}``.
    """

    status_code: int
    result: Any
    report: dict[str, Any] | None
    headers: Mapping[str, str]
    progress: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the job is reported as done."""
        return self.report is not None and self.report["status"] == "success"

    @property
    def error(self) -> str | None:
        """What the report says is wrong; None where it says success."""
        return None if self.report is None else self.report.get("error")


class _Callbacks:
    """A ``Transport`` whose other end is this object: it keeps what is sent."""

    def __init__(self) -> None:
        self.reports: dict[str, tuple[dict[str, Any], dict[str, str]]] = {}
        self.progress: dict[str, list[dict[str, Any]]] = {}
        self.reported = asyncio.Event()

    async def post(
        self,
        url: str,
        *,
        body: bytes,
        headers: Mapping[str, str],
        timeout_seconds: float | None = None,  # noqa: ARG002  - nothing takes time here
    ) -> Response:
        """Keep it."""
        job, content = headers[JOB_ID], json.loads(body)
        if url == _HEARTBEATS:
            if content:
                self.progress.setdefault(job, []).append(content)
        else:
            self.reports[job] = (content, dict(headers))
            self.reported.set()
        return Response(200, {}, b"{}")

    async def aclose(self) -> None:
        """Nothing to close."""


class FunctionUnderTest:
    """A function app, called as a worker calls it. See the fixture ``jobfn_app``.

    Each ``deliver`` starts and stops the app's lifespan, unless it is called inside ``async with``, which does it once.
    """

    def __init__(self, app: FunctionApp, callbacks: "_Callbacks") -> None:
        self.app = app
        self._callbacks = callbacks
        self._next_job = 1
        self._running = contextlib.AsyncExitStack()
        self._is_running = False

    async def __aenter__(self) -> Self:
        """Start the app's lifespan."""
        await self._running.enter_async_context(self.app.lifespan_context())
        self._is_running = True
        return self

    async def __aexit__(self, *_error: object) -> None:
        """Stop it."""
        self._is_running = False
        await self._running.aclose()

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
        seconds: float = 30.0,
    ) -> DeliveryResult:
        """Deliver one job and wait for its report.

        Args:
            task: A task, or its identifier.
            payload: What JSON can hold, or a model; bytes are sent as they are. Default None: ``{}``.
            attempt: Which attempt it is.
            database_id: The tenant.
            actor_id: Who caused the job.
            entity_id: What it is about.
            headers: More headers, or others than a worker sends.
            seconds: How long to wait for a background task's report, at most.

        Returns:
            The response and the report.

        Raises:
            TimeoutError: A background task has not ended in time.
        """
        job = str(self._next_job)
        self._next_job += 1
        ids = {DATABASE_ID: database_id, ACTOR_ID: actor_id, ENTITY_ID: entity_id}
        sent = {
            "Content-Type": "application/json",
            WORKER_ID: "jobfn-tests",
            JOB_ID: job,
            JOB_ATTEMPT: str(attempt),
            CALLBACK_URL: _CALLBACKS,
            HEARTBEAT_URL: _HEARTBEATS,
            **{name: str(value) for name, value in ids.items() if value is not None},
            **(headers or {}),
        }
        identifier = task.identifier if isinstance(task, Task) else task
        body = payload if isinstance(payload, bytes) else _json(payload)
        async with self._lifespan():
            response = await self._post(identifier, body, sent)
            if sent[CALLBACK_URL] == _CALLBACKS and response.status_code not in NO_REPORT_STATUSES:
                async with asyncio.timeout(seconds):
                    while job not in self._callbacks.reports:
                        self._callbacks.reported.clear()
                        await self._callbacks.reported.wait()
        report, told = self._callbacks.reports.pop(job, (None, dict(response.headers)))
        return DeliveryResult(
            response.status_code,
            json.loads(response.content) if response.content else None,
            report,
            httpx.Headers(told),
            self._callbacks.progress.pop(job, []),
        )

    async def _post(self, identifier: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, timeout=None) as client:  # noqa: S113  - the test has one
            return await client.post(task_url(_BASE, identifier), content=body, headers=headers)

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
    """Make a function app testable.

    Args:
        functions: A module with tasks, one task, or an app.
        more: More tasks, after the first.
        options: For ``create_app``: ``resources``, ``settings`` and so on; not for an app, which is made already.

    Raises:
        ConfigurationError: Options were given for an app.
        TaskDefinitionError: There is no task.
    """
    callbacks = _Callbacks()
    if isinstance(functions, FunctionApp):
        if options or more:
            raise ConfigurationError("this app is made already: give the options to its create_app")
        functions.use_report_transport(callbacks)
        return FunctionUnderTest(functions, callbacks)
    if isinstance(functions, Task):
        return FunctionUnderTest(create_app(tasks=[functions, *more], transport=callbacks, **options), callbacks)
    return FunctionUnderTest(create_app(functions, tasks=more, transport=callbacks, **options), callbacks)


def _json(payload: Any) -> bytes:
    return b"{}" if payload is None else pydantic_core.to_json(payload, by_alias=True)
