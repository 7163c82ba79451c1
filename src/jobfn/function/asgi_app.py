"""``DeliveryEndpoint``: one delivery, from request to response (contract, sections 1 and 2).

``app.py`` passes every POST here before Starlette's routes: finding the task is one dictionary lookup. Each delivery
ends as a ``DeliveryOutcome``. The report goes out first (``reporter.py``), then the response, so that nothing is left
to do when Knative takes the CPU away. Whatever a handler raises, the server never sees it.
"""

import asyncio
import functools
import hmac
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from jobfn.errors import (
    MethodNotAllowed,
    PayloadTooLarge,
    RequestError,
    Unauthorized,
    UnknownTask,
    UnsupportedMediaType,
)
from jobfn.function import outcome as outcomes
from jobfn.function.background import BackgroundRunner
from jobfn.function.context import JobContext
from jobfn.function.execution import AnyTask, Executor, refused
from jobfn.function.instrumentation import DeliverySpan, Instrumentation
from jobfn.function.outcome import ACCEPTED_STATUS, BUSY_STATUS, NO_REPORT_STATUSES, DeliveryOutcome
from jobfn.function.reporter import Reporter
from jobfn.function.retry_policy import NO_RETRY
from jobfn.function.settings import FunctionSettings
from jobfn.http.messages import buffered_body, read_body, send_response
from jobfn.telemetry import logs
from jobfn.wire import INVOKE_SECRET, MAX_TASK_IDENTIFIER_CHARACTERS, JobHeaders

_INVOKE_SECRET: Final = INVOKE_SECRET.lower().encode("ascii")
_ROOT_PATHS: Final = frozenset({"", "/"})
_JSON_HEADER: Final = (b"content-type", b"application/json")
METRICS_PATH: Final = "/metrics"


