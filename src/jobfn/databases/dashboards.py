"""Serve the dashboards of several databases without a service."""

import asyncio
from collections.abc import Callable

from jobfn.dashboard.settings import DashboardSettings
from jobfn.dashboard.switch import serve_switch
from jobfn.databases.discovery import follow_databases
from jobfn.databases.unit import READY
from jobfn.worker.settings import ServiceSettings


async def serve_dashboards(
    settings: ServiceSettings, dashboard: DashboardSettings, stop: asyncio.Event, *, on_url: Callable[[str], None]
) -> None:
    """Serve the dashboards of the databases of ``JOBS_DATABASES`` until ``stop`` is set.

    Args:
        settings: The settings of the databases.
        dashboard: Settings of the dashboards.
        stop: Ends them.
        on_url: Called with their URL.

    Raises:
        ConfigurationError: The address cannot be bound, or the statement failed.
        DatabaseUnreachable: The database of ``DATABASE_URL`` could not be reached for the statement.
    """
    services: dict[str, ServiceSettings] = {}

    def follow(urls: dict[str, str]) -> None:
        services.clear()
        for name, url in urls.items():
            services[name] = settings.model_copy(update={"databases": None, "database_url": url})

    # States are not known here, and each page says why its database cannot be reached.
    async with serve_switch(dashboard, lambda: services, lambda: dict.fromkeys(sorted(services), READY)) as url:
        on_url(url)
        await follow_databases(settings, follow, stop)
