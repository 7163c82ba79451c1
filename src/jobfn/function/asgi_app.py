"""``DeliveryEndpoint``: one delivery, from request to response (contract, sections 1 and 2).

``app.py`` passes every POST here before Starlette's routes: finding the task is one dictionary lookup. Each delivery
ends as a ``DeliveryOutcome``, which settles the job by the response or, sent first, by a report (``delivery.py``).
Whatever a handler raises, the server never sees it. Requests with several jobs go on to ``batch_endpoint.py``.
"""

import asyncio
from collections.abc import Mapping
from time import perf_counter
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
from jobfn.function.batch_endpoint import BatchEndpoint
from jobfn.function.context import JobContext
from jobfn.function.delivery import DeliveryRunner
from jobfn.function.execution import AnyTask, Executor, refused
from jobfn.function.instrumentation import DeliverySpan
from jobfn.function.outcome import DeliveryOutcome, succeeded
from jobfn.function.settings import FunctionSettings
from jobfn.http.messages import read_body, send_response
from jobfn.telemetry import logs
from jobfn.wire import MAX_TASK_IDENTIFIER_CHARACTERS, JobHeaders, extract_job_headers
from jobfn.wire.delivery_batch import BATCH_PATH_SUFFIX, MAX_BATCH_JOBS
from jobfn.wire.names import CANCEL_CONTENT_TYPE, CANCEL_PATH_SUFFIX

_ROOT_PATHS: Final = frozenset({"", "/"})
_JSON_HEADER: Final = (b"content-type", b"application/json")
_SETTLE_ON_RESPONSE: Final = (b"x-settle-on", b"response")
_CANCEL_CONTENT_TYPE: Final = CANCEL_CONTENT_TYPE.encode("ascii")
_ACCEPT_BATCH: Final = (b"x-accept-batch", b"%d" % MAX_BATCH_JOBS)
METRICS_PATH: Final = "/metrics"