class DeliveryEndpoint:
    """The ASGI app for POST requests."""

    def __init__(
        self,
        tasks: Mapping[str, AnyTask],
        *,
        settings: FunctionSettings,
        reporter: Reporter,
        instrumentation: Instrumentation,
        executor: Executor,
    ) -> None:
        self._tasks = tasks
        self._only_task = next(iter(tasks.values())) if len(tasks) == 1 else None
        self._settings = settings
        self._reporter = reporter
        self._instrumentation = instrumentation
        self._executor = executor
        self._background = BackgroundRunner(reporter, max_jobs=settings.max_background_jobs)
        self._requests: set[asyncio.Task[Any]] = set()
        self.get_paths = {"/", "/healthz", "/readyz", *([METRICS_PATH] if settings.metrics else [])}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the task that the path names, report its outcome, respond."""
        request = asyncio.current_task()
        assert request is not None  # noqa: S101  - ASGI servers run apps in tasks
        self._requests.add(request)
        try:
            path = app_path(scope)
            task = self._find_task(path)
            with self._instrument(scope, task, path) as span:
                headers, outcome = await self._deliver(scope, receive, task, path)
                span.record(outcome)
                if outcome.status_code != ACCEPTED_STATUS and outcome.status_code not in NO_REPORT_STATUSES:
                    await self._report(headers, outcome)
                await send_response(send, outcome.status_code, _response_headers(outcome, headers), outcome.body)
        except ClientDisconnect:
            return  # the body was incomplete: nothing ran, and nobody waits for a response
        finally:
            self._requests.discard(request)
        if request.cancelling():
            raise asyncio.CancelledError  # a handler's outcome must not swallow the request's cancellation

    async def refuse(self, scope: Scope, send: Send) -> None:
        """Respond to a request that is not a delivery: a method other than POST, or an unknown path."""
        path = app_path(scope)
        allowed = ["GET", "HEAD"] if path in self.get_paths else []
        problem: RequestError
        try:
            self.resolve_task(path)
            allowed.append("POST")
        except UnknownTask as unknown:
            problem = unknown
        if allowed:
            problem = MethodNotAllowed(f"{path} allows {' or '.join(allowed)}, not {scope['method']}")
        headers = JobHeaders.parse_lenient(scope["headers"])
        with self._instrument(scope, self._find_task(path), path):
            outcome = refused(problem)
            if self._is_authorized(scope):
                await self._report(headers, outcome)
            response_headers = _response_headers(outcome, headers)
            if allowed:
                response_headers.append((b"allow", ", ".join(allowed).encode()))
            await send_response(send, outcome.status_code, response_headers, outcome.body)

    def resolve_task(self, path: str) -> AnyTask:
        """Return the task of a path; at the root, the only task.

        Raises:
            UnknownTask: There is no such task; the text lists the known ones.
        """
        task = self._find_task(path)
        if task is None:
            if path in _ROOT_PATHS:
                raise UnknownTask(f"The app has several tasks: name one in the path. Known: {self._known_tasks}")
            raise self._unknown_task(path[1 : MAX_TASK_IDENTIFIER_CHARACTERS + 1])
        return task

    async def execute(self, identifier: str, body: bytes, context: JobContext) -> DeliveryOutcome:
        """Run a task on a body without HTTP: see ``FunctionApp.execute``."""
        token = logs.job_ids.set(context.ids)
        try:
            task = self._tasks.get(identifier)
            if task is None:
                return refused(self._unknown_task(identifier))
            payload = self._executor.decode(task, body, context)
            if isinstance(payload, DeliveryOutcome):
                return payload
            return await self._executor.run(task, payload, context)
        finally:
            logs.job_ids.reset(token)

    async def drain(self, *, timeout_seconds: float) -> None:
        """Wait for running deliveries. Background jobs have the shutdown timeout of the settings instead."""
        await self._background.drain(timeout_seconds=self._settings.shutdown_timeout_seconds)
        others = self._requests - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=timeout_seconds)

    async def _deliver(
        self, scope: Scope, receive: Receive, task: AnyTask | None, path: str
    ) -> tuple[JobHeaders, DeliveryOutcome]:
        """Return the delivery's headers and its outcome, which is 202 for a background job."""
        try:
            if not self._is_authorized(scope):
                raise Unauthorized(f"{INVOKE_SECRET} is missing or wrong: send the function's secret")
            headers = JobHeaders.parse(scope["headers"])
            task = task or self.resolve_task(path)
            raw_headers = dict(scope["headers"])
            _check_content_type(raw_headers.get(b"content-type"))
            limit = self._settings.max_body_bytes
            body = buffered_body(receive, limit=limit)
            if body is None:
                body = await read_body(receive, limit=limit, content_length=raw_headers.get(b"content-length"))
        except PayloadTooLarge:
            too_large = f"The body is over {limit} bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data"
            return headers, refused(PayloadTooLarge(too_large), NO_RETRY)
        except RequestError as error:
            return JobHeaders.parse_lenient(scope["headers"]), refused(error)
        on_progress = None
        if headers.heartbeat_url is not None:
            on_progress = functools.partial(self._reporter.send_progress, headers)
        context = JobContext.from_headers(task.identifier, headers, on_progress=on_progress)
        payload = self._executor.decode(task, body, context)
        if isinstance(payload, DeliveryOutcome):
            return headers, payload
        if task.background and not headers.settled_by_response:
            return headers, self._start_in_background(task, payload, context, headers)
        return headers, await self._executor.run(task, payload, context)

    def _start_in_background(
        self, task: AnyTask, payload: Any, context: JobContext, headers: JobHeaders
    ) -> DeliveryOutcome:
        if self._background.is_full:
            return outcomes.busy(self._settings.max_background_jobs)

        async def run_job() -> None:
            outcome = await self._executor.run(task, payload, context)
            self._instrumentation.metrics.record_outcome(task.identifier, outcome)
            if not context.lease_lost:
                timeout_seconds = self._reporter.timeout_seconds(headers)
                await self._reporter.report(headers, outcome.report, wait_seconds=timeout_seconds)

        self._background.start(run_job, context, headers)
        return outcomes.accepted()

    async def _report(self, headers: JobHeaders, outcome: DeliveryOutcome) -> None:
        await self._reporter.report(headers, outcome.report, wait_seconds=self._settings.report_wait_seconds)

    def _find_task(self, path: str) -> AnyTask | None:
        return self._tasks.get(path[1:]) or (self._only_task if path in _ROOT_PATHS else None)

    def _unknown_task(self, identifier: str) -> UnknownTask:
        return UnknownTask(f"No task {identifier!r} here. Known: {self._known_tasks}")

    @property
    def _known_tasks(self) -> str:
        return ", ".join(sorted(self._tasks))

    def _instrument(self, scope: Scope, task: AnyTask | None, path: str) -> DeliverySpan:
        return DeliverySpan(self._instrumentation, scope, None if task is None else task.identifier, path)

    def _is_authorized(self, scope: Scope) -> bool:
        """Whether the caller sent one of the secrets, if there are any. Compares all of them, in constant time."""
        secrets = self._settings.invoke_secrets
        if not secrets:
            return True
        sent = next((value for name, value in scope["headers"] if name == _INVOKE_SECRET), b"")
        matches = [hmac.compare_digest(sent, secret.encode()) for secret in secrets]
        return any(matches)


def app_path(scope: Scope) -> str:
    """Return the percent-decoded path inside this app, without the prefix that it is mounted at."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :]
    return path


def _response_headers(outcome: DeliveryOutcome, headers: JobHeaders) -> list[tuple[bytes, bytes]]:
    """Return the response's raw headers; the delivery's job headers are echoed (contract, section 2)."""
    raw_headers = [_JSON_HEADER, (b"content-length", b"%d" % len(outcome.body)), *_encode(headers.echo)]
    if outcome.report.stored_result is not None:
        raw_headers += _encode(outcome.report.stored_result.headers().items())
    if outcome.status_code >= 400:
        raw_headers += _failure_headers(outcome)
    return raw_headers


def _encode(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode()) for name, value in headers]


def _failure_headers(outcome: DeliveryOutcome) -> Iterator[tuple[bytes, bytes]]:
    if outcome.retry_after_seconds is not None:
        yield b"retry-after", b"%d" % outcome.retry_after_seconds
    if outcome.report.status == "error" and outcome.status_code != BUSY_STATUS:
        yield b"x-job-error", b"true"
    if outcome.status_code == PayloadTooLarge.status_code:
        yield b"connection", b"close"  # the server must not read the rest of the body


def _check_content_type(content_type: bytes | None) -> None:
    """Check that a body is declared as JSON, or not declared at all."""
    if content_type is None or content_type == b"application/json":
        return
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type and media_type != b"application/json" and not media_type.endswith(b"+json"):
        name = media_type.decode("latin-1")
        raise UnsupportedMediaType(f"Content-Type {name} is not supported: send application/json")
