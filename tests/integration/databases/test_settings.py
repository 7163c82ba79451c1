"""Settings that do not fit several databases are refused at the start."""

import asyncio
import contextlib

import pytest

from jobfn.database.store import JobStore
from jobfn.errors import ConfigurationError
from jobfn.service import run_service
from jobfn.worker.delivery import Deliverer
from jobfn.worker.settings import ServiceRole, ServiceSettings


def local(_store: JobStore, _settings: ServiceSettings) -> contextlib.AbstractAsyncContextManager[Deliverer]:
    raise AssertionError("not opened")


async def test_local_functions_are_refused() -> None:
    settings = ServiceSettings.from_environ({}, databases="a,b")
    with pytest.raises(ConfigurationError, match="JOBS_DATABASES does not work with --local: serve the functions"):
        await run_service(settings, asyncio.Event(), roles=[ServiceRole.WORKER], deliverer_factory=local)


async def test_callback_url_must_be_valid() -> None:
    settings = ServiceSettings.from_environ({}, databases="a,b", own_callback_url="http://:1")
    with pytest.raises(ConfigurationError, match="Set INTERNAL_JOBS_CALLBACK_URL"):
        await run_service(settings, asyncio.Event(), roles=[ServiceRole.WORKER])
