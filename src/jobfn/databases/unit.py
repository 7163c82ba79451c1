"""One of the databases of a service: start it, and start it again after an error, without effect on the others."""

import asyncio
import contextlib
import functools
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

import structlog

from jobfn.database.connection import CONNECTION_ERRORS, DATABASE_ERRORS, FailureLog
from jobfn.database.idle_pool import MAX_IDLE_SECONDS, IdlePool
from jobfn.database_service import (
    POOL_SIZE,
    DatabaseService,
    SharedParts,
    database_metrics,
    notify_ready,
    open_connections,
    open_database,
    run_tasks,
)
from jobfn.errors import ConfigurationError, JobfnError
from jobfn.telemetry import logs
from jobfn.telemetry.metrics import Metric
from jobfn.worker.maintenance.periodic import sleep_until
from jobfn.worker.settings import ServiceSettings
from jobfn.worker.telemetry.metrics_server import DatabaseMetrics, queue_metrics

if TYPE_CHECKING:
    import asyncpg

#: Timeout of a start.
START_TIMEOUT_SECONDS: Final = 30.0
#: Maximum number of databases that start at the same time, each with up to two connections more than later.
MAX_STARTING: Final = 8
_MIN_PAUSE_SECONDS: Final = 0.5
_MAX_PAUSE_SECONDS: Final = 30.0

STARTING: Final = "starting"
READY: Final = "ready"
UNREACHABLE: Final = "unreachable"
FAILED: Final = "failed"


class Starts:
    """Bounds how many databases start at the same time, and refuses one that runs already under another name."""

    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(MAX_STARTING)
        self._names: dict[tuple[str, int], str] = {}

    @contextlib.asynccontextmanager
    async def registered(self, name: str, database: DatabaseService) -> AsyncIterator[None]:
        """Register the database during the block: two workers with one id would take each other's jobs.

        Raises:
            ConfigurationError: It runs already.
        """
        number = await database.connections.fetchval(
            "select oid::bigint from pg_catalog.pg_database where datname = current_database()"
        )
        identity = await database.store.installation_id(), number
        other = self._names.setdefault(identity, name)
        if other != name:
            raise ConfigurationError(f"{name} and {other} are the same database: remove one from JOBS_DATABASES")
        try:
            yield
        finally:
            del self._names[identity]


class DatabaseUnit:
    """A database with its own worker, callback app, scheduler and maintenance.

    Args:
        name: Its name.
        settings: Its settings.
        shared: What it shares with the others.
        starts: Bounds the starts.
        previous: The unit that it replaces, which ends first.

    Attributes:
        name: Its name.
        settings: Its settings.
        problem: Code of the error that keeps it from running.
        first_attempt: Set when it is ready, or has failed once.
        done: Set when it has ended.
    """

    def __init__(
        self,
        name: str,
        settings: ServiceSettings,
        shared: SharedParts,
        starts: Starts,
        *,
        previous: "DatabaseUnit | None" = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self.problem: str | None = None
        self.first_attempt = asyncio.Event()
        self.done = asyncio.Event()
        self._shared = replace(shared, open_connections=self._open_connections)
        self._starts = starts
        self._previous = previous
        self._stop = asyncio.Event()
        self._pool: IdlePool | None = None
        self._metrics: DatabaseMetrics | None = None
        self._is_ready = False

    @property
    def state(self) -> str:
        """``starting``, ``ready``, ``unreachable``, or ``failed`` with a code that ``jobfn explain`` knows."""
        if not self._is_ready:
            return STARTING if self.problem is None else self.problem
        return READY if self._pool is not None and self._pool.is_reachable else UNREACHABLE

    def stop(self) -> None:
        """Finish what runs, and end."""
        self._stop.set()

    async def collect(self) -> list[Metric]:
        """Return the metrics; only that it is not up if it is not."""
        if self._metrics is None:
            return queue_metrics(None)
        return await self._metrics.collect()

    async def run(self) -> None:
        """Run until ``stop`` is called."""
        structlog.contextvars.bind_contextvars(database=self.name)
        try:
            if self._previous is not None:
                await self._previous.done.wait()
                self._previous = None
            await self._run_again()
        finally:
            self.first_attempt.set()
            self.done.set()

    async def _run_again(self) -> None:
        failures = FailureLog("database not started, others go on")
        pause_seconds = _MIN_PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                await self._run_once()
            except (JobfnError, *DATABASE_ERRORS) as error:
                failures.record(error)
                is_away = isinstance(error, CONNECTION_ERRORS)
                self.problem = UNREACHABLE if is_away else f"{FAILED} [{getattr(error, 'code', 'J120')}]"
            except Exception as error:  # noqa: BLE001  - a bug that one database meets must not stop the others
                logs.get_logger("jobfn.service").error("database stopped: unexpected error", exc_info=error)
                self.problem = FAILED
            if self._is_ready:
                self._is_ready, pause_seconds = False, _MIN_PAUSE_SECONDS
            self._metrics = None
            self.first_attempt.set()
            if not self._stop.is_set():
                await sleep_until(self._stop, pause_seconds * random.uniform(0.5, 1))  # noqa: S311  - jitter
                pause_seconds = min(2 * pause_seconds, _MAX_PAUSE_SECONDS)

    async def _run_once(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            async with self._starts.slots, asyncio.timeout(START_TIMEOUT_SECONDS):
                database = await open_database(self.settings, stack, self._shared, stop=self._stop, name=self.name)
                if database is None:
                    return
                await stack.enter_async_context(self._starts.registered(self.name, database))
            worker = database.worker
            if worker is not None and self._pool is not None:
                self._pool.is_busy = lambda: worker.in_flight > 0
            self._metrics = database_metrics(database, self._shared.roles)
            notify = functools.partial(notify_ready, [self._on_ready], database.wait_until_ready)
            await run_tasks([*database.tasks, notify], self._stop)

    def _on_ready(self) -> None:
        self._is_ready, self.problem = True, None
        logs.get_logger("jobfn.service").info("database started")
        self.first_attempt.set()

    @contextlib.asynccontextmanager
    async def _open_connections(self, settings: ServiceSettings) -> "AsyncIterator[asyncpg.Pool[Any]]":
        async with open_connections(settings, max_idle_seconds=MAX_IDLE_SECONDS) as pool:
            self._pool = IdlePool(pool, POOL_SIZE)
            yield cast("asyncpg.Pool[Any]", self._pool)