class DeliveryEndpoint:
    """The ASGI app for POST requests.

    Args:
        tasks: The app's tasks by identifier.
        settings: The app's settings.
        runner: Runs deliveries.
        executor: Runs tasks without HTTP.
        accepts_batches: Whether workers may send several jobs in one request. Not with HTTP middleware, which must see
            every job.
    """

    def __init__(
        self,
        tasks: Mapping[str, AnyTask],
        *,
        settings: FunctionSettings,
        runner: DeliveryRunner,
        executor: Executor,
        accepts_batches: bool,
    ) -> None:
        self._tasks = tasks
        self._only_task = next(iter(tasks.values())) if len(tasks) == 1 else None
        self._settings = settings
        self._runner = runner
        self._executor = executor
        self._batches = BatchEndpoint(runner) if accepts_batches else None
        self._requests: set[asyncio.Task[Any]] = set()
        self.get_paths = {"/", "/healthz", "/readyz", "/health", *([METRICS_PATH] if settings.metrics else [])}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the task that the path names, settle the job, respond."""
        request = asyncio.current_task()
        assert request is not None  # noqa: S101  - ASGI servers run apps in tasks
        self._requests.add(request)
        try:
            path = app_path(scope)
            if self._batches is not None and BatchEndpoint.matches(scope, path):
                task_path = path.removesuffix(BATCH_PATH_SUFFIX)
                await self._batches.respond(scope, receive, send, self._find_task(task_path), task_path)
            elif (
                path.endswith(CANCEL_PATH_SUFFIX)
                and dict(scope["headers"]).get(b"content-type") == _CANCEL_CONTENT_TYPE
            ):
                await self._respond_to_cancel(scope, send)
            else:
                await self._respond(scope, receive, send, path)
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
        raw_headers = extract_job_headers(scope["headers"])
        headers = JobHeaders.parse_lenient(raw_headers)
        with self._instrument(raw_headers, self._find_task(path), path):
            outcome = refused(problem)
            try:
                self._runner.authorize(scope)
            except Unauthorized as error:  # the other message lists the tasks
                outcome, allowed = refused(error), []
            else:
                await self._runner.report(headers, outcome)
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
        await self._runner.drain()
        others = self._requests - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=timeout_seconds)

    async def _respond(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        task = self._find_task(path)
        raw_headers = extract_job_headers(scope["headers"])
        with self._instrument(raw_headers, task, path) as span:
            started_at = perf_counter()
            headers, outcome = await self._deliver(scope, receive, raw_headers, task, path)
            seconds = outcome.planned_seconds(perf_counter() - started_at)
            span.record(outcome)
            is_settled = await self._runner.settle(headers, outcome, receive)
            response_headers = _response_headers(outcome, headers)
            if task is not None and task.retry_policy.max_attempts is not None:
                response_headers.append((b"x-max-attempts", b"%d" % task.retry_policy.max_attempts))
            if is_settled:
                response_headers.append(_SETTLE_ON_RESPONSE)
                if self._batches is not None and not scope.get("root_path"):
                    response_headers += (_ACCEPT_BATCH, (b"x-handler-seconds", b"%.6f" % seconds))
            unread = receive if outcome.status_code == PayloadTooLarge.status_code else None
            await send_response(send, outcome.status_code, response_headers, outcome.body, unread=unread)

    async def _respond_to_cancel(self, scope: Scope, send: Send) -> None:
        """Look whether a background job was cancelled: the callback server knows."""
        try:
            self._runner.authorize(scope)
            if not self._runner.ask_if_cancelled(JobHeaders.parse(extract_job_headers(scope["headers"]))):
                raise UnknownTask("This job does not run here")
        except RequestError as error:
            outcome = refused(error)
        else:
            outcome = succeeded(None)
        headers = [_JSON_HEADER, (b"content-length", b"%d" % len(outcome.body))]
        await send_response(send, outcome.status_code, headers, outcome.body)

    async def _deliver(
        self, scope: Scope, receive: Receive, raw_headers: Mapping[str, str], task: AnyTask | None, path: str
    ) -> tuple[JobHeaders, DeliveryOutcome]:
        """Return the delivery's headers and its outcome, which is 202 for a background job."""
        try:
            is_trusted = self._runner.authorize(scope)
            headers = JobHeaders.parse(raw_headers)
            task = task or self.resolve_task(path)
            http_headers = dict(scope["headers"])
            _check_content_type(http_headers.get(b"content-type"))
            body = await read_body(
                receive, limit=self._settings.max_body_bytes, content_length=http_headers.get(b"content-length")
            )
        except PayloadTooLarge:
            return headers, self._runner.payload_too_large()
        except RequestError as error:
            return JobHeaders.parse_lenient(raw_headers), refused(error)
        return headers, await self._runner.run(task, headers, body, receive, is_trusted=is_trusted)

    def _find_task(self, path: str) -> AnyTask | None:
        return self._tasks.get(path[1:]) or (self._only_task if path in _ROOT_PATHS else None)

    def _unknown_task(self, identifier: str) -> UnknownTask:
        return UnknownTask(f"No task {identifier!r} here. Known: {self._known_tasks}")

    @property
    def _known_tasks(self) -> str:
        return ", ".join(sorted(self._tasks))

    def _instrument(self, headers: Mapping[str, str], task: AnyTask | None, path: str) -> DeliverySpan:
        identifier = None if task is None else task.identifier
        return DeliverySpan(self._runner.instrumentation, headers, identifier, path)


def app_path(scope: Scope) -> str:
    """Return the percent-decoded path inside this app, without the prefix that it is mounted at."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :]
    return path


def _response_headers(outcome: DeliveryOutcome, headers: JobHeaders) -> list[tuple[bytes, bytes]]:
    """Return the response's raw headers; the delivery's job headers are echoed (contract, section 2)."""
    raw_headers = [_JSON_HEADER, (b"content-length", b"%d" % len(outcome.body))]
    for name, value in (*headers.echo, *outcome.headers().items()):
        raw_headers.append((name.lower().encode("ascii"), value.encode()))
    if outcome.status_code == PayloadTooLarge.status_code:
        raw_headers.append((b"connection", b"close"))  # the body was not read
    return raw_headers


def _check_content_type(content_type: bytes | None) -> None:
    """Check that a body is declared as JSON, or not declared at all."""
    if content_type is None or content_type == b"application/json":
        return
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type and media_type != b"application/json" and not media_type.endswith(b"+json"):
        name = media_type.decode("latin-1")
        raise UnsupportedMediaType(f"Content-Type {name} is not supported: send application/json")
