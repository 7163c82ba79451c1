"""A service in the event loop of a test."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from jobfn.service import run_service
from jobfn.worker.settings import ServiceSettings


async def start_in_loop(
    stack: contextlib.AsyncExitStack, settings: ServiceSettings, **options: Any
) -> Callable[[], Awaitable[None]]:
    """Run a service until the stack closes, and wait until it is ready.

    Args:
        stack: Stops the service.
        settings: The settings of the service.
        options: Arguments of ``run_service``.

    Returns:
        A function that stops the service earlier.
    """
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.create_task(run_service(settings, stop, on_ready=ready.set, **options))
    starting = asyncio.create_task(ready.wait())
    await asyncio.wait({running, starting}, return_when=asyncio.FIRST_COMPLETED)
    if running.done():
        starting.cancel()
        running.result()

    async def stop_service() -> None:
        stop.set()
        await running

    stack.push_async_callback(stop_service)
    return stop_service
