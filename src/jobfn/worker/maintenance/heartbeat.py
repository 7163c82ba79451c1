"""What a service does beside jobs: it says that it is there, and sweeps history that is kept no longer.

Neither is worth a job: what goes wrong here is logged once, and tried again at the next turn. ``vacuuming.py`` is about
the third such thing.
"""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.worker_registry import History, Process, Processes
from jobfn.telemetry import logs

#: How often a process says that it is there; one that has missed three times counts as gone.
HEARTBEAT_INTERVAL_SECONDS = 10.0
#: How often history is looked through for what is to go.
PRUNE_INTERVAL_SECONDS = 60.0
#: Attempts deleted in one transaction: a few milliseconds of work, and nobody waits for what it locks.
PRUNE_BATCH_SIZE = 1000
#: Between two such transactions: sweeping a million attempts is to be noticed by nobody.
_PAUSE_SECONDS = 0.02
#: So long after the start is the first sweep.
_INITIAL_DELAY_SECONDS = 1.0
#: So long may one statement take: a database that says nothing is not to hold up a stop.
STATEMENT_TIMEOUT_SECONDS = 5.0


class WorkerHeartbeat:
    """Says that a process is at work, and how much it has in hand.

    Args:
        processes: Where it says so.
        process: Which.
        in_flight: How many requests it has under way.
        beat_seconds: How often it says so.
    """

    def __init__(
        self,
        processes: Processes,
        process: Process,
        *,
        in_flight: Callable[[], int],
        beat_seconds: float = HEARTBEAT_INTERVAL_SECONDS,
    ) -> None:
        self._processes = processes
        self._process = process
        self._in_flight = in_flight
        self._beat_seconds = beat_seconds

        self._turns = FailureLogger("not said that this process is at work")

    async def begin(self) -> None:
        """Say so for the first time, before the worker needs the connections."""
        await self._turns.take(self._note)

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set; then it says that it has ended."""
        while not stop.is_set():
            await rest(stop, self._beat_seconds)
            if not stop.is_set():
                await self._turns.take(self._note)
        await self._turns.take(self._forget)

    async def _note(self) -> None:
        async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
            await self._processes.note(self._process, in_flight=self._in_flight(), beat_seconds=self._beat_seconds)

    async def _forget(self) -> None:
        async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
            await self._processes.forget(self._process)


class HistoryPruner:
    """Deletes attempts that are kept no longer, a few at a time.

    Args:
        history: Where they are.
        days: For how long they are kept; 0: none are written down, and those that are there go.
        sweep_seconds: How often it looks.
    """

    def __init__(self, history: History, *, days: float, sweep_seconds: float = PRUNE_INTERVAL_SECONDS) -> None:
        self._history = history
        self._days = days
        self._sweep_seconds = sweep_seconds
        self._turns = FailureLogger("history not swept")

    async def begin(self) -> None:
        """Say for how long attempts are kept, before the first of them ends."""
        await self._turns.take(self._keep)

    async def run(self, stop: asyncio.Event) -> None:
        """Until ``stop`` is set. The worker has the first second and its connections to itself."""
        await rest(stop, min(self._sweep_seconds, _INITIAL_DELAY_SECONDS))
        while not stop.is_set():
            await self._turns.take(lambda: self._sweep(stop))
            await rest(stop, self._sweep_seconds)

    async def _keep(self) -> None:
        async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
            await self._history.keep(self._days)

    async def _sweep(self, stop: asyncio.Event) -> None:
        await self._keep()
        while not stop.is_set():
            async with asyncio.timeout(STATEMENT_TIMEOUT_SECONDS):
                swept = await self._history.sweep(limit=PRUNE_BATCH_SIZE)
            if swept < PRUNE_BATCH_SIZE:
                return
            await rest(stop, _PAUSE_SECONDS)


class FailureLogger:
    """Takes turns whatever happens, and logs the first of a row of failures.

    Args:
        failure: What the line says.
    """

    def __init__(self, failure: str) -> None:
        self._failure = failure
        self._failed = False

    async def take(self, turn: Callable[[], Awaitable[None]]) -> bool:
        """Returns whether it went well."""
        try:
            await turn()
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            if not self._failed:
                advice = "run `jobfn db migrate`, and grant this role its rights again (--grant-worker)"
                is_schema = isinstance(error, asyncpg.UndefinedFunctionError | asyncpg.InsufficientPrivilegeError)
                logs.get_logger("jobfn.service").warning(
                    self._failure, reason=str(error), advice=advice if is_schema else "it is tried again"
                )
            self._failed = True
        else:
            self._failed = False
        return not self._failed


async def rest(stop: asyncio.Event, seconds: float) -> None:
    """Until ``stop`` is set, or for so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        pass
