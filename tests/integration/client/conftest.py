"""Every kind of connection that jobs can be added on, opened on ``database`` and driven in one way."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import django
import psycopg
import pytest
from django.conf import settings as django_settings
from django.db.backends.postgresql.base import DatabaseWrapper
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from support.client import User
from support.fixtures import ConnectTo


def _sqlalchemy_url(dsn: str, driver: str) -> str:
    return dsn.replace("postgresql://", f"postgresql+{driver}://", 1)


def _django(dsn: str) -> DatabaseWrapper:
    if not django_settings.configured:
        django_settings.configure(USE_TZ=True)
        django.setup()
    parts = urlsplit(dsn)
    query = parse_qs(parts.query)
    return DatabaseWrapper(
        {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": parts.path.lstrip("/"),
            "USER": parts.username or "",
            "PASSWORD": parts.password or "",
            "HOST": parts.hostname or query.get("host", [""])[0],
            "PORT": str(parts.port or ""),
            "AUTOCOMMIT": True,
            "ATOMIC_REQUESTS": False,
            "CONN_MAX_AGE": 0,
            "CONN_HEALTH_CHECKS": False,
            "OPTIONS": {},
            "TIME_ZONE": None,
            "TEST": {},
        },
        "default",
    )


@contextlib.asynccontextmanager
async def _opened(kind: str, dsn: str) -> AsyncIterator[User]:
    async with contextlib.AsyncExitStack() as stack:
        match kind:
            case "asyncpg" | "asyncpg pool's":
                if kind == "asyncpg":
                    connection: Any = await asyncpg.connect(dsn)
                    stack.push_async_callback(connection.close)
                else:
                    pool = await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=1, max_size=2))
                    connection = await stack.enter_async_context(pool.acquire())
                transaction = connection.transaction()
                await transaction.start()
                yield User(connection, transaction.commit, transaction.rollback)
            case "psycopg":
                user = stack.enter_context(psycopg.connect(dsn))
                yield User(user, user.commit, user.rollback)
            case "psycopg async":
                awaited = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
                yield User(awaited, awaited.commit, awaited.rollback)
            case "SQLAlchemy connection" | "SQLAlchemy session":
                engine = create_engine(_sqlalchemy_url(dsn, "psycopg"))
                stack.callback(engine.dispose)
                found: Any = stack.enter_context(engine.connect() if kind.endswith("connection") else Session(engine))
                yield User(found, found.commit, found.rollback)
            case "SQLAlchemy async connection" | "SQLAlchemy async session":
                async_engine = create_async_engine(_sqlalchemy_url(dsn, "asyncpg"))
                stack.push_async_callback(async_engine.dispose)
                opening: Any = async_engine.connect() if kind.endswith("connection") else AsyncSession(async_engine)
                opened = await stack.enter_async_context(opening)
                yield User(opened, opened.commit, opened.rollback)
            case "Django":
                wrapper = _django(dsn)
                stack.callback(wrapper.close)
                wrapper.set_autocommit(False)

                def end(commit: bool) -> None:  # noqa: FBT001
                    wrapper.commit() if commit else wrapper.rollback()
                    wrapper.set_autocommit(True)

                yield User(wrapper, lambda: end(True), lambda: end(False))


KINDS = [
    "asyncpg",
    "asyncpg pool's",
    "psycopg",
    "psycopg async",
    "SQLAlchemy connection",
    "SQLAlchemy session",
    "SQLAlchemy async connection",
    "SQLAlchemy async session",
    "Django",
]


@pytest.fixture(params=KINDS)
async def user(request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[User]:
    """Each kind of connection, in a transaction of its user's."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # tests run in a loop, Django's users in threads
    async with _opened(str(request.param), database) as found:
        yield found


@pytest.fixture
async def connect_to() -> AsyncIterator[ConnectTo]:
    """Open further connections, closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def open_connection(dsn: str, **settings: str) -> "asyncpg.Connection[Any]":
            connection = await asyncpg.connect(dsn, server_settings=settings)
            stack.push_async_callback(connection.close, timeout=5)
            return connection

        yield open_connection
