"""The function app: HTTP deliveries in, handlers run, outcomes out.

``create_app`` makes a Starlette app. Deliveries, which are POST requests, go to ``delivery.py``; everything else
(health, the list of tasks, middleware, mounting) is plain Starlette.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, Router
from starlette.types import Lifespan, Receive, Scope, Send

from jobfn.errors import ConfigurationError, TaskDefinitionError
from jobfn.function.asgi_app import METRICS, Deliveries, app_path
from jobfn.function.context import JobContext
from jobfn.function.dependencies import Resource, Resources
from jobfn.function.describe import describe_public
from jobfn.function.execution import AnyTask, Executor, TaskMiddleware
from jobfn.function.instrumentation import Observer
from jobfn.function.metrics import FunctionMetrics
from jobfn.function.outcome import Outcome
from jobfn.function.reporter import Reporter
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.http.client import HttpTransport, Transport
from jobfn.telemetry.prometheus import scrape
from jobfn.telemetry.tracing import Tracing

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

#: When the app stops: so long are deliveries waited for that the server has cancelled, and then reports.
STOPPING_SECONDS = 5.0


def create_app(
    module: ModuleType | None = None,
    *,
    tasks: Iterable[AnyTask] = (),
    resources: Mapping[str, Resource | Callable[..., Any]] | None = None,
    task_middleware: Sequence[TaskMiddleware] = (),
    middleware: Sequence[Middleware] = (),
    lifespan: "Lifespan[FunctionApp] | None" = None,
    settings: FunctionSettings | None = None,
    transport: Transport | None = None,
    tracer_provider: "TracerProvider | None" = None,
) -> "FunctionApp":
    """Make the ASGI app that delivers jobs to tasks.

    Args:
        module: Every ``Task`` among its attributes is registered.
        tasks: Tasks to register, beside or instead of a module's.
        resources: What handlers may ask for by a parameter's name, beside payload and context: a factory, or a
            ``Resource``. Made when the app starts, closed when it stops.
        task_middleware: ``async def around(ctx, call_next)``, wrapped around every handler, inside its timeout, the
            first one outermost. It returns ``await call_next()``, the handler's result, or another one, or raises.
        middleware: Starlette middleware around everything the app answers.
        lifespan: A Starlette lifespan, run inside the app's own.
        settings: Default: from the environment.
        transport: What carries reports. Default: HTTP, opened with the first report.
        tracer_provider: OpenTelemetry's, for traces. Default: the process's own, if it has one.

    Returns:
        A Starlette app with ``POST /{task}``, ``POST /`` where there is one task only, ``GET /healthz``,
        ``GET /readyz``, ``GET /metrics`` and ``GET /``, the list of tasks. It can be mounted into a larger app: see
        ``FunctionApp.running``.

    Raises:
        TaskDefinitionError: Two tasks share one identifier, there is no task, or one needs a resource that there is
            not; names file and line.
        ConfigurationError: A setting in the environment is malformed.
    """
    if settings is not None and not isinstance(settings, FunctionSettings):
        raise ConfigurationError(f"settings={settings!r}: give FunctionSettings(...), or nothing for the environment's")
    registered = _register([*(tasks_of(module) if module is not None else ()), *tasks])
    return FunctionApp(
        registered,
        resources=resources or {},
        task_middleware=task_middleware,
        middleware=middleware,
        lifespan=lifespan,
        settings=settings or FunctionSettings.from_environ(os.environ),
        transport=transport or HttpTransport(),
        tracing=Tracing(tracer_provider),
    )


def tasks_of(module: ModuleType) -> list[AnyTask]:
    """The tasks among a module's attributes, each once, in the order of the file.

    Raises:
        TaskDefinitionError: It is no module; says what to give.
    """
    if not isinstance(module, ModuleType):
        raise TaskDefinitionError(
            f"{module!r} is no module: import the one that holds the tasks and give that, or give tasks=[...]"
        )
    return list(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Task)))


def _register(tasks: Iterable[AnyTask]) -> dict[str, AnyTask]:
    registered: dict[str, AnyTask] = {}
    for task in tasks:
        if not isinstance(task, Task):
            raise TaskDefinitionError(f'{task!r} is no task: decorate the handler with @task("an_identifier")')
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

    POST is for deliveries, whatever the path; routes of your own, added as to any Starlette app, can be for the
    other methods.

    Attributes:
        tasks: The registered tasks by identifier.
        settings: How it behaves.
    """

    def __init__(
        self,
        tasks: dict[str, AnyTask],
        *,
        resources: Mapping[str, Resource | Callable[..., Any]],
        task_middleware: Sequence[TaskMiddleware],
        middleware: Sequence[Middleware],
        lifespan: "Lifespan[FunctionApp] | None",
        settings: FunctionSettings,
        transport: Transport,
        tracing: Tracing,
    ) -> None:
        super().__init__(middleware=middleware)
        self.tasks = tasks
        self.settings = settings
        self._transport = transport
        self._measures = FunctionMetrics(tasks)
        self._reporter = Reporter(
            transport,
            report_timeout_seconds=settings.report_timeout_seconds,
            allow=settings.callback_allowed_hosts,
            measures=self._measures,
            tracing=tracing,
        )
        observer = Observer(self._measures, tracing)
        self._resources = Resources(resources)
        for task in tasks.values():
            self._resources.check(task.location, task.needs)
        executor = Executor(
            threads=settings.max_threads, observer=observer, resources=self._resources, middleware=task_middleware
        )
        self._deliveries = Deliveries(
            tasks, settings=settings, reporter=self._reporter, observer=observer, executor=executor
        )
        self._inner_lifespan = lifespan
        self.router = _DeliveryRouter(
            [
                Route("/healthz", _alive, methods=["GET"]),
                Route("/readyz", _alive, methods=["GET"]),
                Route("/", self._index, methods=["GET"]),
                *([Route(METRICS, self._metrics, methods=["GET"])] if settings.metrics else []),
            ],
            lifespan=self._lifespan,
            deliveries=self._deliveries,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as ASGI has it: deliveries skip Starlette's layers where no middleware of the user's is among them."""
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware:
            await self._deliveries(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the app's lifespan by hand. For an app that is mounted: Starlette starts only the outermost one.

        ::

            @asynccontextmanager
            async def lifespan(outer):
                async with functions.running():
                    yield

            Starlette(routes=[Mount("/jobs", functions)], lifespan=lifespan)

        Without it deliveries work, but ``lifespan`` is not run and reports under way at the end may be lost.
        """
        async with self.router.lifespan_context(self):
            yield

    async def execute(self, identifier: str, body: bytes, context: JobContext) -> Outcome:
        """Run a task in this process, as a delivery over HTTP would, and report to nobody.

        Args:
            identifier: The task's.
            body: The payload, JSON.
            context: What the handler is to know of the job.

        Returns:
            How it ended; an unknown task and a payload that does not fit are ends, too.
        """
        ended = await self._deliveries.execute(identifier, body, context)
        self._measures.ended(identifier if identifier in self.tasks else None, ended)
        return ended

    def use_report_transport(self, transport: Transport) -> None:
        """Let another transport carry the reports, before any delivery: for tests of an app that is made already."""
        self._transport = transport
        self._reporter.through(transport)

    async def _index(self, _request: Request) -> Response:
        return JSONResponse({"tasks": [describe_public(task) for task in self.tasks.values()]})

    async def _metrics(self, _request: Request) -> Response:
        return scrape(self._measures.families())

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[Any]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._transport.aclose)
            stack.callback(self._deliveries.close)
            stack.push_async_callback(self._deliveries.disconnect)
            stack.push_async_callback(self._reporter.drain, seconds=STOPPING_SECONDS)
            stack.push_async_callback(self._resources.close)
            await self._resources.open(need for task in self.tasks.values() for need in task.needs)
            state = None
            if self._inner_lifespan is not None:
                state = await stack.enter_async_context(self._inner_lifespan(self))
            stack.push_async_callback(self._deliveries.drain, seconds=STOPPING_SECONDS)
            yield state


class _DeliveryRouter(Router):
    """Starlette's router, with deliveries taken out before any route is tried."""

    def __init__(self, routes: Sequence[BaseRoute], *, lifespan: "Lifespan[Any]", deliveries: Deliveries) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan, default=self._not_found)
        self._deliveries = deliveries

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["method"] == "POST":
            await self._deliveries(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"} and app_path(scope) in self._deliveries.pages:
            await self._deliveries.refuse(scope, send)
        else:
            await super().__call__(scope, receive, send)

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What no route answers."""
        if scope["type"] == "http":
            await self._deliveries.refuse(scope, send)
        else:
            await self.not_found(scope, receive, send)


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
