"""Send a request to the callback server again until it gets a response."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from jobfn.errors import TransportError

_INITIAL_DELAY_SECONDS: Final = 0.1
_MAX_DELAY_SECONDS: Final = 5.0

T = TypeVar("T")


async def send_until_answered(
    send: Callable[[], Awaitable[T]],
    *,
    timeout_seconds: float,
    on_failure: Callable[[TransportError], None] | None = None,
    on_retry: Callable[[], None] | None = None,
) -> T:
    """Return what ``send`` returns, with growing delays between its failures.

    Args:
        send: Sends the request. Raises ``TransportError`` if there was no response, or none that decides.
        timeout_seconds: Time after which the last failure is raised.
        on_failure: Called with each failure before that.
        on_retry: Called before each further request.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + timeout_seconds
    delay_seconds = _INITIAL_DELAY_SECONDS
    while True:
        try:
            return await send()
        except TransportError as error:
            remaining_seconds = deadline - clock()
            if remaining_seconds <= 0:
                raise
            if on_failure is not None:
                on_failure(error)
        jitter = random.uniform(0.5, 1.5)  # noqa: S311  - not a secret
        await asyncio.sleep(min(delay_seconds * jitter, remaining_seconds))
        delay_seconds = min(2 * delay_seconds, _MAX_DELAY_SECONDS)
        if on_retry is not None:
            on_retry()
