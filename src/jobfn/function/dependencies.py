"""Dependency injection for handlers: pools, HTTP clients, settings, created once and closed at shutdown.

A handler parameter after payload and context is a resource: named in ``create_app(resources={"http": ...})``, or
annotated in place, ``http: Annotated[AsyncClient, Resource(make_client)]``. ``signature.py`` finds the parameters,
``execution.py`` resolves them for each job.
"""

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from jobfn.errors import TaskDefinitionError
from jobfn.function.context import JobContext

Scope = Literal["process", "job"]


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource and its lifetime.

    Args:
        factory: Called without arguments, or with the ``JobContext`` if the scope is ``job`` and it accepts one.
            It returns the resource, an awaitable of it, or a (sync or async) context manager; a generator function
            becomes a context manager. It runs on the event loop, so a sync factory must not block.
        scope: ``process``: created when the app starts, or on first use without a lifespan, and closed when the app
            stops. ``job``: created for each delivery and closed after its handler.

    Raises:
        TaskDefinitionError: The factory has other required arguments, or the scope is unknown.
    """

    factory: Callable[..., Any]
    scope: Scope = "process"

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise TaskDefinitionError(
                f"Resource({self.factory!r}): the factory must be callable: pass lambda: {self.factory!r}"
            )
        if self.scope not in get_args(Scope):
            raise TaskDefinitionError(f"Resource(..., scope={self.scope!r}): scope must be 'process' or 'job'")
        required = len(_required_parameters(self.factory))
        if required > (self.scope == "job"):
            allowed = "only the JobContext" if self.scope == "job" else "nothing (the JobContext with scope='job')"
            raise TaskDefinitionError(
                f"{self.factory!r} requires {required} arguments, but a resource factory is passed {allowed}"
            )


@dataclass(frozen=True, slots=True)
class Dependency:
    """A handler parameter that is a resource."""

    name: str
    resource: Resource | None = None  # None: the one of this name in create_app


class ResourceRegistry:
    """The resources of one app."""

    def __init__(self, named: Mapping[str, Resource | Callable[..., Any]]) -> None:
        if not isinstance(named, Mapping):
            raise TaskDefinitionError(f"resources={named!r} must be a mapping, for example {{'http': make_client}}")
        self._named = {name: value if isinstance(value, Resource) else Resource(value) for name, value in named.items()}
        self._instances: dict[Resource, Any] = {}
        self._lock = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    def check(self, location: str, dependencies: Iterable[Dependency]) -> None:
        """Check that the app has every dependency of the task at this location."""
        for dependency in dependencies:
            if dependency.resource is None and dependency.name not in self._named:
                name, known = dependency.name, ", ".join(sorted(self._named)) or "none"
                raise TaskDefinitionError(
                    f"{location}: the handler parameter {name!r} is not a resource of this app (known: {known}): "
                    f"add create_app(resources={{{name!r}: ...}}), or annotate it: Annotated[..., Resource(factory)]"
                )

    async def open(self, dependencies: Iterable[Dependency]) -> None:
        """Create the process-scoped resources among these and the named ones, unless they exist."""
        for resource in dict.fromkeys([*self._named.values(), *map(self._resource, dependencies)]):
            if resource.scope == "process":
                await self._get_shared(resource)

    async def close(self) -> None:
        """Close the process-scoped resources in reverse order. Later use creates them again."""
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        self._instances.clear()
        await stack.aclose()

    async def resolve(
        self, dependencies: Iterable[Dependency], context: JobContext, stack: contextlib.AsyncExitStack
    ) -> dict[str, Any]:
        """Return the resources of one job by parameter name; job-scoped ones are closed with ``stack``."""
        resources: dict[str, Any] = {}
        for dependency in dependencies:
            resource = self._resource(dependency)
            if resource.scope == "process":
                resources[dependency.name] = await self._get_shared(resource)
            else:
                resources[dependency.name] = await _create(resource, stack, context)
        return resources

    def _resource(self, dependency: Dependency) -> Resource:
        return dependency.resource if dependency.resource is not None else self._named[dependency.name]

    async def _get_shared(self, resource: Resource) -> Any:
        if resource not in self._instances:
            async with self._lock:  # concurrent first jobs must not create it twice
                if resource not in self._instances:
                    self._instances[resource] = await _create(resource, self._stack, None)
        return self._instances[resource]


async def _create(resource: Resource, stack: contextlib.AsyncExitStack, context: JobContext | None) -> Any:
    factory = resource.factory
    if inspect.isasyncgenfunction(factory):
        factory = contextlib.asynccontextmanager(factory)
    elif inspect.isgeneratorfunction(factory):
        factory = contextlib.contextmanager(factory)
    takes_context = context is not None and bool(_required_parameters(resource.factory))
    value = factory(context) if takes_context else factory()
    if inspect.isawaitable(value) and not hasattr(value, "__aenter__"):
        value = await value
    if hasattr(value, "__aenter__"):
        return await stack.enter_async_context(value)
    if hasattr(value, "__enter__"):
        return stack.enter_context(value)
    return value


def _required_parameters(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the required positional parameters of a factory; none if its signature is not readable."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [
        parameter for parameter in parameters if parameter.kind in positional and parameter.default is parameter.empty
    ]
