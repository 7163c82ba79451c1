"""Types of the shared fixtures."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg
from starlette.types import ASGIApp


class ConnectTo(Protocol):
    """The fixture ``connect_to``: opens a connection to a database; settings of the session by name."""

    def __call__(self, dsn: str, **settings: str) -> "Awaitable[asyncpg.Connection[Any]]": ...


class Connect(Protocol):
    """The fixture ``connect``: the same, to the test's own database."""

    def __call__(self, **settings: str) -> "Awaitable[asyncpg.Connection[Any]]": ...


class Heard(Protocol):
    """The fixture ``heard``: runs a statement and returns what it announced: channels and payloads."""

    def __call__(self, statement: str, *arguments: object) -> Awaitable[list[tuple[str, str]]]: ...


@dataclass
class Service:
    """A platform side that runs in the test's loop."""

    callback_url: str
    stop: Callable[[], Awaitable[None]]


class Serve(Protocol):
    """The fixture ``serve``: serves an ASGI app on a free port, returns its base URL."""

    def __call__(self, app: ASGIApp) -> Awaitable[str]: ...


class StartService(Protocol):
    """The fixture ``start_service``: runs a platform side for the functions at this URL; settings by field name."""

    def __call__(self, gateway_url: str, **settings: object) -> Awaitable[Service]: ...


class StartWorker(Protocol):
    """The fixture ``start_worker``: runs a service for the fixture ``function``; settings by field name."""

    def __call__(self, **settings: object) -> Awaitable[Service]: ...
