"""The function app: HTTP deliveries in, handlers run, outcomes out (contract, sections 1 and 2).

``create_app`` makes a Starlette app. A delivery (any POST) does not pass through routes: the task is one
dictionary look-up. Everything else (health, the list of tasks, middleware, mounting) is plain Starlette.
Each delivery ends as an ``Outcome``; it is reported first and then answered, so that nothing is left to do when
Knative takes the CPU away.
"""

import asyncio
import contextlib
import contextvars
import functools
import os
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

from starlette._utils import get_route_path
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from jobfn.errors import (
    BodyTooLarge,
    MalformedRequest,
    RequestError,
    TaskDefinitionError,
    UnknownTask,
    WrongContentType,
    WrongMethod,
)
from jobfn.function.context import JobContext
from jobfn.function.outcome import Outcome, raised, refused, succeeded, timed_out
from jobfn.function.reporter import Reporter
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.transport import AiohttpTransport, Transport
from jobfn.wire import JOB_ERROR, JobHeaders

AnyTask = Task[..., Any]

_GET_PATHS = frozenset({"/", "/healthz", "/readyz"})


def create_app(
    module: ModuleType | None = None,
    *,
    tasks: Iterable[AnyTask] = (),
    middleware: Sequence[Middleware] = (),
    lifespan: "Lifespan[FunctionApp] | None" = None,
    settings: FunctionSettings | None = None,
    transport: Transport | None = None,
) -> "FunctionApp":
    """Make the ASGI app that delivers jobs to tasks.

    Args:
        module: Every ``Task`` among its attributes is registered.
        tasks: Tasks to register, beside or instead of a module's.
        middleware: Starlette middleware around everything the app answers.
        lifespan: A Starlette lifespan, run inside the app's own.
        settings: Default: from the environment.
        transport: What carries reports. Default: aiohttp, opened with the first report.

    Returns:
        A Starlette app with ``POST /{task}``, ``POST /`` where there is one task only, ``GET /healthz``,
        ``GET /readyz`` and ``GET /``, the list of tasks. It can be mounted into a larger app.

    Raises:
        TaskDefinitionError: Two tasks share one identifier, or there is no task; names file and line.
        ConfigurationError: A setting in the environment is malformed.
    """
    registered = _register([*(tasks_of(module) if module is not None else ()), *tasks])
    return FunctionApp(
        registered,
        middleware=middleware,
        lifespan=lifespan,
        settings=settings or FunctionSettings.from_environ(os.environ),
        transport=transport or AiohttpTransport(),
    )


def tasks_of(module: ModuleType) -> list[AnyTask]:
    """The tasks among a module's attributes, each once, in the order of the file."""
    return list(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Task)))


def _register(tasks: Iterable[AnyTask]) -> dict[str, AnyTask]:
    registered: dict[str, AnyTask] = {}
    for task in tasks:
        other = registered.setdefault(task.identifier, task)
        if other is not task:
            raise TaskDefinitionError(
                f"{task.location}: a second task {task.identifier!r}; the first is at {other.location}. Rename one"
            )
    if not registered:
        raise TaskDefinitionError('no task to serve: decorate a handler with @task("an_identifier")')
    return registered


