"""Every supported kind of connection, in a transaction on ``database``."""

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

from support.client import OpenTransaction


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
async def _open_transaction(kind: str, dsn: str) -> AsyncIterator[OpenTransaction]:
    async with contextlib.AsyncExitStack() as stack:
        connection: Any
        match kind:
            case "asyncpg" | "asyncpg pool":
                if kind == "asyncpg":
                    connection = await asyncpg.connect(dsn)
                    stack.push_async_callback(connection.close)
                else:
                    pool = await stack.enter_async_context(asyncpg.create_pool(dsn, min_size=1, max_size=2))
                    connection = await stack.enter_async_context(pool.acquire())
                transaction = connection.transaction()
                await transaction.start()
                yield OpenTransaction(connection, lambda method: getattr(transaction, method)())
                return
            case "Django":
                connection = _django(dsn)
                stack.callback(connection.close)
                connection.set_autocommit(False)

                def end(method: str) -> None:
                    getattr(connection, method)()
                    connection.set_autocommit(True)

                yield OpenTransaction(connection, end)
                return
            case "psycopg":
                connection = stack.enter_context(psycopg.connect(dsn))
            case "psycopg async":
                connection = await stack.enter_async_context(await psycopg.AsyncConnection.connect(dsn))
            case "SQLAlchemy connection" | "SQLAlchemy session":
                engine = create_engine(_sqlalchemy_url(dsn, "psycopg"))
                stack.callback(engine.dispose)
                connection = stack.enter_context(engine.connect() if "connection" in kind else Session(engine))
            case "SQLAlchemy async connection" | "SQLAlchemy async session":
                async_engine = create_async_engine(_sqlalchemy_url(dsn, "asyncpg"))
                stack.push_async_callback(async_engine.dispose)
                opening: Any = async_engine.connect() if "connection" in kind else AsyncSession(async_engine)
                connection = await stack.enter_async_context(opening)
        yield OpenTransaction(connection, lambda method: getattr(connection, method)())


KINDS = [
    "asyncpg",
    "asyncpg pool",
    "psycopg",
    "psycopg async",
    "SQLAlchemy connection",
    "SQLAlchemy session",
    "SQLAlchemy async connection",
    "SQLAlchemy async session",
    "Django",
]


@pytest.fixture(params=KINDS)
async def transaction(
    request: pytest.FixtureRequest, database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenTransaction]:
    """Each kind of connection, in an open transaction."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # tests run in an event loop, unlike Django's users
    async with _open_transaction(str(request.param), database) as opened:
        yield opened
