"""Resources and middleware: what handlers get, when it is made, and when it is closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any, Self

import pytest

from jobfn import ConfigurationError, JobContext, Resource, TaskDefinitionError, create_app, task
from jobfn.testing import function_under_test

Events = list[str]


class Pool:
    """Something that is made once and closed at the end."""

    def __init__(self, name: str, events: Events) -> None:
        self.name, self._events = name, events

    async def __aenter__(self) -> Self:
        self._events.append(f"open {self.name}")
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._events.append(f"close {self.name}")


@pytest.fixture
def events() -> Events:
    """What happened, in order."""
    return []


async def test_named_resources_are_made_once_and_closed(events: Events) -> None:
    """One for all jobs, by the parameter's name, in async and sync handlers; closed when the app stops."""

    @task("asynchronous")
    async def asynchronous(payload: None, ctx: JobContext, pool: Pool) -> str:
        return pool.name

    @task("synchronous")
    def synchronous(payload: None, *, pool: Pool) -> str:
        return pool.name

    app = function_under_test(asynchronous, synchronous, resources={"pool": lambda: Pool("a", events)})
    async with app:
        assert events == ["open a"]
        results = await asyncio.gather(*(app.deliver(name) for name in ("asynchronous", "synchronous")))
        assert [each.result for each in results] == ["a", "a"]
    assert events == ["open a", "close a"]
    assert (await app.deliver("asynchronous")).result == "a", "it is made again when the app starts again"
    assert events == ["open a", "close a"] * 2


async def test_without_a_lifespan_they_are_made_when_first_needed(events: Events) -> None:
    """Of two jobs that come first together, one makes it."""

    async def make() -> Pool:
        await asyncio.sleep(0)
        return Pool("late", events)

    @task("x")
    async def x(payload: None, pool: Annotated[Pool, Resource(make)]) -> str:
        return pool.name

    app = function_under_test(create_app(tasks=[x]))
    app._is_running = True  # noqa: SLF001  - an app that is mounted without its lifespan
    await asyncio.gather(app.deliver("x"), app.deliver("x"))
    assert events == ["open late"]


async def test_resources_of_a_job_are_closed_when_it_ends(events: Events) -> None:
    """Made for each delivery, with its context where they take it; closed before the report, failed or not."""

    async def session(ctx: JobContext) -> AsyncIterator[str]:
        events.append(f"begin {ctx.job_id}")
        try:
            yield f"session {ctx.job_id}"
        except ValueError:
            events.append("rolled back")
            raise
        finally:
            events.append("end")

    def plain() -> Iterator[int]:
        yield 5

    @contextlib.contextmanager
    def managed() -> Iterator[int]:
        yield 6
        events.append("managed ended")

    @task("x")
    async def x(
        payload: int,
        ctx: JobContext,
        session: Annotated[str, Resource(session, scope="job")],
        five: Annotated[int, Resource(plain, scope="job")],
        six: Annotated[int, "a note", Resource(managed, scope="job")],
        seven: Annotated[int, Resource(lambda: 7, scope="job")],
        word: Annotated[str, Resource(str, scope="job")],
        unused: int = 1,
    ) -> list[Any]:
        events.append("handler")
        if payload:
            raise ValueError("no")
        return [session, five, six, seven, word, unused]

    app = function_under_test(x)
    assert (await app.deliver(x, 0)).result == ["session 1", 5, 6, 7, "", 1]
    assert events == ["begin 1", "handler", "managed ended", "end"]
    events.clear()
    assert (await app.deliver(x, 1)).error == "no"
    assert events == ["begin 2", "handler", "rolled back", "end"]


async def test_a_resource_that_cannot_be_made_fails_the_job(events: Events) -> None:
    """The job fails with the reason, and is tried again; of a process's, the app does not start."""

    def broken() -> int:
        raise ConnectionError("no server")

    @task("x")
    async def x(payload: None, thing: Annotated[int, Resource(broken, scope="job")]) -> None:
        events.append("handler")

    assert (await function_under_test(x).deliver(x)).error == "no server"
    with pytest.raises(ConnectionError):
        await function_under_test(x, resources={"other": broken}).deliver(x)
    assert events == []


