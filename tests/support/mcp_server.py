"""A fixture that connects clients of the MCP SDK to a server in this process. A plugin of ``tests/conftest.py``."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from jobfn.worker.settings import ServiceSettings


@pytest.fixture
async def connect(database: str) -> AsyncIterator[Any]:
    """Open a client of a server: a ``support.assistant.Connect``."""
    from mcp import Client  # noqa: PLC0415  - an environment that was set up before does not have it

    from jobfn.mcp.serve import open_server  # noqa: PLC0415
    from jobfn.mcp.settings import McpSettings  # noqa: PLC0415
    from support.assistant import Assistant, Person  # noqa: PLC0415

    async with contextlib.AsyncExitStack() as stack:

        async def open_client(
            person: Person | None = None,
            *,
            mode: str = "auto",
            dsn: str = database,
            clock: Callable[[], float] = time.monotonic,
            **settings: object,
        ) -> Assistant:
            service = ServiceSettings.from_environ({}, database_url=dsn)
            opened = open_server(McpSettings.from_environ({}, **settings), service, clock=clock)
            server = await stack.enter_async_context(opened)
            callback = None if person is None else person.answer
            client = Client(server, mode=mode, elicitation_callback=callback)
            return Assistant(await stack.enter_async_context(client))

        yield open_client
