"""What handlers get beside payload and context: a pool, an HTTP client, settings; made once, closed at the end.

A handler's parameter after payload and context is a resource: named in ``create_app(resources={"http": ...})``, or
annotated where it stands, ``http: Annotated[AsyncClient, Resource(make_client)]``. ``signature.py`` finds the
parameters, ``delivery.py`` asks for what a task needs; a task that needs none costs nothing.
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
    """How a resource is made.

    Args:
        factory: Called without arguments, or with the ``JobContext`` where it is made per job and takes one. It
            returns the resource, an awaitable of it, or a context manager (sync or async) that gives it; a generator
            that yields it once is taken as a context manager. It runs on the event loop, so a sync one must be quick.
        per: ``process``: made once, when the app starts or, without a lifespan, when first needed, and closed when
            the app stops. ``job``: made for each delivery and closed when its handler has ended.

    Raises:
        TaskDefinitionError: The factory cannot be called so, or ``per`` is something else.
    """

    factory: Callable[..., Any]
    per: Scope = "process"

    def __post_init__(self) -> None:
        if not callable(self.factory):
            raise TaskDefinitionError(
                f"Resource({self.factory!r}): give a function that makes it, such as lambda: {self.factory!r}"
            )
        if self.per not in get_args(Scope):
            raise TaskDefinitionError(f"Resource(..., per={self.per!r}): give 'process' or 'job'")
        wanted = len(_required(self.factory))
        if wanted > (self.per == "job"):
            context = "at most the JobContext" if self.per == "job" else "nothing (the JobContext with per='job')"
            raise TaskDefinitionError(f"{self.factory!r} wants {wanted} arguments: a resource's factory gets {context}")


@dataclass(frozen=True, slots=True)
class Need:
    """A handler's parameter that is a resource.

    Attributes:
        name: Of the parameter.
        resource: As annotated; None: the one of that name among ``create_app``'s.
    """

    name: str
    resource: Resource | None = None


class Resources:
    """The resources of one app.

    Args:
        named: As given to ``create_app``: a ``Resource``, or a factory of one per process, by name.

    Raises:
        TaskDefinitionError: One of them is neither; or they have no names.
    """

    def __init__(self, named: Mapping[str, Resource | Callable[..., Any]]) -> None:
        if not isinstance(named, Mapping):
            raise TaskDefinitionError(f"resources={named!r}: give them by name, such as {{'http': make_client}}")
        self._named = {name: given if isinstance(given, Resource) else Resource(given) for name, given in named.items()}
        self._made: dict[Resource, Any] = {}
        self._lock = asyncio.Lock()
        self._stack = contextlib.AsyncExitStack()

    def check(self, location: str, needs: Iterable[Need]) -> None:
        """See that all that a task needs is there.

        Raises:
            TaskDefinitionError: A parameter is no resource's name; names the file, the line and the parameter.
        """
        for need in needs:
            if need.resource is None and need.name not in self._named:
                known = ", ".join(sorted(self._named)) or "none"
                raise TaskDefinitionError(
                    f"{location}: the handler takes {need.name!r}, which is no resource of this app (known: {known}): "
                    f"create_app(resources={{{need.name!r}: ...}}), or annotate it: Annotated[..., Resource(factory)]"
                )

    async def open(self, needs: Iterable[Need]) -> None:
        """Make those of the process's that these tasks need, and those that were named, if they are not there yet."""
        for resource in dict.fromkeys([*self._named.values(), *(self._of(need) for need in needs)]):
            if resource.per == "process":
                await self._shared(resource)

    async def close(self) -> None:
        """Close those of the process, the last one first. They are made again if they are asked for again."""
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        self._made.clear()
        await stack.aclose()

    async def provide(
        self, needs: Iterable[Need], context: JobContext, stack: contextlib.AsyncExitStack
    ) -> dict[str, Any]:
        """What a handler is to be called with, by name; those of the job are closed with the stack."""
        found: dict[str, Any] = {}
        for need in needs:
            resource = self._of(need)
            if resource.per == "process":
                found[need.name] = self._made[resource] if resource in self._made else await self._shared(resource)
            else:
                found[need.name] = await _entered(resource, stack, context)
        return found

    def _of(self, need: Need) -> Resource:
        return need.resource if need.resource is not None else self._named[need.name]

    async def _shared(self, resource: Resource) -> Any:
        async with self._lock:  # of two jobs that need it first, one makes it
            if resource not in self._made:
                self._made[resource] = await _entered(resource, self._stack, None)
            return self._made[resource]


async def _entered(resource: Resource, stack: contextlib.AsyncExitStack, context: JobContext | None) -> Any:
    factory = resource.factory
    if inspect.isasyncgenfunction(factory):
        factory = contextlib.asynccontextmanager(factory)
    elif inspect.isgeneratorfunction(factory):
        factory = contextlib.contextmanager(factory)
    made = factory(context) if context is not None and _takes_context(resource.factory) else factory()
    if inspect.isawaitable(made) and not hasattr(made, "__aenter__"):
        made = await made
    if hasattr(made, "__aenter__"):
        return await stack.enter_async_context(made)
    if hasattr(made, "__enter__"):
        return stack.enter_context(made)
    return made


def _takes_context(factory: Callable[..., Any]) -> bool:
    return bool(_required(factory))


def _required(factory: Callable[..., Any]) -> list[inspect.Parameter]:
    """The positional parameters that a factory must get; none where it cannot be asked."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return []
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return [each for each in parameters if each.kind in positional and each.default is each.empty]
