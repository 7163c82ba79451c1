"""Types of the shared fixtures."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import asyncpg
from starlette.types import ASGIApp

from support.batch_function import BatchFunction


class ConnectTo(Protocol):
    """The fixture ``connect_to``: opens a connection to a database; settings of the session by name."""

    def __call__(self, dsn: str, **settings: str) -> Awaitable[asyncpg.Connection]: ...


class Connect(Protocol):
    """The fixture ``connect``: as ``connect_to``, to the test's database."""

    def __call__(self, **settings: str) -> Awaitable[asyncpg.Connection]: ...


class NotificationsOf(Protocol):
    """The fixture ``notifications_of``: runs a statement and returns the channels and payloads that it notified."""

    def __call__(self, statement: str) -> Awaitable[list[tuple[str, str]]]: ...


@dataclass
class Service:
    """A service in the test's event loop."""

    callback_url: str
    stop: Callable[[], Awaitable[None]]


class Serve(Protocol):
    """The fixture ``serve``: serves an ASGI app on a free port, and returns its base URL."""

    def __call__(self, app: ASGIApp) -> Awaitable[str]: ...


class StartService(Protocol):
    """The fixture ``start_service``: starts a service for the functions at a URL; settings by field name."""

    def __call__(self, gateway_url: str, **settings: object) -> Awaitable[Service]: ...


class StartWorker(Protocol):
    """The fixture ``start_worker``: runs a service for the fixture ``function``; settings by field name."""

    def __call__(self, **settings: object) -> Awaitable[Service]: ...


class StartBatchFunction(Protocol):
    """The fixture ``start_function``: runs a service for a function that accepts batches; settings by field name."""

    def __call__(self, **settings: object) -> Awaitable[tuple[BatchFunction, Service]]: ...
