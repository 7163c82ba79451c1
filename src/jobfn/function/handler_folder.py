"""A folder in the layout of the platform's Python template: ``handler.json`` beside ``handler.py``.

The handler is plain: ``async def handler(payload)``, with ``agent=None`` for model calls (``ctx.agent``), and in jobfn
also ``ctx``. It gets the payload as parsed JSON.
"""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from jobfn.errors import LoadError
from jobfn.function.context import JobContext
from jobfn.function.task import Task
from jobfn.handler_json import FILE_NAME, HandlerJson

_CONTEXT_NAMES: Final = ("ctx", "context")


def handler_task(folder: Path, handler: object) -> Task[..., Any]:
    """Return the task that the folder's ``handler.json`` describes, with this handler.

    Raises:
        LoadError: ``handler.json`` is invalid, or this is not a function that takes a payload.
    """
    description = HandlerJson.read(folder / FILE_NAME)
    file = folder / "handler.py"
    if not inspect.isroutine(handler):
        raise LoadError(f"{file} has no function handler: define async def handler(payload)")
    parameters = inspect.signature(handler).parameters
    names = [name for name in ("agent", *_CONTEXT_NAMES) if name in parameters]
    try:
        inspect.signature(handler).bind(None, **dict.fromkeys(names))
    except TypeError as error:
        raise LoadError(f"{file}: handler is not callable as handler(payload), with agent or ctx: {error}") from None
    return Task(
        description.task,
        _adapt(handler, names),
        secrets=description.required_secrets,
        configs=description.required_configs,
    )


def _adapt(handler: Callable[..., Any], names: list[str]) -> Any:
    """Return a handler with jobfn's signature."""

    def arguments(ctx: JobContext) -> dict[str, Any]:
        return {name: ctx if name in _CONTEXT_NAMES else ctx.agent for name in names}

    async def run(payload: Any, ctx: JobContext) -> Any:
        return await handler(payload, **arguments(ctx))

    def run_in_thread(payload: Any, ctx: JobContext) -> Any:
        return handler(payload, **arguments(ctx))

    adapted: Any = run if inspect.iscoroutinefunction(handler) else run_in_thread
    signature = inspect.signature(adapted)
    functools.update_wrapper(adapted, handler)  # name, docstring and location are the handler's
    adapted.__signature__ = signature  # takes precedence over the handler's
    return adapted
