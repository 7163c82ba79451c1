"""The function app: an ASGI app that receives deliveries, runs handlers and reports outcomes.

``create_app`` returns a Starlette app. Deliveries, which are POST requests, go to ``asgi_app.py``; everything else
(health, the index of tasks, middleware, mounting) is plain Starlette.
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

from jobfn.errors import ConfigurationError, TaskDefinitionError, Unauthorized
from jobfn.function.asgi_app import METRICS_PATH, DeliveryEndpoint, app_path
from jobfn.function.cancellation import cancel_handler
from jobfn.function.context import JobContext
from jobfn.function.delivery import DeliveryRunner
from jobfn.function.dependencies import Resource, ResourceRegistry
from jobfn.function.describe import describe_public
from jobfn.function.execution import AnyTask, Executor, TaskMiddleware, refused
from jobfn.function.metrics import FunctionMetrics, Instrumentation
from jobfn.function.outcome import DeliveryOutcome
from jobfn.function.reporter import MAX_CONNECTIONS_PER_HOST, Reporter
from jobfn.function.requirements import check_requirements
from jobfn.function.settings import FunctionSettings
from jobfn.function.task import Task
from jobfn.http.client import HttpTransport, Transport
from jobfn.telemetry.prometheus import scrape
from jobfn.telemetry.tracing import Tracing
from jobfn.wire import INVOKE_SECRET

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

#: Shutdown timeout of deliveries that the server has cancelled, and then of reports in flight.
SHUTDOWN_TIMEOUT_SECONDS = 5.0


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
    """Create the ASGI app that delivers jobs to tasks.

    Args:
        module: Every ``Task`` among its attributes is registered.
        tasks: Tasks to register besides those of the module.
        resources: Resources that handlers get by parameter name: a factory, or a ``Resource``. They are created when
            the app starts and closed when it stops.
        task_middleware: ``async def around(ctx, call_next)`` functions that wrap every handler, inside its timeout,
            the first one outermost. Each awaits ``call_next()`` and returns the handler's result or another one.
        middleware: Starlette middleware around all requests.
        lifespan: A Starlette lifespan, run inside the app's own.
        settings: Default: from the environment.
        transport: Sends reports. Default: HTTP, opened with the first report.
        tracer_provider: OpenTelemetry provider for traces. Default: the process's, if it has one.

    Returns:
        A Starlette app with ``POST /{task}``, ``POST /`` if there is only one task, ``GET /healthz``,
        ``GET /readyz``, ``GET /health``, ``GET /metrics`` and ``GET /``, the index of tasks. It can be mounted
        in a larger app: see ``FunctionApp.lifespan_context``.

    Raises:
        TaskDefinitionError: There is no task, two tasks have the same identifier, or a task depends on an unknown
            resource; the text holds the file and line.
        ConfigurationError: A setting in the environment is invalid.
    """
    if settings is not None and not isinstance(settings, FunctionSettings):
        raise ConfigurationError(f"settings={settings!r} must be FunctionSettings(...): omit it for the environment's")
    registered = _register([*(collect_tasks(module) if module is not None else ()), *tasks])
    return FunctionApp(
        registered,
        resources=resources or {},
        task_middleware=task_middleware,
        middleware=middleware,
        lifespan=lifespan,
        settings=settings or FunctionSettings.from_environ(os.environ),
        transport=transport or HttpTransport(max_connections=200, max_connections_per_host=MAX_CONNECTIONS_PER_HOST),
        tracing=Tracing(tracer_provider),
    )


def collect_tasks(module: ModuleType) -> list[AnyTask]:
    """Return the tasks among a module's attributes, each once, in the order of the file."""
    if not isinstance(module, ModuleType):
        raise TaskDefinitionError(f"{module!r} is not a module: pass the module that defines the tasks, or tasks=[...]")
    return list(dict.fromkeys(value for value in vars(module).values() if isinstance(value, Task)))


def _register(tasks: Iterable[AnyTask]) -> dict[str, AnyTask]:
    registered: dict[str, AnyTask] = {}
    for task in tasks:
        if not isinstance(task, Task):
            raise TaskDefinitionError(f'{task!r} is not a task: decorate the handler with @task("an_identifier")')
        first = registered.setdefault(task.identifier, task)
        if first is not task:
            raise TaskDefinitionError(
                f"{task.location}: the task {task.identifier!r} is already defined at {first.location}: rename one"
            )
    if not registered:
        raise TaskDefinitionError('the app has no task: decorate a handler with @task("an_identifier")')
    return registered


