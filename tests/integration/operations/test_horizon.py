"""The oldest transactions, which keep vacuum from removing the rows of ended jobs."""

from typing import Any

import asyncpg

from jobfn.database.horizon import HorizonHolder, HorizonReader, horizon_holders
from jobfn.operations.doctor import CheckStatus, horizon_check
from support.clock import ManualClock
from support.fixtures import ConnectTo


def session(seconds: float) -> HorizonHolder:
    return HorizonHolder("session", "17 of app (idle in transaction)", seconds, 40, "end the transaction")


async def test_open_transaction_is_found(database: str, pool: "asyncpg.Pool[Any]", connect_to: ConnectTo) -> None:
    holding = await connect_to(database)
    idle = await connect_to(database)
    transaction = holding.transaction(isolation="repeatable_read")
    await transaction.start()
    await holding.fetchval("select count(*) from app_jobs.jobs")
    await idle.fetchval("select 1")
    [holder] = await horizon_holders(pool, "app_jobs")
    pid = holding.get_server_pid()
    assert holder.kind == "session"
    assert holder.name == f"{pid} of {await idle.fetchval('select current_user')} (idle in transaction)"
    assert holder.advice == f"end the transaction, or run: select pg_terminate_backend({pid})"
    assert not holder.is_old
    await transaction.rollback()
    assert await horizon_holders(pool, "app_jobs") == []


async def test_metrics_read_it_once_in_five_seconds(
    database: str, pool: "asyncpg.Pool[Any]", connect_to: ConnectTo
) -> None:
    clock = ManualClock()
    reader = HorizonReader(pool, "app_jobs", clock=clock)
    assert await reader.read() == []
    holding = await connect_to(database)
    async with holding.transaction():
        await holding.execute("select app_jobs.add_job('x')")
        assert await reader.read() == []
        clock.advance(5.0)
        assert len(await reader.read() or []) == 1


def test_doctor_warns_of_old_transactions() -> None:
    check = horizon_check([session(301.0), session(299.0)])
    assert (check.status, check.advice) == (CheckStatus.WARNING, "end the transaction")
    assert check.message == (
        "vacuum cannot remove the rows of ended jobs: session 17 of app (idle in transaction), 301 seconds old"
    )


def test_doctor_warns_of_slots_by_their_transactions() -> None:
    slots = [HorizonHolder("replication slot", "standby_1", None, age, "drop it") for age in (1_000_001, 1_000_000)]
    check = horizon_check(slots)
    assert (check.status, check.advice) == (CheckStatus.WARNING, "drop it")
    assert check.message.endswith(": replication slot standby_1, 1,000,001 transactions old")


def test_doctor_names_the_oldest_transaction_that_is_fine() -> None:
    ok = horizon_check([session(12.0)])
    assert (ok.status, ok.message) == (CheckStatus.OK, "session 17 of app (idle in transaction), 12 seconds old")
    assert horizon_check([]).message == "no transaction is open"
