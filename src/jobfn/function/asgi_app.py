"""One delivery, from its request to its answer (contract, sections 1 and 2).

``app.py`` hands every POST here, past Starlette's routes: the task is one dictionary look-up. Each delivery ends as
an ``Outcome``. It is reported first (``reporter.py``) and then answered, so that nothing is left to do when Knative
takes the CPU away. Whatever a handler does, its delivery ends here and not in the server.
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
from jobfn.function import outcome
from jobfn.function.background import BackgroundRunner
from jobfn.function.context import JobContext
from jobfn.function.execution import AnyTask, Executor, names_of, refused
from jobfn.function.instrumentation import Delivery, Observer
from jobfn.function.outcome import Outcome
from jobfn.function.reporter import Reporter
from jobfn.function.retry_policy import DEFAULT_RETRY, NO_RETRY
from jobfn.function.settings import FunctionSettings
from jobfn.http.messages import buffered_body, read_body, send_response
from jobfn.telemetry import logs
from jobfn.wire import INVOKE_SECRET, MAX_TASK_IDENTIFIER_CHARACTERS, JobHeaders

_INVOKE_SECRET: Final = INVOKE_SECRET.lower().encode("ascii")
#: Answers that are no end of a delivery: accepted, busy; and one that no stranger shall cause a report by.
_UNREPORTED: Final = frozenset({202, 401, 429})
_ROOT: Final = frozenset({"", "/"})
_JSON: Final = (b"content-type", b"application/json")
#: What GET is for.
PAGES: Final = frozenset({"/", "/healthz", "/readyz"})
METRICS: Final = "/metrics"


class Deliveries:
    """Runs tasks for requests. An ASGI app for POST requests.

    Args:
        tasks: By identifier; at least one.
        settings: How.
        reporter: Tells how deliveries ended.
        observer: Sees them, for logs, metrics and traces.
        executor: Runs the handlers; closed with this.

    Attributes:
        pages: The paths that GET answers.
    """

    def __init__(
        self,
        tasks: Mapping[str, AnyTask],
        *,
        settings: FunctionSettings,
        reporter: Reporter,
        observer: Observer,
        executor: Executor,
    ) -> None:
        self._tasks = tasks
        self._observer = observer
        self.pages = PAGES | {METRICS} if settings.metrics else PAGES
        self._only = next(iter(tasks.values())) if len(tasks) == 1 else None
        self._settings = settings
        self._reporter = reporter
        self._executor = executor
        self._background = BackgroundRunner(reporter, limit=settings.max_background_jobs)
        self._running: set[asyncio.Task[Any]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the task that the path names, report how it ended, answer."""
        running = asyncio.current_task()
        assert running is not None  # noqa: S101  - ASGI servers run apps in tasks
        self._running.add(running)
        try:
            path = app_path(scope)
            task = self._find(path)
            with self._observed(scope, task, path) as observed:
                headers, ended = await self._deliver(scope, receive, task, path)
                observed.ended(ended)
                if headers.callback_url is not None and ended.status_code not in _UNREPORTED:
                    await self._reporter.report(headers, ended.report, wait_seconds=self._settings.report_wait_seconds)
                # the report is out: whether anybody reads this is nobody's loss
                await send_response(send, ended.status_code, _headers(ended, headers), ended.body)
        except ClientDisconnect:
            return  # the body never came whole: nothing ran, and nobody is there to answer
        finally:
            self._running.discard(running)
        if running.cancelling():
            raise asyncio.CancelledError  # who stopped this delivery is owed the news that it ended

    async def refuse(self, scope: Scope, send: Send) -> None:
        """Answer what is no delivery: another method than POST, or a path that is nothing."""
        path = app_path(scope)
        allowed = ["GET", "HEAD"] if path in self.pages else []
        problem: RequestError
        try:
            self.resolve_task(path)
            allowed.append("POST")
        except UnknownTask as unknown:
            problem = unknown
        if allowed:
            problem = MethodNotAllowed(f"{path} takes {' or '.join(allowed)}, not {scope['method']}")
        headers = JobHeaders.parse_lenient(scope["headers"])
        with self._observed(scope, self._find(path), path):
            ended = refused(problem)
            if self._is_authorized(scope):
                await self._reporter.report(headers, ended.report, wait_seconds=self._settings.report_wait_seconds)
            raw = _headers(ended, headers)
            if allowed:
                raw.append((b"allow", ", ".join(allowed).encode()))
            await send_response(send, ended.status_code, raw, ended.body)

    def resolve_task(self, path: str) -> AnyTask:
        """The task of a path; at the root, the only one.

        Raises:
            UnknownTask: There is none of that name; names those that there are.
        """
        task = self._find(path)
        if task is None:
            if path in _ROOT:
                raise UnknownTask(f"More than one task is here: name one in the path. Known: {names_of(self._tasks)}")
            raise UnknownTask(
                f"No task {path[1 : MAX_TASK_IDENTIFIER_CHARACTERS + 1]!r} here. Known: {names_of(self._tasks)}"
            )
        return task

    async def execute(self, identifier: str, body: bytes, context: JobContext) -> Outcome:
        """Run a task on a body, as a delivery would: see ``FunctionApp.execute``."""
        token = logs.job_ids.set(context.ids)
        try:
            task = self._tasks.get(identifier)
            if task is None:
                unknown = UnknownTask(f"No task {identifier!r} here. Known: {names_of(self._tasks)}")
                return refused(unknown)
            payload = self._executor.decode(task, body, context)
            if isinstance(payload, Outcome):
                return payload
            return await self._executor.handle(task, payload, context)
        finally:
            logs.job_ids.reset(token)

    async def drain(self, *, seconds: float) -> None:
        """Wait until no delivery runs, at most for so many seconds; jobs in the background have the shutdown's time."""
        await self._background.drain(seconds=self._settings.shutdown_timeout_seconds)
        others = self._running - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=seconds)

    def close(self) -> None:
        """Let the threads go."""
        self._executor.close()

    async def disconnect(self) -> None:
        """Close the connections that handlers have used."""
        await self._executor.disconnect()

    async def _deliver(
        self, scope: Scope, receive: Receive, task: AnyTask | None, path: str
    ) -> tuple[JobHeaders, Outcome]:
        """The delivery's headers, and how it ended or, in the background, began."""
        raw = scope["headers"]
        try:
            if not self._is_authorized(scope):
                raise Unauthorized(f"{INVOKE_SECRET} is missing or wrong: this function has one")
            headers = JobHeaders.parse(raw)
            task = task or self.resolve_task(path)
            said = dict(raw)
            _check_content_type(said.get(b"content-type"))
            limit = self._settings.max_body_bytes
            body = buffered_body(receive, limit=limit)
            if body is None:
                body = await read_body(receive, limit=limit, content_length=said.get(b"content-length"))
        except PayloadTooLarge:
            too_large = f"The body is over {limit} bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data"
            return headers, refused(PayloadTooLarge(too_large), NO_RETRY)
        except RequestError as error:
            return JobHeaders.parse_lenient(raw), refused(error, DEFAULT_RETRY)
        context = JobContext.of(task.identifier, headers)
        if headers.heartbeat_url is not None:
            context.listen(functools.partial(self._reporter.tell, headers))
        payload = self._executor.decode(task, body, context)
        if isinstance(payload, Outcome):
            return headers, payload
        if task.background and not headers.settled_by_response:
            return headers, self._accept(task, payload, context, headers)
        return headers, await self._executor.handle(task, payload, context)

    def _find(self, path: str) -> AnyTask | None:
        return self._tasks.get(path[1:]) or (self._only if path in _ROOT else None)

    def _observed(self, scope: Scope, task: AnyTask | None, path: str) -> Delivery:
        return self._observer.delivery(scope, None if task is None else task.identifier, path)

    def _is_authorized(self, scope: Scope) -> bool:
        """Whether the caller knows one of the secrets, if there are any. A near miss takes as long as any other."""
        secrets = self._settings.invoke_secrets
        if not secrets:
            return True
        given = next((value for name, value in scope["headers"] if name == _INVOKE_SECRET), b"")
        known = [hmac.compare_digest(given, secret.encode()) for secret in secrets]
        return any(known)

    def _accept(self, task: AnyTask, payload: Any, context: JobContext, headers: JobHeaders) -> Outcome:
        """Begin a job that is answered now and reported when it ends."""
        if self._background.is_full:
            return outcome.busy(self._settings.max_background_jobs)

        async def work() -> None:
            ended = await self._executor.handle(task, payload, context)
            self._observer.measures.ended(task.identifier, ended)
            if not context.lost:
                await self._reporter.report(headers, ended.report, wait_seconds=self._reporter.seconds_for(headers))

        self._background.start(work, context, headers)
        return outcome.accepted()


