"""One service of several databases: each settles its own jobs, and one that fails stops no other."""

import asyncio
import io
import json

import asyncpg
import httpx

from jobfn import JobContext, create_app, task
from jobfn.database.migrate import migrate
from jobfn.telemetry import logs
from jobfn.worker.settings import ServiceRole
from support.commands import Spawn
from support.fixtures import ConnectTo, Serve, StartService
from support.functions import RecordingFunction
from support.jobs import WORKER
from support.network import eventually, free_port
from support.several import Database, StartDatabases, until_empty

Two = tuple[Database, Database]


def entries(*databases: Database) -> str:
    return ",".join(database.entry for database in databases)


async def test_report_settles_the_job_of_its_database_and_not_the_one_with_the_same_id(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    gate = function.hold()
    callback_url = await start_databases(entries(a, b), await serve(function.app), settle_on="report")
    job = await a.jobs.add("t", {"from": "a"})
    assert await b.jobs.add("t", {"from": "b"}) == job
    await eventually(lambda: _has(function, 2))
    urls = {request.body["from"]: request.headers["x-callback-url"] for request in function.received}
    base = callback_url.removesuffix("/callback")
    assert {name: url.partition("?")[0] for name, url in urls.items()} == {
        "a": f"{base}/databases/a/callback",
        "b": f"{base}/databases/b/callback",
    }
    headers = {"X-Worker-Id": WORKER, "X-Job-Id": str(job)}
    async with httpx.AsyncClient(timeout=30, headers=headers) as sender:
        assert (await sender.post(urls["b"], json={"status": "success"})).status_code == 200
        assert (await a.jobs.count(), await b.jobs.count()) == (1, 0)
        assert (await sender.post(urls["b"], json={"status": "success"})).status_code == 409
        assert (await sender.post(urls["a"], json={"status": "success"})).status_code == 200
    assert (await a.jobs.count(), await b.jobs.count()) == (0, 0)
    gate.set()


async def _has(function: RecordingFunction, count: int) -> bool:
    return len(function.received) >= count


async def test_functions_of_jobfn_run_and_report_jobs_of_both(
    two: Two, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    seen: list[int | None] = []

    @task("notes")
    async def notes(_payload: object, context: JobContext) -> None:
        seen.append(context.job_id)

    @task("long", background=True)
    async def long(_payload: object, context: JobContext) -> None:
        await context.progress(0.5)
        seen.append(context.job_id)

    app = create_app(tasks=[notes, long])
    await start_databases(entries(a, b), await serve(app), settle_on="report")
    for database in two:
        for name in ("notes", "long"):
            await database.jobs.add(name)
    await until_empty(a, b)
    assert sorted(job for job in seen if job is not None) == [1, 1, 2, 2]


async def test_request_without_a_database_settles_nothing(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    callback_url = await start_databases(entries(a, b), await serve(function.app))
    base = callback_url.removesuffix("/callback")
    async with httpx.AsyncClient(timeout=30) as client:
        headers = {"X-Worker-Id": WORKER, "X-Job-Id": "1"}
        for path in ("callback", "databases/c/callback", "databases/callback"):
            response = await client.post(f"{base}/{path}", headers=headers, json={})
            assert (response.status_code, response.json()) == (
                404,
                {
                    "error": "the URL names no database of this service: report to X-Callback-Url of the delivery",
                    "code": "C404",
                },
            )
        assert (await client.post(callback_url)).text == '"OK"', "a probe without a job"
        assert (await client.get(f"{base}/healthz")).status_code == 200


async def test_databases_that_are_away_or_without_a_schema_do_not_stop_another(
    two: Two,
    empty_database: str,
    function: RecordingFunction,
    serve: Serve,
    start_databases: StartDatabases,
) -> None:
    a, _ = two
    log = io.StringIO()
    logs.configure(json_lines=True, stream=log)
    away = f"away=postgresql://u:s3cr3t@127.0.0.1:{free_port()}/d"
    callback_url = await start_databases(f"{away},empty={empty_database},{a.entry}", await serve(function.app))
    await a.jobs.add("t")

    def events(start: str) -> list[dict[str, str]]:
        lines = map(json.loads, log.getvalue().splitlines())
        return [line for line in lines if line["event"].startswith(start)]

    async def are_logged() -> bool:
        return len({line["database"] for line in events("database not started")}) == 2 and bool(events("job done"))

    await eventually(are_logged, seconds=30)
    failures = {line["database"]: line["reason"] for line in events("database not started")}
    assert failures.keys() == {"away", "empty"}
    assert "jobfn db migrate" in failures["empty"]
    assert "s3cr3t" not in log.getvalue()
    assert [line["database"] for line in events("job done")] == ["a"]
    async with httpx.AsyncClient(timeout=30) as client:
        response = await client.post(
            callback_url.replace("/callback", "/databases/empty/callback"), headers={"X-Job-Id": "1"}
        )
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")

    connection = await asyncpg.connect(empty_database)
    await migrate(connection, "app_jobs")
    await connection.execute("select app_jobs.add_job('t')")
    await eventually(lambda: connection.fetchval("select count(*) = 0 from app_jobs.jobs"), seconds=30)
    await connection.close()


async def test_worker_that_cannot_start_is_started_again(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    await b.jobs.connection.execute(
        """
        alter function app_jobs.reclaim_jobs(text) rename to original;
        create function app_jobs.reclaim_jobs(text) returns setof app_jobs.jobs language plpgsql
        as $$ begin raise 'not now'; end $$
        """
    )
    await start_databases(entries(a, b), await serve(function.app))
    for database in two:
        await database.jobs.add("t")
    await until_empty(a)
    assert await b.jobs.count() == 1
    await b.jobs.connection.execute(
        """
        drop function app_jobs.reclaim_jobs(text);
        alter function app_jobs.original(text) rename to reclaim_jobs
        """
    )
    await until_empty(b)


async def test_probe_metrics_and_dashboard_show_each_database(
    two: Two, empty_database: str, serve: Serve, function: RecordingFunction, spawn: Spawn
) -> None:
    a, _ = two
    port, metrics_port, dashboard_port = free_port(), free_port(), free_port()
    running = await spawn(
        "jobfn",
        "service",
        "--dashboard",
        JOBS_DATABASES=f"{a.entry},empty={empty_database}",
        KNATIVE_SERVICE_URL=await serve(function.app),
        HOSTNAME="several-databases",
        INTERNAL_JOBS_CALLBACK_PORT="0",
        JOBS_HEALTH_PORT=str(port),
        JOBS_METRICS_PORT=str(metrics_port),
        JOBFN_DASHBOARD_PORT=str(dashboard_port),
    )
    await running.until("database started")
    async with httpx.AsyncClient(timeout=30) as client:

        async def is_ready() -> bool:
            try:
                return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(is_ready, seconds=30)
        response = await client.get(f"http://127.0.0.1:{port}/readyz")
        await a.jobs.add("t")
        await until_empty(a)
        metrics = (await client.get(f"http://127.0.0.1:{metrics_port}/metrics")).text.splitlines()
        page = await client.get(f"http://127.0.0.1:{dashboard_port}/databases/a/workers")
    assert "several-databases" in page.text
    assert {line for line in metrics if line.startswith(("jobfn_database_up{", "jobfn_jobs_total{"))} == {
        'jobfn_database_up{database="a"} 1.0',
        'jobfn_database_up{database="empty"} 0.0',
        'jobfn_jobs_total{database="a",outcome="completed",task="t"} 1.0',
    }
    assert response.json() == {"status": "ok", "databases": {"a": "ready", "empty": "failed [J122]"}}


async def test_worker_of_one_database_runs_beside_a_service_of_several(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases, start_service: StartService
) -> None:
    """Each worker's jobs are its own, and the callback server of each settles them."""
    a, b = two
    url = await serve(function.app)
    await start_databases(entries(a, b), url, settle_on="report", concurrency=1)
    await start_service(url, database_url=b.dsn, worker_id="single-worker", settle_on="report", concurrency=1)
    for database in two:
        await database.jobs.connection.execute("select app_jobs.add_job('t') from generate_series(1, 20)")
    await until_empty(a, b)
    workers = {request.headers["x-worker-id"] for request in function.received}
    assert workers == {WORKER, "single-worker"}
    assert len(function.received) == 40


async def test_same_database_with_two_names_runs_once(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    copy = f"copy={a.dsn}"
    await start_databases(f"{entries(a, b)},{copy}", await serve(function.app))
    await a.jobs.connection.execute("select app_jobs.add_job('t') from generate_series(1, 50)")
    await until_empty(a)
    assert len(function.received) == 50


async def test_discovered_databases_come_and_go(
    two: Two,
    database: str,
    function: RecordingFunction,
    serve: Serve,
    start_databases: StartDatabases,
    connect_to: ConnectTo,
) -> None:
    a, b = two
    main = await connect_to(database)
    await main.execute("create table fleet (name text, url text)")
    await main.execute("insert into fleet values ('a', $1), ('bad name', null)", a.dsn)
    statement = "query: select name, url from fleet -- all of them"
    await start_databases(statement, await serve(function.app), database_url=database, databases_interval_seconds=0.05)
    await a.jobs.add("t")
    await until_empty(a)
    await main.execute("insert into fleet values ('b', $1)", b.dsn)
    await b.jobs.add("t")
    await until_empty(b)
    await main.execute("delete from fleet where name = 'a'")
    sessions = "select count(*) = 0 from pg_stat_activity where datname = $1 and application_name like 'jobfn-%'"
    name = a.dsn.partition("?")[0].rpartition("/")[2]
    await eventually(lambda: main.fetchval(sessions, name), seconds=20)
    await a.jobs.add("t")
    await b.jobs.add("t")
    await until_empty(b)
    assert await a.jobs.count() == 1


async def test_two_services_in_separate_processes_run_each_job_once(
    two: Two, function: RecordingFunction, serve: Serve, spawn: Spawn
) -> None:
    a, b = two

    async def rest() -> None:
        await asyncio.sleep(0.005)  # so that the other service claims some

    function.before_response = rest
    url = await serve(function.app)
    for name in ("first-service", "second-service"):
        running = await spawn(
            "jobfn",
            "service",
            JOBS_DATABASES=entries(a, b),
            KNATIVE_SERVICE_URL=url,
            HOSTNAME=name,
            INTERNAL_JOBS_CALLBACK_PORT="0",
            JOBS_CONCURRENCY="2",
        )
        await running.until("database started", times=2)
    for database in two:
        await database.jobs.connection.execute("select app_jobs.add_job('t') from generate_series(1, 100)")
    await until_empty(a, b)
    assert len(function.received) == 200
    assert {request.headers["x-worker-id"] for request in function.received} == {"first-service", "second-service"}


async def test_worker_and_callback_server_can_be_separate_services(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    gate = function.hold()
    callback_url = await start_databases(entries(a, b), "http://127.0.0.1:1", roles=[ServiceRole.CALLBACKS])
    await start_databases(
        entries(b, a),
        await serve(function.app),
        roles=[ServiceRole.WORKER],
        own_callback_url=callback_url,
        settle_on="report",
    )
    await b.jobs.add("t")
    await asyncio.wait_for(function.arrived.wait(), 30)
    headers = function.received[0].headers
    async with httpx.AsyncClient(timeout=30) as sender:
        echoed = {name: headers[name] for name in ("x-worker-id", "x-job-id")}
        response = await sender.post(headers["x-callback-url"], headers=echoed, json={"status": "success"})
    assert response.status_code == 200
    gate.set()
    assert await b.jobs.count() == 0


async def test_schedules_of_each_database_run(
    two: Two, function: RecordingFunction, serve: Serve, start_databases: StartDatabases
) -> None:
    a, b = two
    await start_databases(entries(a, b), await serve(function.app))
    for database in two:
        await database.jobs.connection.execute(
            "select app_jobs.add_scheduled_job('every_second', '* * * * * *', json_build_object('from', $1::text))",
            database.name,
        )

    async def has_both() -> bool:
        return {request.body["from"] for request in function.received} == {"a", "b"}

    await eventually(has_both, seconds=30)
