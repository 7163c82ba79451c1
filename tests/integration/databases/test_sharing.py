"""Databases of one service share its slots fairly, and cost two connections each while they are idle."""

import asyncio
from collections.abc import Callable
from urllib.parse import urlsplit

from support.fixtures import ConnectTo, Serve
from support.functions import RecordingFunction
from support.network import eventually
from support.several import Database, StartDatabases


async def add(database: Database, count: int) -> None:
    await database.jobs.connection.execute(
        "select app_jobs.add_job('t', json_build_object('from', $1::text)) from generate_series(1, $2)",
        database.name,
        count,
    )


async def until(condition: Callable[[], bool]) -> None:
    async def check() -> bool:
        return condition()

    await eventually(check, seconds=30)


async def test_busy_database_uses_all_slots_and_shares_them_when_another_has_jobs(
    two: tuple[Database, Database], function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    gates: list[asyncio.Event] = []

    async def hold() -> None:
        gates.append(asyncio.Event())
        await gates[-1].wait()

    function.before_response = hold
    await start_databases(f"{a.entry},{b.entry}", await serve(function.app), concurrency=4, delivery_batch=False)

    async def received(count: int) -> list[str]:
        await until(lambda: len(gates) >= count)
        return [request.body["from"] for request in function.received]

    await add(a, 40)
    assert await received(4) == ["a"] * 4, "all slots"
    await add(b, 40)
    for number in range(4, 16):
        gates[number - 4].set()
        await received(number + 1)
    late = [request.body["from"] for request in function.received][8:16]
    assert late.count("b") >= 3, late
    assert late.count("a") >= 3, late
    function.before_response = None
    for gate in gates:
        gate.set()
    await until(lambda: len(function.received) == 80)


async def test_idle_databases_have_two_connections_each(
    create_databases: Callable[[int], list[str]],
    connect_to: ConnectTo,
    function: RecordingFunction,
    serve: Serve,
    start_databases: StartDatabases,
) -> None:
    dsns = create_databases(20)
    observer = await connect_to(dsns[0])
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, await observer.fetchval(f"select count(*) {SESSIONS}"))
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    names = ",".join(urlsplit(dsn).path.strip("/") for dsn in dsns)
    await start_databases(names, await serve(function.app), database_url=dsns[0], poll_interval_seconds=0.05)
    watching.cancel()
    assert most <= 20 * 2 + 8 * 2
    others = [await connect_to(dsn) for dsn in dsns]
    for _ in range(20):
        for connection in others:
            await connection.execute('notify "jobs:insert"; notify "scheduled_jobs:insert"')
        counts = await observer.fetch(f"select datname, count(*) {SESSIONS} group by datname")
        assert sorted(row["count"] for row in counts) == [2] * 20
    await others[7].execute("select app_jobs.add_job('t')")
    await asyncio.wait_for(function.arrived.wait(), 30)


SESSIONS = "from pg_stat_activity where application_name in ('jobfn-service', 'jobfn-listener')"