class FunctionApp(Starlette):
    """See ``create_app``, which makes it.

    Attributes:
        tasks: The registered tasks by identifier.
    """

    def __init__(
        self,
        tasks: dict[str, AnyTask],
        *,
        middleware: Sequence[Middleware],
        lifespan: "Lifespan[FunctionApp] | None",
        settings: FunctionSettings,
        transport: Transport,
    ) -> None:
        super().__init__(
            middleware=middleware,
            exception_handlers={HTTPException: self._not_served},
        )
        self.router = _DeliveryRouter(
            [
                Route("/healthz", _alive, methods=["GET"]),
                Route("/readyz", self._ready, methods=["GET"]),
                Route("/", self._index, methods=["GET"]),
            ],
            lifespan=self._lifespan,
            deliver=self.deliver,
        )
        self.tasks = tasks
        self._only = next(iter(tasks.values())) if len(tasks) == 1 else None
        self._inner_lifespan = lifespan
        self._settings = settings
        self._transport = transport
        self._reporter = Reporter(transport, report_seconds=settings.report_seconds)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="jobfn-handler")
        self._stopping = False

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's own layers; deliveries skip them where no middleware of the user's is among them."""
        stack = super().build_middleware_stack()
        if self.user_middleware:
            return stack

        async def deliveries_first(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST":
                await self.deliver(scope, receive, send)
            else:
                await stack(scope, receive, send)

        return deliveries_first

    async def deliver(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One delivery: run the task that the path names, report the outcome, answer it."""
        try:
            headers = JobHeaders.parse(scope["headers"])
        except MalformedRequest as error:
            headers = JobHeaders.parse_leniently(scope["headers"])
            outcome = refused(error)
        else:
            try:
                outcome = await self._run(scope, receive, headers)
            except ClientDisconnect:
                return  # the body never came whole: nothing ran, and nobody is there to answer
        if headers.reportable:
            await self._reporter.report(headers, outcome.report, wait_seconds=self._settings.report_wait_seconds)
        await _respond(send, outcome, headers)

    async def _run(self, scope: Scope, receive: Receive, headers: JobHeaders) -> Outcome:
        try:
            task = self._task(get_route_path(scope))
            _check_content_type(scope)
            payload = task.decode(await _read_body(scope, receive, self._settings.max_body_bytes))
        except RequestError as error:
            return refused(error)
        context = JobContext.of(task.identifier, headers)
        try:
            async with asyncio.timeout(task.timeout) as limit:
                result = await self._call(task, payload, context)
        except Exception as error:
            if isinstance(error, TimeoutError) and limit.expired():
                context.log.error("task timed out", timeout=task.timeout)
                return timed_out(task.identifier, task.timeout or 0)
            context.log.error("task failed", exc_info=error)
            return raised(error)
        outcome = succeeded(result)
        if outcome.problem is not None:
            context.log.error(outcome.problem)
        return outcome

    async def _call(self, task: AnyTask, payload: Any, context: JobContext) -> Any:
        arguments = (payload, context) if task.takes_context else (payload,)
        if task.is_async:
            return await task.handler(*arguments)
        call = functools.partial(contextvars.copy_context().run, task.handler, *arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _task(self, path: str) -> AnyTask:
        task = self.tasks.get(path[1:])
        if task is None:
            if self._only is not None and path in {"", "/"}:
                return self._only
            known = ", ".join(sorted(self.tasks))
            raise UnknownTask(f"No task {path[1:]!r} here. Known: {known}")
        return task

    async def _not_served(self, request: Request, _error: Exception) -> Response:
        """What no route answers: a task's path asked with another method, or a path that is nothing."""
        path = get_route_path(request.scope)
        served = path in _GET_PATHS
        problem: RequestError
        try:
            self._task(path)
        except UnknownTask as unknown:
            problem = WrongMethod(f"{path} takes GET, not {request.method}") if served else unknown
        else:
            problem = WrongMethod(f"{path} takes POST with the payload as JSON, not {request.method}")
        outcome = refused(problem)
        headers = JobHeaders.parse_leniently(request.scope["headers"])
        await self._reporter.report(headers, outcome.report, wait_seconds=self._settings.report_wait_seconds)
        extra = {"Allow": "GET, HEAD" if served else "POST"} if isinstance(problem, WrongMethod) else {}
        return Response(
            outcome.body,
            outcome.status_code,
            headers={**dict(headers.echo), **extra, JOB_ERROR: "true"},
            media_type="application/json",
        )

    async def _ready(self, _request: Request) -> Response:
        if self._stopping:
            return JSONResponse({"status": "stopping"}, 503)
        return JSONResponse({"status": "ready"})

    async def _index(self, _request: Request) -> Response:
        tasks = [
            {"identifier": task.identifier, "description": _first_line(task), "payload": task.payload_schema()}
            for task in self.tasks.values()
        ]
        return JSONResponse({"tasks": tasks})

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[Any]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._transport.aclose)
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            stack.push_async_callback(self._reporter.drain)
            state = None
            if self._inner_lifespan is not None:
                state = await stack.enter_async_context(self._inner_lifespan(self))
            try:
                yield state
            finally:
                self._stopping = True


class _DeliveryRouter(Router):
    """Starlette's router, with deliveries taken out before any route is tried."""

    def __init__(self, routes: Sequence[BaseRoute], *, lifespan: "Lifespan[Any]", deliver: ASGIApp) -> None:
        super().__init__(routes, lifespan=lifespan)
        self._deliver = deliver

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            await self._deliver(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The request body, at most ``limit`` bytes of it: a larger one is refused without reading it all."""
    declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    too_large = f"The body is over {limit} bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data"
    if declared.isdigit() and int(declared[:19]) > limit:
        raise BodyTooLarge(too_large)
    chunks: list[bytes] = []
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        length += len(chunk)
        if length > limit:
            raise BodyTooLarge(too_large)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_content_type(scope: Scope) -> None:
    """JSON, or not declared at all: a caller who names another type means something else."""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.split(b";", 1)[0].strip().lower()
            if media_type != b"application/json" and not media_type.endswith(b"+json") and media_type:
                shown = media_type.decode("latin-1")
                raise WrongContentType(f"Content-Type {shown} is not read here: send application/json")


async def _respond(send: Send, outcome: Outcome, headers: JobHeaders) -> None:
    raw = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(outcome.body)),
        *((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.echo),
    ]
    if outcome.report.status == "error":
        raw.append((b"x-job-error", b"true"))
    if outcome.status_code == BodyTooLarge.status_code:
        raw.append((b"connection", b"close"))  # the rest of the body is still on its way: do not read it
    await send({"type": "http.response.start", "status": outcome.status_code, "headers": raw})
    await send({"type": "http.response.body", "body": outcome.body})


def _first_line(task: AnyTask) -> str:
    return (task.__doc__ or "").strip().partition("\n")[0]
