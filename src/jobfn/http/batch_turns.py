"""Turns of batches in one process, so that other requests do not wait for all of them."""

import asyncio
from collections import deque


class BatchTurns:
    """Lets one batch go on in each iteration of the event loop.

    Without turns, all batches that have arrived run one after the other before the event loop reads the next request.
    """

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_scheduled = False

    async def next(self) -> None:
        """Wait for the next turn of the calling batch."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._is_scheduled:
            self._is_scheduled = True
            loop.call_soon(self._start_turn, loop)
        await turn

    def _start_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its request was cancelled
                turn.set_result(None)
                loop.call_soon(self._start_turn, loop)
                return
        self._is_scheduled = False