def test_a_parameter_that_is_no_resource() -> None:
    """It is told where the handler is, and how to give it one."""

    @task("x")
    async def x(payload: None, ctx: JobContext, http: Pool) -> None: ...

    with pytest.raises(
        TaskDefinitionError,
        match=r"test_resources.py:\d+: the handler parameter 'http' is not a resource of this app \(known: pool\)",
    ):
        create_app(tasks=[x], resources={"pool": list})


@task("plain")
async def plain(payload: None) -> None:
    """It needs nothing."""


async def _around(ctx: JobContext) -> None:
    """It does not take what comes next."""


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"resources": {"pool": 5}}, r"Resource\(5\): the factory must be callable"),
        (
            {"resources": {"pool": lambda one, two: (one, two)}},
            "requires 2 arguments, but a resource factory is passed nothing",
        ),
        ({"resources": [list]}, "must be a mapping"),
        ({"task_middleware": [5]}, "5 is not a task middleware: pass async def around"),
        ({"task_middleware": [_around]}, "is not a task middleware"),
        ({"task_middleware": _around}, r"must be a list, for example \[around\]"),
    ],
)
def test_what_is_neither_is_refused_where_the_app_is_made(options: Any, told: str) -> None:
    """Not by the first job."""
    with pytest.raises(TaskDefinitionError, match=told):
        create_app(tasks=[plain], **options)


def test_settings_are_settings() -> None:
    """Not a dictionary of them."""
    with pytest.raises(ConfigurationError, match=r"must be FunctionSettings\(...\)"):
        create_app(tasks=[plain], settings={"threads": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Resource(None), r"Resource\(None\): the factory must be callable"),  # type: ignore[arg-type]
        (lambda: Resource(list, scope="hour"), "scope='hour'.: scope must be 'process' or 'job'"),  # type: ignore[arg-type]
        (lambda: Resource(lambda ctx: ctx), r"is passed nothing \(the JobContext with scope='job'\)"),
        (lambda: Resource(lambda ctx, more: (ctx, more), scope="job"), "is passed only the JobContext"),
    ],
)
def test_a_resource_that_could_not_be_made_is_refused_where_it_is_written(make: Callable[[], Any], told: str) -> None:
    """With what its factory may ask for."""
    with pytest.raises(TaskDefinitionError, match=told):
        make()


def test_a_positional_only_resource_is_refused() -> None:
    """Resources are given by name."""
    with pytest.raises(TaskDefinitionError, match="put it after the /"):

        @task("x")
        def x(payload: None, ctx: JobContext, pool: Pool, /) -> None: ...


def test_a_second_parameter_is_the_context_where_it_can_be() -> None:
    """By its name, without an annotation, or by one that a context fits; else it is a resource."""

    @task("a")
    def a(payload: None, anything: object) -> None: ...

    @task("b")
    def b(payload: None, ctx: Pool) -> None: ...

    @task("c")
    def c(payload: None, pool: Pool) -> None: ...

    @task("d")
    def d(payload: None, pool: "Callable[[], int]") -> None: ...

    assert [each.takes_context for each in (a, b, c, d)] == [True, True, False, True]

    @task("e")
    def e(payload: None, context: "OnlyForTypeCheckers", more: "Unknown" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert e.takes_context
    with pytest.raises(TaskDefinitionError, match="the annotation of 'pool' is not readable"):

        @task("f")
        def f(payload: None, ctx: JobContext, pool: "Unknown") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert [each.name for each in c.dependencies] == ["pool"]


async def test_middleware_surrounds_every_handler(events: Events) -> None:
    """The first one outermost, around resources and handler; what it gives is the result."""

    async def outer(ctx: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        events.append(f"outer {ctx.task}")
        try:
            return {"wrapped": await call_next()}
        finally:
            events.append("outer end")

    async def inner(_ctx: JobContext, call_next: Callable[[], Awaitable[Any]]) -> Any:
        events.append("inner")
        return await call_next()

    @task("x")
    def x(payload: None, pool: Annotated[Pool, Resource(lambda: Pool("p", events), scope="job")]) -> str:
        events.append("handler")
        return "done"

    @task("y", timeout=0.01)
    async def y(payload: None) -> None:
        await asyncio.Event().wait()

    app = function_under_test(x, y, task_middleware=[outer, inner])
    assert (await app.deliver(x)).result == {"wrapped": "done"}
    assert events == ["outer x", "inner", "open p", "handler", "close p", "outer end"]
    assert "did not finish within its timeout" in ((await app.deliver(y)).error or "")
