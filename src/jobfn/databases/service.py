"""Run the platform side of several databases in one process."""

import asyncio
import contextlib
import functools
import gc
from dataclasses import replace
from typing import Final

from starlette.types import ASGIApp

from jobfn.dashboard.settings import DashboardSettings
from jobfn.database_service import SharedParts
from jobfn.databases.callbacks import CallbackRouter, database_callback_url
from jobfn.databases.discovery import follow_databases
from jobfn.databases.unit import READY, DatabaseUnit, Starts
from jobfn.errors import ConfigurationError
from jobfn.telemetry import logs
from jobfn.telemetry.metrics import Metric, merge_metrics
from jobfn.worker.database_list import changed, sibling_database
from jobfn.worker.settings import ServiceRole, ServiceSettings
from jobfn.worker.slots import SlotPool

#: Factor of the intervals of polls and maintenance, which cost most of what an idle database costs.
INTERVAL_FACTOR: Final = 6.0
#: The label of metrics.
DATABASE_LABEL: Final = "database"


class Databases:
    """The databases of a service, which come and go.

    Args:
        settings: The settings of the service.
        shared: Parts that the databases share.

    Raises:
        ConfigurationError: A setting does not fit several databases.
    """

    def __init__(self, settings: ServiceSettings, shared: SharedParts) -> None:
        if shared.deliverer_factory is not None:
            raise ConfigurationError("JOBS_DATABASES does not work with --local: serve the functions over HTTP")
        try:
            database_callback_url(settings.callback_url, "name")
        except ValueError as error:
            raise ConfigurationError(f"{error}. Set INTERNAL_JOBS_CALLBACK_URL") from None
        self._callback_app = CallbackRouter(lambda name: name in self._units)
        self._settings = settings
        if ServiceRole.WORKER in shared.roles:
            loop = asyncio.get_running_loop()
            slots = SlotPool(settings.concurrency, call_soon=loop.call_soon, call_later=loop.call_later)
            shared = replace(shared, slots=slots)
        self._shared = replace(shared, interval_factor=INTERVAL_FACTOR)
        self._starts = Starts()
        self._urls: dict[str, str] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._units: dict[str, DatabaseUnit] = {}
        self._found = asyncio.Event()

    @property
    def units(self) -> dict[str, DatabaseUnit]:
        """The databases by name, those that are being stopped excepted."""
        return self._units

    @property
    def states(self) -> dict[str, str]:
        """The state of each database."""
        return {name: unit.state for name, unit in sorted(self._units.items())}

    @property
    def is_ready(self) -> bool:
        """Whether a database is ready, or there is none."""
        return not self._units or any(unit.state == READY for unit in self._units.values())

    def follow(self, urls: dict[str, str]) -> None:
        """Start and stop databases, so that those with these addresses run."""
        stopped, started = changed(self._urls, urls)
        self._urls = urls
        log = logs.get_logger("jobfn.service")
        replaced = {name: self._units.pop(name) for name in stopped}
        for name, unit in replaced.items():
            log.info("database removed" if name not in started else "address of database changed", database=name)
            unit.stop()
        for name in started:
            settings = _database_settings(self._settings, name, urls[name])
            unit = DatabaseUnit(name, settings, self._shared_for(name), self._starts, previous=replaced.get(name))
            self._units[name] = unit
            task = asyncio.create_task(unit.run())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        self._found.set()

    def _shared_for(self, name: str) -> SharedParts:
        if self._shared.serve_callbacks is None:
            return self._shared
        return replace(self._shared, serve_callbacks=functools.partial(self._serve_callbacks, name))

    async def _serve_callbacks(self, name: str, app: ASGIApp, stack: contextlib.AsyncExitStack) -> None:
        stack.enter_context(self._callback_app.serving(name, app))

    async def start(self, stack: contextlib.AsyncExitStack, dashboard: DashboardSettings | None) -> None:
        """Start what the databases share, until the stack unwinds."""
        if self._shared.serve_callbacks is not None:
            await self._shared.serve_callbacks(self._callback_app, stack)
        if dashboard is not None:
            from jobfn.dashboard.switch import serve_switch  # noqa: PLC0415  - loads templates

            url = await stack.enter_async_context(
                serve_switch(
                    dashboard,
                    lambda: {name: unit.settings for name, unit in self._units.items()},
                    lambda: self.states,
                )
            )
            logs.get_logger("jobfn.dashboard").info("dashboard", url=url, read_only=dashboard.read_only)

    async def run(self, stop: asyncio.Event) -> None:
        """Follow the list until ``stop`` is set, then stop all databases."""
        try:
            await follow_databases(self._settings, self.follow, stop)
        finally:
            for unit in self._units.values():
                unit.stop()
            if self._running:
                await asyncio.wait(self._running)

    async def wait_until_started(self) -> None:
        """Wait until each of the first databases is ready or has failed once."""
        await self._found.wait()
        for unit in list(self._units.values()):
            await unit.first_attempt.wait()
        gc.collect()
        gc.freeze()  # full collections would read the objects of all databases again and again

    async def collect(self) -> list[Metric]:
        """Return the metrics of all databases, with a label for each."""
        units = list(self._units.values())
        metrics = await asyncio.gather(*(unit.collect() for unit in units))
        return merge_metrics(DATABASE_LABEL, {unit.name: each for unit, each in zip(units, metrics, strict=True)})


def _database_settings(settings: ServiceSettings, name: str, url: str) -> ServiceSettings:
    """Return the settings of one of the databases."""
    own = sibling_database(settings.database_url, name)
    listen_url = None
    if settings.listen_url is not None and url == own:
        listen_url = sibling_database(settings.listen_url, name)
    return settings.model_copy(
        update={
            "databases": None,
            "database_url": url,
            "database_wait_seconds": 0.0,
            "listen_url": listen_url,
            "own_callback_url": database_callback_url(settings.callback_url, name),
        }
    )
