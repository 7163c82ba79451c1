"""Functions that accept batches, with a service for them."""

import pytest

from support.batch_function import BatchFunction, complete_all
from support.fixtures import Serve, Service, StartBatchFunction, StartService
from support.jobs import Jobs


@pytest.fixture
async def start_function(serve: Serve, start_service: StartService, jobs: Jobs) -> StartBatchFunction:
    """Start a service for a function whose first job has run: up to 16 jobs that are added together share a request."""

    async def start(**settings: object) -> tuple[BatchFunction, Service]:
        function = BatchFunction(respond=complete_all)
        service = await start_service(await serve(function), **settings)
        await jobs.until_gone(await jobs.add("t"))
        return function, service

    return start