class FunctionApp(Starlette):
    """The app that ``create_app`` returns.

    Every POST is a delivery, whatever its path. Routes added to the app can handle the other methods.

    Attributes:
        tasks: The registered tasks by identifier.
        settings: The app's settings.
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
        self._metrics = FunctionMetrics(tasks)
        self._reporter = Reporter(
            transport,
            report_timeout_seconds=settings.report_timeout_seconds,
            allowed_hosts=settings.callback_allowed_hosts,
            metrics=self._metrics,
            tracing=tracing,
        )
        self._resources = ResourceRegistry(resources)
        for task in tasks.values():
            self._resources.check(task.location, task.dependencies)
        instrumentation = Instrumentation(self._metrics, tracing)
        self._executor = Executor(
            max_threads=settings.max_threads,
            default_database_id=settings.default_database_id,
            tracebacks=settings.tracebacks,
            instrumentation=instrumentation,
            resources=self._resources,
            middleware=task_middleware,
        )
        self._runner = runner = DeliveryRunner(
            settings=settings, reporter=self._reporter, instrumentation=instrumentation, executor=self._executor
        )
        self._endpoint = DeliveryEndpoint(
            tasks, settings=settings, runner=runner, executor=self._executor, accepts_batches=not middleware
        )
        self._user_lifespan = lifespan
        self.router = _DeliveryRouter(
            [
                Route("/healthz", _respond_ok, methods=["GET"]),
                Route("/readyz", _respond_ok, methods=["GET"]),
                Route("/health", _respond_ok, methods=["GET"]),
                Route("/", self._respond_index, methods=["GET"]),
                *([Route(METRICS_PATH, self._respond_metrics, methods=["GET"])] if settings.metrics else []),
            ],
            lifespan=self._lifespan,
            endpoint=self._endpoint,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request. Without middleware, deliveries skip Starlette's layers."""
        if scope["type"] == "http" and scope["method"] == "POST" and not self.user_middleware:
            await self._endpoint(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @contextlib.asynccontextmanager
    async def lifespan_context(self) -> AsyncIterator[None]:
        """Run the app's lifespan. A mounted app needs it, because Starlette runs only the outermost lifespan.

        ::

            @asynccontextmanager
            async def lifespan(outer):
                async with functions.lifespan_context():
                    yield

            Starlette(routes=[Mount("/jobs", functions)], lifespan=lifespan)

        Without it deliveries work, but ``lifespan`` does not run, and reports in flight at shutdown may be lost.
        """
        async with self.router.lifespan_context(self):
            yield

    def check_environment(self) -> None:
        """Check that the variables that tasks require are set. The app's lifespan does it at start.

        Raises:
            ConfigurationError: A required variable is not set. The message names it.
        """
        check_requirements(self.tasks.values(), os.environ)

    async def execute(self, identifier: str, body: bytes, context: JobContext) -> DeliveryOutcome:
        """Run a task as a delivery would, without HTTP and without a report."""
        outcome = await self._endpoint.execute(identifier, body, context)
        self._metrics.record_outcome(identifier if identifier in self.tasks else None, outcome)
        return outcome

    def cancel(self, context: JobContext) -> None:
        """Stop the handler of ``execute``, as if the job was cancelled."""
        cancel_handler(context, self.settings.cancel_grace_seconds)

    def use_report_transport(self, transport: Transport) -> None:
        """Send reports through another transport; call it before the first delivery. For tests of an existing app."""
        self._transport = transport
        self._reporter.use_transport(transport)

    async def _respond_index(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        return JSONResponse({"tasks": [describe_public(task) for task in self.tasks.values()]})

    async def _respond_metrics(self, request: Request) -> Response:
        if (refusal := self._refusal(request)) is not None:
            return refusal
        return scrape(self._metrics.collect())

    def _refusal(self, request: Request) -> Response | None:
        """Return the response to a reader without the invoke secret; a bearer token counts too, for Prometheus."""
        headers = list(request.scope["headers"])
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            headers.append((INVOKE_SECRET.lower().encode(), token.encode()))
        try:
            self._runner.authorize({**request.scope, "headers": headers})
        except Unauthorized as error:
            outcome = refused(error)
            return Response(outcome.body, outcome.status_code, media_type="application/json")
        return None

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[Any]:
        self.check_environment()
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._transport.aclose)
            stack.push_async_callback(self._executor.aclose)
            stack.push_async_callback(self._reporter.drain, timeout_seconds=SHUTDOWN_TIMEOUT_SECONDS)
            stack.push_async_callback(self._resources.close)
            await self._resources.open(dependency for task in self.tasks.values() for dependency in task.dependencies)
            state = None
            if self._user_lifespan is not None:
                state = await stack.enter_async_context(self._user_lifespan(self))
            stack.push_async_callback(self._endpoint.drain, timeout_seconds=SHUTDOWN_TIMEOUT_SECONDS)
            yield state


class _DeliveryRouter(Router):
    """Starlette's router, except that deliveries bypass the routes."""

    def __init__(self, routes: Sequence[BaseRoute], *, lifespan: "Lifespan[Any]", endpoint: DeliveryEndpoint) -> None:
        super().__init__(routes, redirect_slashes=False, lifespan=lifespan, default=self._not_found)
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["method"] == "POST":
            await self._endpoint(scope, receive, send)
        elif scope["method"] not in {"GET", "HEAD"} and app_path(scope) in self._endpoint.get_paths:
            await self._endpoint.refuse(scope, send)
        else:
            await super().__call__(scope, receive, send)

    async def _not_found(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._endpoint.refuse(scope, send)
        else:
            await self.not_found(scope, receive, send)


async def _respond_ok(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})
