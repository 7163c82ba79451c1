"""Tasks: payload annotations, handler kinds, and that a task stays callable."""

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from jobfn import JobContext, Task, task
from jobfn.function.loading import load_module
from jobfn.payloads import Meta, RowChange, RowId


class Invoice(BaseModel):
    id: UUID
    cents: int = Field(gt=0)


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Contact(TypedDict):
    name: str


ID = UUID("5b720132-17d5-424d-9bcb-ee7b17c13d43")


def task_of(annotation: Any) -> Task[..., Any]:
    """Return a task whose payload has this annotation."""

    def handler(payload: Any) -> Any:
        return payload

    handler.__annotations__["payload"] = annotation
    return task("t")(handler)


@pytest.mark.parametrize(
    ("annotation", "body", "payload"),
    [
        (Invoice, f'{{"id": "{ID}", "cents": 5}}', Invoice(id=ID, cents=5)),
        (Point, '{"x": 1}', Point(1)),
        (Contact, '{"name": "Ada"}', {"name": "Ada"}),
        (int, "7", 7),
        (Annotated[int, Field(ge=3)], "3", 3),
        (Point | Contact, '{"name": "Ada"}', {"name": "Ada"}),
        (Invoice | None, "null", None),
        (Any, "true", True),
        (
            RowId,
            '{"id": "3", "_meta": {"schema": "s", "table": "t", "event": "INSERT"}}',
            RowId(id="3", meta=Meta(table_schema="s", table="t", event="INSERT")),
        ),
        (RowChange[Point], '{"new": {"x": 2}, "old": {"x": 1}}', RowChange[Point](new=Point(2), old=Point(1))),
        (None, "  ", None),
        (None, "null", None),
    ],
)
def test_body_is_validated_by_the_annotation(annotation: Any, body: str, payload: object) -> None:
    assert task_of(annotation).decode(body.encode()) == payload


def test_payload_without_an_annotation_is_a_dict() -> None:
    @task("plain")
    def plain(payload):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202  - that is the case
        return payload

    assert plain.decode(b'{"a": 1}') == {"a": 1}
    with pytest.raises(Exception, match="Input should be an object"):
        plain.decode(b"[1]")


POSTPONED = """
from __future__ import annotations
from typing import TYPE_CHECKING
from pydantic import BaseModel
from jobfn import task
if TYPE_CHECKING:
    from jobfn import JobContext

class Outer(BaseModel):
    a: int

@task("outer")
async def outer(payload: Outer, ctx: JobContext) -> None: ...

def make():
    class Inner(BaseModel):
        outer: Outer
    @task("inner")
    def inner(payload: list[Inner], ctx: JobContext) -> None: ...
    return inner
"""


def test_postponed_annotations_find_globals_and_locals(tmp_path: Path) -> None:
    """The context's annotation may be imported under TYPE_CHECKING only."""
    (tmp_path / "postponed.py").write_text(POSTPONED)
    module = load_module(str(tmp_path / "postponed.py"))
    outer, inner = module.outer, module.make()
    assert outer.decode(b'{"a": 1}').a == 1
    assert outer.takes_context
    assert inner.decode(b'[{"outer": {"a": 3}}]')[0].outer.a == 3
    assert inner.takes_context


async def asynchronous(payload: int) -> int:
    return payload * 2


def synchronous(payload: int) -> int:
    return payload * 2


class AsyncCallable:
    async def __call__(self, payload: int) -> int:
        return payload * 2


class Methods:
    async def method(self, payload: int, ctx: JobContext) -> int:
        raise NotImplementedError


def plain_wrapper(function: Callable[[int], Any]) -> Callable[[int], Any]:
    @functools.wraps(function)
    def wrapper(payload: int) -> Any:
        return function(payload)

    return wrapper


def with_context(payload: int, ctx: JobContext) -> None: ...
def with_default_context(payload: int, ctx: JobContext | None = None) -> None: ...
def with_any_second(payload: int, other: Any, /) -> None: ...
def with_option(payload: int, retries: int = 3, *, verbose: bool = False) -> None: ...


@pytest.mark.parametrize(
    ("handler", "is_async", "takes_context"),
    [
        (asynchronous, True, False),
        (synchronous, False, False),
        (AsyncCallable(), True, False),
        (Methods().method, True, True),
        (functools.partial(lambda extra, payload: (extra, payload), 1), False, False),
        (plain_wrapper(asynchronous), False, False),
        (with_context, False, True),
        (with_default_context, False, True),
        (with_any_second, False, True),
        (with_option, False, False),
        (task("first")(asynchronous), True, False),
    ],
)
def test_kind_of_a_handler_is_recognized(handler: Callable[..., Any], is_async: bool, takes_context: bool) -> None:  # noqa: FBT001  - columns of a table
    handler_task = task("handler")(handler)
    assert (handler_task.is_async, handler_task.takes_context) == (is_async, takes_context)


def test_task_is_called_like_its_function_without_validation() -> None:
    @task("double")
    def double(payload: int, factor: int = 2) -> int:
        """Double it."""
        return payload * factor

    assert double(2) == 4
    assert double(payload=2, factor=3) == 6
    assert double("ab") == "abab"  # type: ignore[comparison-overlap, arg-type]
    assert (double.__name__, double.__doc__) == ("double", "Double it.")  # type: ignore[attr-defined]
    assert list(inspect.signature(double).parameters) == ["payload", "factor"]
    assert double.location.startswith(f"{__file__}:")
    assert repr(double) == f"<Task 'double' at {double.location}>"


def test_handler_may_have_two_identifiers() -> None:
    first = task("one")(asynchronous)
    second = task("two", timeout=3)(first)
    assert (first.identifier, second.identifier) == ("one", "two")
    assert first.handler is second.handler is asynchronous
    assert (first.timeout, second.timeout) == (None, 3)


def test_attribute_of_the_function_does_not_override_the_task_s() -> None:
    def tagged(payload: dict[str, Any]) -> None: ...

    tagged.identifier = "other"  # type: ignore[attr-defined]
    assert task("mine")(tagged).identifier == "mine"


def test_payload_schema_has_the_names_that_callers_send() -> None:
    assert task_of(Callable[[], int]).payload_schema() == {}
    assert set(task_of(RowId).payload_schema()["properties"]) == {"id", "_meta"}
