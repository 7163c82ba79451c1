"""Await a coroutine with its own context variables, without the cost of a task."""

import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

T = TypeVar("T")


@types.coroutine
def run_in_context(context: Context, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await a coroutine. The context variables that it sets stay in ``context``; ``current_task`` is the caller's."""
    send, argument = coroutine.send, None
    try:
        while True:
            future = context.run(send, argument)
            try:
                send, argument = coroutine.send, (yield future)
            except BaseException as error:  # noqa: BLE001  - the coroutine decides
                send, argument = coroutine.throw, error
    except StopIteration as stop:
        result: T = stop.value
        return result
