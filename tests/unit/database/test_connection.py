"""Errors of connections say why, and statements are retried."""

from datetime import UTC, datetime

import asyncpg
import pytest

from jobfn.database.connection import (
    EARLIEST,
    LATEST,
    RECONNECTS,
    is_transient,
    open_pool,
    retry,
    translate_errors,
)
from jobfn.errors import DatabaseUnreachable, error_text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "no response in time"),  # a proxy that accepts connections and forwards nothing
        (TimeoutError("the server sent nothing"), "the server sent nothing"),
        (ConnectionResetError(), "ConnectionResetError"),
        (ConnectionRefusedError(111, "Connection refused"), "[Errno 111] Connection refused"),
        # asyncpg's error if the server's last message arrives before a statement, and its close after it
        (asyncpg.InternalClientError("another operation (2) is in progress"), "another operation (2) is in progress"),
    ],
)
def test_error_without_a_text_still_has_a_reason(error: Exception, text: str) -> None:
    assert error_text(error) == text
    with pytest.raises(DatabaseUnreachable) as raised, translate_errors("postgresql://db/shop"):
        raise error
    assert str(raised.value) == f"postgresql://db/shop cannot be reached: {text}. Is PostgreSQL running there?"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (asyncpg.ReadOnlySQLTransactionError(), True),
        (asyncpg.DeadlockDetectedError(), True),
        (asyncpg.DiskFullError(), True),
        (asyncpg.LockNotAvailableError(), True),
        (asyncpg.QueryCanceledError(), True),
        (asyncpg.PostgresIOError(), True),
        (asyncpg.InternalClientError(), True),
        (asyncpg.FeatureNotSupportedError(), True),  # "cached plan must not change result type"
        (asyncpg.InvalidTextRepresentationError(), False),
        (asyncpg.UndefinedFunctionError(), False),
        (asyncpg.InsufficientPrivilegeError(), False),
        (ValueError(), False),
    ],
)
def test_transient_errors(error: Exception, *, expected: bool) -> None:
    assert is_transient(error) is expected


class Statement:
    """Raises the errors one after the other, then returns 7."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def __call__(self) -> int:
        if self.errors:
            raise self.errors.pop(0)
        return 7


async def test_errors_are_retried_with_one_line_for_each_reason(capsys: pytest.CaptureFixture[str]) -> None:
    reset = ConnectionResetError("reset")
    statement = Statement(reset, reset, asyncpg.UndefinedFunctionError("no such function"))
    assert await retry(statement, event="no jobs claimed") == 7
    lines = [line for line in capsys.readouterr().out.splitlines() if "no jobs claimed" in line]
    assert ["reset" in line for line in lines] == [True, False]
    assert "no such function" in lines[1]


@pytest.mark.parametrize(
    ("error", "reconnects"),
    [(ConnectionResetError("reset"), 1), (asyncpg.UndefinedFunctionError("no such function"), 0)],
)
async def test_only_lost_connections_count_as_reconnects(error: Exception, reconnects: int) -> None:
    def count() -> float:
        return sum(value for _, value in RECONNECTS.samples())

    before = count()
    await retry(Statement(error), event="no jobs claimed")
    assert count() - before == reconnects


async def test_only_transient_errors_are_retried_where_others_need_a_person() -> None:
    statement = Statement(ConnectionResetError("reset"), asyncpg.UndefinedFunctionError("no such function"))
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await retry(statement, event="service not started", only_transient=True)


async def test_times_that_datetime_cannot_hold_are_read_and_written(database: str) -> None:
    async with open_pool(database, application_name="test", size=1) as pool:
        texts = ("infinity", "-infinity", "20000-01-01", "0044-03-15 BC", "2026-11-27 10:00:00.000001+02")
        times = [await pool.fetchval("select $1::text::timestamptz", text) for text in texts]
        now = datetime(2026, 11, 27, 8, 0, 0, 1, tzinfo=UTC)
        assert times == [LATEST, EARLIEST, LATEST, EARLIEST, now]
        written = [await pool.fetchval("select $1::timestamptz::text", time) for time in (LATEST, EARLIEST)]
        assert written == ["infinity", "-infinity"]
        assert await pool.fetchval("select $1::timestamptz = '2026-11-27 10:00:00.000001+02'", now)
