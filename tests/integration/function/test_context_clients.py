"""``ctx.graphql``, ``ctx.meta`` and ``ctx.db``, with a real endpoint and a real database."""

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from graphql import build_schema, graphql_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn import ConfigurationError, GraphQLError, JobContext, create_app, task
from jobfn.errors import DatabaseError, DatabaseUnreachable
from jobfn.testing import function_under_test
from support.fixtures import Serve
from support.function_app import ACTOR, SECRET
from support.jobs import TENANT
from support.pgbouncer import pgbouncer

SCHEMA = build_schema("type Query { hello(name: String!): String, broken: String }")
HELLO = "query Hello($name: String!) { hello(name: $name) }"


class Root:
    """The resolvers of ``SCHEMA``."""

    def hello(self, _info: Any, name: str) -> str:
        return f"Hello, {name}"

    def broken(self, _info: Any) -> str:
        raise ValueError("no such column")


class Endpoint:
    """A GraphQL server that records request headers."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    async def execute(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        content = json.loads(await request.body())
        result = graphql_sync(SCHEMA, content["query"], Root(), variable_values=content.get("variables"))
        return JSONResponse(result.formatted)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/graphql", self.execute, methods=["POST"])])


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def url(endpoint: Endpoint, serve: Serve) -> str:
    return f"{await serve(endpoint.app)}/graphql"


def context(**env: str) -> JobContext:
    """Return the context of a tenant's job."""
    return JobContext("x", database_id=UUID(TENANT), actor_id=UUID(ACTOR), env=env)


async def test_endpoints_get_the_headers_of_the_environment(endpoint: Endpoint, url: str, serve: Serve) -> None:
    meta_endpoint = Endpoint()
    ctx = context(
        GRAPHQL_URL=url,
        META_GRAPHQL_URL=f"{await serve(meta_endpoint.app)}/graphql",
        GRAPHQL_AUTH_TOKEN=SECRET,
        GRAPHQL_API_NAME="shop-api",
        GRAPHQL_SCHEMATA="shop,shop_private",
        GRAPHQL_HOST_HEADER="shop.example.com",
        META_GRAPHQL_HOST_HEADER="meta.example.com",
    )
    assert await ctx.graphql.execute(HELLO, {"name": "Ada"}) == {"hello": "Hello, Ada"}
    assert await ctx.meta.execute('{ hello(name: "Bob") }') == {"hello": "Hello, Bob"}
    await ctx.aclose()

    [tenant], [meta] = endpoint.headers, meta_endpoint.headers
    names = ("authorization", "x-database-id", "x-api-name", "x-schemata", "x-meta-schema", "host")
    assert [tenant.get(name) for name in names] == [
        *(f"Bearer {SECRET}", TENANT, "shop-api", "shop,shop_private", None, "shop.example.com")
    ]
    assert [meta.get(name) for name in names] == [f"Bearer {SECRET}", None, None, None, "true", "meta.example.com"]
    assert SECRET not in repr(ctx.graphql)


async def test_headers_of_unset_variables_are_not_sent(endpoint: Endpoint, url: str) -> None:
    ctx = JobContext("x", env={"GRAPHQL_URL": url, "GRAPHQL_AUTH_TOKEN": ""})
    await ctx.graphql.execute('{ hello(name: "") }')
    await ctx.graphql.execute('{ hello(name: "again") }')
    await ctx.meta.execute('{ hello(name: "") }')
    await ctx.aclose()
    names = {"authorization", "x-database-id", "x-api-name", "x-schemata"}
    assert all(not names & headers.keys() for headers in endpoint.headers)
    assert [headers.get("x-meta-schema") for headers in endpoint.headers] == [None, None, "true"]


def test_missing_or_invalid_url_is_an_error_that_names_the_variable() -> None:
    with pytest.raises(ConfigurationError, match="set GRAPHQL_URL, for example"):
        _ = context().graphql
    with pytest.raises(ConfigurationError, match="set META_GRAPHQL_URL or GRAPHQL_URL"):
        _ = context().meta
    with pytest.raises(ConfigurationError, match="GRAPHQL_URL must be a URL"):
        _ = context(GRAPHQL_URL="graphql-server").graphql


async def test_graphql_errors_name_the_endpoint_and_the_cause(url: str) -> None:
    ctx = context(GRAPHQL_URL=url)
    with pytest.raises(GraphQLError, match="returned errors: no such column") as caught:
        await ctx.graphql.execute("{ broken }")
    assert caught.value.errors[0]["path"] == ["broken"]
    with pytest.raises(GraphQLError, match="the query is not valid GraphQL"):
        await ctx.graphql.execute("{")
    await ctx.aclose()
    unreachable = context(GRAPHQL_URL="http://127.0.0.1:9/graphql?secret=1")
    with pytest.raises(GraphQLError, match=r"127.0.0.1:9/graphql\?… did not respond"):
        await unreachable.graphql.execute("{ broken }")
    await unreachable.aclose()