def app_path(scope: Scope) -> str:
    """The path inside this app, percent-decoded: without the prefix that it is mounted under."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    if not prefix:
        return path
    prefix = prefix.rstrip("/")
    if prefix and (path == prefix or path.startswith(f"{prefix}/")):
        return path[len(prefix) :]
    return path


def _headers(ended: Outcome, headers: JobHeaders) -> list[tuple[bytes, bytes]]:
    """Of a delivery's answer: its outcome's, and its job headers echoed (contract, section 2)."""
    raw = [_JSON, (b"content-length", b"%d" % len(ended.body))]
    if headers.echo:
        raw += _raw(headers.echo)
    if ended.report.stored_result is not None:
        raw += _raw(ended.report.stored_result.headers().items())
    if ended.status_code >= 400:
        raw += _of_failure(ended)
    return raw


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI has them."""
    return [(name.lower().encode("ascii"), value.encode()) for name, value in headers]


def _of_failure(ended: Outcome) -> Iterator[tuple[bytes, bytes]]:
    """The headers that only failures and refusals have."""
    if ended.retry_after_seconds is not None:
        yield b"retry-after", b"%d" % ended.retry_after_seconds
    if ended.report.status == "error" and ended.status_code != outcome.BUSY_STATUS:
        yield b"x-job-error", b"true"
    if ended.status_code == PayloadTooLarge.status_code:
        yield b"connection", b"close"  # the rest of the body is still on its way: do not read it


def _check_content_type(content_type: bytes | None) -> None:
    """A body is JSON, or nothing is said of it: a caller who names another type means something else.

    Raises:
        UnsupportedMediaType: It is something else.
    """
    if content_type is None or content_type == b"application/json":
        return
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type and media_type != b"application/json" and not media_type.endswith(b"+json"):
        shown = media_type.decode("latin-1")
        raise UnsupportedMediaType(f"Content-Type {shown} is not read here: send application/json")
