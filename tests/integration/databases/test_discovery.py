"""Databases that a statement returns: they come, go and move, and errors keep those that run."""

import asyncio
import io
import json
from collections.abc import Callable

import pytest

from jobfn.errors import ConfigurationError
from jobfn.telemetry import logs
from support.fixtures import ConnectTo, Serve
from support.functions import RecordingFunction
from support.network import eventually
from support.several import Database, StartDatabases, until_empty

Two = tuple[Database, Database]


@pytest.fixture
def log() -> io.StringIO:
    stream = io.StringIO()
    logs.configure(json_lines=True, stream=stream)
    return stream


def reasons(log: io.StringIO, event: str) -> list[str]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line["reason"] for line in lines if line["event"] == event]


async def until_logged(log: io.StringIO, text: str) -> None:
    async def is_logged() -> bool:
        return text in log.getvalue()

    await eventually(is_logged, seconds=30)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("select name from missing", 'JOBS_DATABASES: the statement failed: relation "missing" does not exist'),
        ("delete from pg_class returning relname", "JOBS_DATABASES: the statement failed: syntax error"),
    ],
)
async def test_statement_that_fails_at_the_start_ends_the_service(
    database: str, statement: str, message: str, start_databases: StartDatabases
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        await start_databases(f"query: {statement}", "http://127.0.0.1:1", database_url=database)
    assert str(raised.value).startswith(message)


async def test_statement_may_not_change_anything(database: str, start_databases: StartDatabases) -> None:
    with pytest.raises(ConfigurationError, match="cannot execute nextval\\(\\) in a read-only transaction"):
        await start_databases(
            "query: select nextval('app_jobs.jobs_id_seq')::text", "http://127.0.0.1:1", database_url=database
        )


async def test_rows_that_are_not_valid_are_ignored_with_a_warning(
    two: Two,
    database: str,
    function: RecordingFunction,
    serve: Serve,
    start_databases: StartDatabases,
    log: io.StringIO,
    connect_to: ConnectTo,
) -> None:
    a, _ = two
    main = await connect_to(database)
    await main.execute("create table fleet (name text, url text)")
    await main.executemany(
        "insert into fleet values ($1, $2)",
        [("a", a.dsn), ("a", a.dsn), ("b/c", None), (None, None), ("d", "s3cr3t")],
    )
    await start_databases("query: table fleet", await serve(function.app), database_url=database)
    await a.jobs.add("t")
    await until_empty(a)
    ignored = reasons(log, "database ignored")
    assert [reason.partition(" must ")[0] for reason in ignored] == [
        "two databases have the name a: write NAME=URL for one",
        "the name in row 3",
        "the name in row 4",
        "the address in row 5",
    ]
    assert "s3cr3t" not in log.getvalue()


async def test_columns_must_be_names_and_addresses(
    database: str, start_databases: StartDatabases, log: io.StringIO
) -> None:
    await start_databases("query: select 1, 2, 3", "http://127.0.0.1:1", database_url=database)
    assert reasons(log, "database ignored") == [
        "the statement must return names as text, and perhaps addresses in a second column"
    ]


async def test_too_many_rows_are_ignored(database: str, start_databases: StartDatabases, log: io.StringIO) -> None:
    statement = "query: select null::text from generate_series(1, 501)"
    await start_databases(statement, "http://127.0.0.1:1", database_url=database)
    assert reasons(log, "database ignored")[-1] == "there are more than 500 databases: run several services"


async def test_databases_go_on_while_the_statement_fails_and_move_to_a_new_address(
    two: Two,
    database: str,
    function: RecordingFunction,
    serve: Serve,
    start_databases: StartDatabases,
    log: io.StringIO,
    connect_to: ConnectTo,
) -> None:
    a, b = two
    main = await connect_to(database)
    await main.execute("create table fleet (name text, url text)")
    await main.execute("insert into fleet values ('x', $1)", a.dsn)
    await start_databases(
        "query: table fleet", await serve(function.app), database_url=database, databases_interval_seconds=0.05
    )
    await main.execute("alter table fleet rename to hidden")
    await until_logged(log, "databases not discovered, the known ones go on")
    await a.jobs.add("t")
    await until_empty(a)
    await main.execute("alter table hidden rename to fleet")
    await main.execute("update fleet set url = $1", b.dsn)
    await until_logged(log, "address of database changed")
    await b.jobs.add("t")
    await until_empty(b)
    await a.jobs.add("t")
    await asyncio.sleep(0)
    assert await a.jobs.count() == 1


async def test_names_are_databases_of_the_same_server(
    create_databases: Callable[[int], list[str]],
    connect_to: ConnectTo,
    database: str,
    function: RecordingFunction,
    serve: Serve,
    start_databases: StartDatabases,
) -> None:
    connections = [await connect_to(dsn) for dsn in create_databases(2)]
    names = [await connection.fetchval("select current_database()") for connection in connections]
    listed = ", ".join(f"'{name}'" for name in names)
    await start_databases(
        f"query: select datname from pg_database where datname in ({listed}) -- of this server",
        await serve(function.app),
        database_url=database,
        listen_url=database,
    )
    for connection in connections:
        await connection.execute("select app_jobs.add_job('t')")
    for connection in connections:
        await eventually(
            lambda connection=connection: connection.fetchval("select count(*) = 0 from app_jobs.jobs"),  # type: ignore[misc]
            seconds=30,
        )