@pytest.fixture
async def tenant_role(connection: "asyncpg.Connection[Any]") -> AsyncIterator[str]:
    """A role without bypass of row level security, and a table with rows of two tenants."""
    role = f"jobfn_test_{secrets.token_hex(8)}"
    await connection.execute(f"""
        create role {role};
        create table notes (tenant uuid, text text);
        insert into notes values ('{TENANT}', 'mine'), (gen_random_uuid(), 'another''s');
        alter table notes enable row level security;
        create policy own on notes using (tenant = nullif(current_setting('jwt.claims.database_id', true), '')::uuid);
        grant select, insert on notes to {role};
    """)
    yield role
    await connection.execute(f"drop owned by {role}; drop role {role}")


@task("read_notes")
async def read_notes(payload: None, ctx: JobContext) -> dict[str, Any]:
    async with ctx.db.transaction() as connection:
        await connection.execute("select 1")
    row = await ctx.db.fetchrow("select current_user::text as role, current_setting('jwt.claims.user_id') as actor")
    await ctx.db.execute("set application_name = 'changed'")
    return {
        "notes": [row["text"] for row in await ctx.db.fetch("select text from notes order by text")],
        "role": row["role"],
        "actor": row["actor"],
        "pid": await ctx.db.fetchval("select pg_backend_pid()"),
    }


async def test_connection_has_the_role_and_claims_of_the_current_job_only(
    database: str, tenant_role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("JOBFN_DB_ROLE", tenant_role)
    async with function_under_test(create_app(tasks=[read_notes])) as app:
        of_tenant = (await app.deliver(read_notes, database_id=TENANT, actor_id=ACTOR)).result
        assert of_tenant["notes"] == ["mine"]
        assert (of_tenant["role"], of_tenant["actor"]) == (tenant_role, ACTOR)
        without_tenant = (await app.deliver(read_notes)).result
        assert (without_tenant["notes"], without_tenant["actor"]) == ([], "")
        assert without_tenant["pid"] == of_tenant["pid"]
        monkeypatch.setenv("JOBFN_DB_ROLE", "")
        of_owner = (await app.deliver(read_notes, database_id=TENANT)).result
        assert of_owner["role"] != tenant_role
        assert len(of_owner["notes"]) == 2


@pytest.mark.parametrize("max_prepared_statements", [0, 200])
async def test_role_and_claims_do_not_stay_in_the_sessions_of_a_pooler(
    max_prepared_statements: int, database: str, tenant_role: str, tmp_path: Path
) -> None:
    """In transaction mode other clients get the same sessions."""
    async with pgbouncer(tmp_path, database, max_prepared_statements=max_prepared_statements) as pooler:
        ctx = context(DATABASE_URL=pooler.dsn, JOBFN_DB_ROLE=tenant_role)
        assert [row["text"] for row in await ctx.db.fetch("select text from notes")] == ["mine"]
        assert await ctx.db.fetchval("select current_user::text") == tenant_role
        assert await ctx.db.execute("insert into notes values ($1, 'second')", TENANT) == "INSERT 0 1"
        async with ctx.db.transaction() as connection:
            assert await connection.fetchval("select count(*) from notes") == 2
            assert (await ctx.db.fetchrow("select count(*) as notes from notes"))["notes"] == 2
        with pytest.raises(DatabaseError, match=r"ctx.db.connection\(\) needs its own session"):
            await ctx.db.connection()
        other = await asyncpg.connect(pooler.dsn, statement_cache_size=0)
        for _ in range(3):
            row = await other.fetchrow(
                "select current_user::text, current_setting('jwt.claims.database_id', true), pg_backend_pid()"
            )
            assert row[0] != tenant_role
            assert not row[1]
        await other.close()
        await ctx.aclose()


async def test_context_outside_an_app_closes_its_own_connection(database: str) -> None:
    ctx = context(DATABASE_URL=database)
    connection = await ctx.db.connection()
    assert await ctx.db.fetchval("select current_setting('jwt.claims.database_id')") == TENANT
    await ctx.aclose()
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetchval("select 1")


async def test_unavailable_database_or_role_is_an_error_that_names_it(database: str) -> None:
    with pytest.raises(ConfigurationError, match="set DATABASE_URL, or PGHOST"):
        await context().db.fetch("select 1")
    with pytest.raises(DatabaseUnreachable, match="cannot reach its database"):
        await context(DATABASE_URL="postgresql://127.0.0.1:9/x").db.fetch("select 1")
    ctx = context(DATABASE_URL=database, JOBFN_DB_ROLE="nobody_here")
    with pytest.raises(DatabaseError, match=r'JOBFN_DB_ROLE=nobody_here: role "nobody_here" does not exist'):
        await ctx.db.fetch("select 1")
    await ctx.aclose()


async def test_lost_connection_does_not_fail_a_finished_job(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database)

    @task("terminate")
    async def terminate(payload: None, ctx: JobContext) -> str:
        (await ctx.db.connection()).terminate()
        return "done"

    async with function_under_test(terminate) as app:
        assert (await app.deliver(terminate)).result == "done"
        assert (await app.deliver(terminate)).result == "done"
