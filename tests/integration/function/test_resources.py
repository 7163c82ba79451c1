"""Resources and task middleware: when they are created, passed and closed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Annotated, Any, Self

import pytest

from jobfn import ConfigurationError, JobContext, Resource, TaskDefinitionError, create_app, task
from jobfn.testing import function_under_test

Events = list[str]


class Pool:
    """A resource that records when it is opened and closed."""

    def __init__(self, name: str, events: Events) -> None:
        self.name, self._events = name, events

    async def __aenter__(self) -> Self:
        self._events.append(f"open {self.name}")
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._events.append(f"close {self.name}")


@pytest.fixture
def events() -> Events:
    return []


async def test_named_resource_is_created_once_per_app_and_closed(events: Events) -> None:
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
        assert [delivery.result for delivery in results] == ["a", "a"]
    assert events == ["open a", "close a"]
    assert (await app.deliver("asynchronous")).result == "a"
    assert events == ["open a", "close a"] * 2


async def test_resource_is_created_once_on_first_use_without_a_lifespan(events: Events) -> None:
    async def create_pool() -> Pool:
        await asyncio.sleep(0)
        return Pool("late", events)

    @task("x")
    async def x(payload: None, pool: Annotated[Pool, Resource(create_pool)]) -> str:
        return pool.name

    app = function_under_test(create_app(tasks=[x]))
    app._is_running = True  # noqa: SLF001  - as an app that is mounted without its lifespan
    await asyncio.gather(app.deliver("x"), app.deliver("x"))
    assert events == ["open late"]


async def test_job_scoped_resources_are_created_for_each_job_and_closed_before_its_report(events: Events) -> None:
    async def session(ctx: JobContext) -> AsyncIterator[str]:
        events.append(f"begin {ctx.job_id}")
        try:
            yield f"session {ctx.job_id}"
        except ValueError:
            events.append("rolled back")
            raise
        finally:
            events.append("end")

    def generator() -> Iterator[int]:
        yield 5

    @contextlib.contextmanager
    def context_manager() -> Iterator[int]:
        yield 6
        events.append("context manager closed")

    @task("x")
    async def x(
        payload: int,
        ctx: JobContext,
        session: Annotated[str, Resource(session, scope="job")],
        five: Annotated[int, Resource(generator, scope="job")],
        six: Annotated[int, "a note", Resource(context_manager, scope="job")],
        seven: Annotated[int, Resource(lambda: 7, scope="job")],
        text: Annotated[str, Resource(str, scope="job")],
        unused: int = 1,
    ) -> list[Any]:
        events.append("handler")
        if payload:
            raise ValueError("no")
        return [session, five, six, seven, text, unused]

    app = function_under_test(x)
    assert (await app.deliver(x, 0)).result == ["session 1", 5, 6, 7, "", 1]
    assert events == ["begin 1", "handler", "context manager closed", "end"]
    events.clear()
    assert (await app.deliver(x, 1)).error == "no"
    assert events == ["begin 2", "handler", "rolled back", "end"]


async def test_factory_that_raises_fails_the_job_or_the_start(events: Events) -> None:
    def broken() -> int:
        raise ConnectionError("no server")

    @task("x")
    async def x(payload: None, thing: Annotated[int, Resource(broken, scope="job")]) -> None:
        events.append("handler")

    assert (await function_under_test(x).deliver(x)).error == "no server"
    with pytest.raises(ConnectionError):
        await function_under_test(x, resources={"other": broken}).deliver(x)
    assert events == []


def test_unknown_resource_is_an_error_with_the_handler_s_line() -> None:
    @task("x")
    async def x(payload: None, ctx: JobContext, http: Pool) -> None: ...

    message = (
        r"test_resources.py:\d+: the handler parameter 'http' is not a resource of this app \(known: pool\): "
        r"add create_app\(resources={'http': ...}\), or annotate it"
    )
    with pytest.raises(TaskDefinitionError, match=message):
        create_app(tasks=[x], resources={"pool": list})


@task("plain")
async def plain(payload: None) -> None: ...


async def without_call_next(ctx: JobContext) -> None: ...


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"resources": {"pool": lambda one, two: (one, two)}},
            "requires 2 arguments, but a resource factory is passed nothing",
        ),
        ({"resources": [list]}, "must be a mapping, for example"),
        ({"task_middleware": [5]}, "5 is not a task middleware: pass async def around"),
        ({"task_middleware": without_call_next}, r"must be a list, for example \[around\]"),
    ],
)
def test_invalid_resource_or_middleware_is_an_error_of_create_app(options: Any, message: str) -> None:
    with pytest.raises(TaskDefinitionError, match=message):
        create_app(tasks=[plain], **options)


def test_settings_that_are_not_function_settings_are_an_error() -> None:
    with pytest.raises(ConfigurationError, match=r"must be FunctionSettings\(...\)"):
        create_app(tasks=[plain], settings={"threads": 1})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("create", "message"),
    [
        (lambda: Resource(None), r"Resource\(None\): the factory must be callable"),  # type: ignore[arg-type]
        (lambda: Resource(list, scope="hour"), "scope='hour'.: scope must be 'process' or 'job'"),  # type: ignore[arg-type]
        (lambda: Resource(lambda ctx: ctx), r"is passed nothing \(the JobContext with scope='job'\)"),
        (lambda: Resource(lambda ctx, more: (ctx, more), scope="job"), "is passed only the JobContext"),
    ],
)
def test_invalid_resource_definition_is_an_error(create: Callable[[], Any], message: str) -> None:
    with pytest.raises(TaskDefinitionError, match=message):
        create()


def test_positional_only_resource_is_an_error() -> None:
    with pytest.raises(TaskDefinitionError, match="'pool' is a resource, which is passed by name: put it after the /"):

        @task("x")
        def x(payload: None, ctx: JobContext, pool: Pool, /) -> None: ...


def test_second_parameter_is_the_context_if_its_name_or_annotation_allows_it() -> None:
    @task("a")
    def a(payload: None, anything: object) -> None: ...

    @task("b")
    def b(payload: None, ctx: Pool) -> None: ...

    @task("c")
    def c(payload: None, pool: Pool) -> None: ...

    @task("d")
    def d(payload: None, pool: "Callable[[], int]") -> None: ...

    @task("e")
    def e(payload: None, context: "OnlyForTypeCheckers", more: "Unknown" = None) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert [each.takes_context for each in (a, b, c, d, e)] == [True, True, False, True, True]
    assert [each.name for each in c.dependencies] == ["pool"]
    with pytest.raises(TaskDefinitionError, match="the annotation of 'pool' is not readable"):

        @task("f")
        def f(payload: None, ctx: JobContext, pool: "Unknown") -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def test_task_middleware_wraps_resources_and_handler_inside_the_timeout(events: Events) -> None:
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
