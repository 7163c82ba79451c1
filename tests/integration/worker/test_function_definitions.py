"""The worker finds functions by their definitions in the platform's table (``JOBS_FUNCTION_DEFINITIONS``)."""

from typing import Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from jobfn.errors import ConfigurationError
from jobfn.worker.function_urls import FunctionUrls, load_routes, open_function_urls
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings
from support.definitions import WITH_CATEGORIES, WITH_URLS
from support.fixtures import Serve, StartService
from support.functions import RecordingFunction
from support.jobs import Jobs
from support.roles import temporary_role

TABLE = "compute_public.platform_function_definitions"


async def define(connection: "asyncpg.Connection[Any]", task: str, url: str | None) -> None:
    await connection.execute(
        f"insert into {TABLE} (scope, name, task_identifier, service_url) values ('x', $1, $1, $2)", task, url
    )


async def test_worker_sends_jobs_to_the_urls_of_the_table(
    jobs: Jobs, function: RecordingFunction, serve: Serve, start_service: StartService
) -> None:
    url = await serve(function.app)
    await jobs.connection.execute(WITH_URLS)
    await define(jobs.connection, "here", f"{url}/apps/here")
    await define(jobs.connection, "by_setting", "http://unused.invalid")
    await define(jobs.connection, "by_gateway", None)
    await start_service(url, function_definitions="auto", function_urls={"by_setting": f"{url}/own"})
    for task in ("here", "by_setting", "by_gateway"):
        await jobs.until_gone(await jobs.add(task))
    assert [request.path for request in function.received] == ["/apps/here", "/own", "/by_gateway"]


async def test_changes_of_the_table_are_read(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(WITH_URLS)
    routes = Routes("http://gateway", {})
    urls = await open_function_urls(connection, TABLE, routes)
    assert isinstance(urls, FunctionUrls)
    await define(connection, "new", "http://new:8080")
    await define(connection, "wrong", "new:8080")
    assert routes.url_for("new") == "http://gateway/new"
    with capture_logs() as lines:
        await urls.read()
        await urls.read()
    assert [routes.url_for(task) for task in ("new", "wrong")] == ["http://new:8080", "http://gateway/wrong"]
    assert routes.index_urls == ["http://gateway/", "http://new:8080/"]
    assert [line["tasks"] for line in lines] == [["wrong"]]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("compute_public.other", "'compute_public.other' is not a table with a column task_identifier"),
        ("auto", "several tables of function definitions: name one of compute_public.function_definitions, "),
        ("compute_public.function_definitions", "has no column service_url"),
    ],
)
async def test_unusable_table_is_an_error(name: str, message: str, connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(WITH_URLS + WITH_CATEGORIES)
    with pytest.raises(ConfigurationError) as raised:
        await load_routes(ServiceSettings(function_definitions=name), connection)
    assert message in str(raised.value)


async def test_table_without_rights_is_an_error(connection: "asyncpg.Connection[Any]") -> None:
    await connection.execute(WITH_URLS)
    async with temporary_role(connection) as role:
        await connection.execute(f"set role {role}")
        with pytest.raises(ConfigurationError, match=r"may not read compute_public\.platform_function_definitions"):
            await load_routes(ServiceSettings(function_definitions=TABLE), connection)
        await connection.execute("reset role")


async def test_database_without_a_table_uses_the_gateway(connection: "asyncpg.Connection[Any]") -> None:
    routes = await load_routes(ServiceSettings(function_definitions="auto"), connection)
    assert routes.url_for("x") == "http://gateway:8080/x"
