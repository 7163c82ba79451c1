"""``ctx.graphql``, ``ctx.meta`` and ``ctx.db``, against a real endpoint and a real database."""

import inspect
import json
import re
import secrets
from collections.abc import AsyncIterator
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
from jobfn.function import database, graphql
from jobfn.testing import function_under_test
from support.fixtures import Serve
from support.function_app import ACTOR, SECRET
from support.jobs import TENANT

SCHEMA = build_schema("type Query { hello(name: String!): String, broken: String }")
HELLO = "query Hello($name: String!) { hello(name: $name) }"


class Root:
    """What the queries resolve to."""

    def hello(self, _info: Any, name: str) -> str:
        return f"Hello, {name}"

    def broken(self, _info: Any) -> str:
        raise ValueError("no such column")


class Endpoint:
    """A GraphQL server that remembers the headers it was asked with."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: Request) -> Response:
        self.headers.append(dict(request.headers))
        asked = json.loads(await request.body())
        found = graphql_sync(SCHEMA, asked["query"], Root(), variable_values=asked.get("variables"))
        return JSONResponse(found.formatted)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/graphql", self.answer, methods=["POST"])])


@pytest.fixture
def endpoint() -> Endpoint:
    """See ``Endpoint``."""
    return Endpoint()


@pytest.fixture
async def url(endpoint: Endpoint, serve: Serve) -> str:
    """Where it is."""
    return f"{await serve(endpoint.app)}/graphql"


def context(**env: str) -> JobContext:
    """The context of a tenant's job."""
    return JobContext("x", database_id=UUID(TENANT), actor_id=UUID(ACTOR), env=env)


async def test_the_headers_of_the_platforms_functions(endpoint: Endpoint, url: str) -> None:
    """Each endpoint gets its own, and the token goes to both."""
    ctx = context(
        GRAPHQL_URL=url,
        META_GRAPHQL_URL=url,
        GRAPHQL_AUTH_TOKEN=SECRET,
        GRAPHQL_API_NAME="shop-api",
        GRAPHQL_SCHEMATA="shop,shop_private",
        GRAPHQL_HOST_HEADER="shop.example.com",
        META_GRAPHQL_HOST_HEADER="meta.example.com",
    )
    assert await ctx.graphql.execute(HELLO, {"name": "Ada"}) == {"hello": "Hello, Ada"}
    assert await ctx.meta.execute('{ hello(name: "Bob") }') == {"hello": "Hello, Bob"}
    await ctx.aclose()

    own, meta = endpoint.headers
    sent = ("authorization", "x-database-id", "x-api-name", "x-schemata", "x-meta-schema", "host")
    assert [own.get(name) for name in sent] == [
        *(f"Bearer {SECRET}", TENANT, "shop-api", "shop,shop_private", None, "shop.example.com")
    ]
    assert [meta.get(name) for name in sent] == [f"Bearer {SECRET}", None, None, None, "true", "meta.example.com"]
    assert SECRET not in repr(ctx.graphql)


async def test_what_is_not_set_is_not_sent(endpoint: Endpoint, url: str) -> None:
    """Without token, tenant, names and hosts there are no headers of theirs; meta is found at the same URL."""
    ctx = JobContext("x", env={"GRAPHQL_URL": url, "GRAPHQL_AUTH_TOKEN": ""})
    await ctx.graphql.execute('{ hello(name: "") }')
    await ctx.graphql.execute('{ hello(name: "again") }')
    await ctx.meta.execute('{ hello(name: "") }')
    await ctx.aclose()
    names = {"authorization", "x-database-id", "x-api-name", "x-schemata"}
    assert all(not names & headers.keys() for headers in endpoint.headers)
    assert [headers.get("x-meta-schema") for headers in endpoint.headers] == [None, None, "true"]


@pytest.mark.parametrize(("is_set", "asked"), [(False, [2, 0]), (True, [1, 1])])
async def test_meta_goes_where_it_is_told_or_where_the_other_goes(
    is_set: bool,  # noqa: FBT001
    asked: list[int],
    serve: Serve,
) -> None:
    """META_GRAPHQL_URL where it is set; empty counts as unset, and GRAPHQL_URL is asked instead."""
    own, other = Endpoint(), Endpoint()
    meta_url = f"{await serve(other.app)}/graphql"
    ctx = context(GRAPHQL_URL=f"{await serve(own.app)}/graphql", META_GRAPHQL_URL=meta_url if is_set else "")
    await ctx.graphql.execute('{ hello(name: "") }')
    await ctx.meta.execute('{ hello(name: "") }')
    await ctx.aclose()
    assert [len(endpoint.headers) for endpoint in (own, other)] == asked
    assert (other if is_set else own).headers[-1]["x-meta-schema"] == "true"


def test_every_variable_stands_in_the_reference() -> None:
    """What the two modules read is what they say that they read, and the reference is made of that."""
    for module in (graphql, database):
        read = set(re.findall(r'(?:env\.get\(|_url\(env, )"(\w+)"', inspect.getsource(module)))
        assert read
        assert read <= module.VARIABLES.keys()
    assert "GRAPHQL_URL" in graphql.VARIABLES["META_GRAPHQL_URL"]


def test_without_an_endpoint_it_says_what_to_set() -> None:
    """Both ask for their variables by name; one that is no URL is named too."""
    with pytest.raises(ConfigurationError, match="set GRAPHQL_URL, for example"):
        _ = context().graphql
    with pytest.raises(ConfigurationError, match="set META_GRAPHQL_URL or GRAPHQL_URL"):
        _ = context().meta
    with pytest.raises(ConfigurationError, match="GRAPHQL_URL must be a URL"):
        _ = context(GRAPHQL_URL="graphql-server").graphql


async def test_graphql_errors_are_told(url: str, serve: Serve) -> None:
    """The endpoint's own words, a query that is none, and an endpoint that is not there."""
    ctx = context(GRAPHQL_URL=url)
    with pytest.raises(GraphQLError, match="returned errors: no such column") as told:
        await ctx.graphql.execute("{ broken }")
    assert told.value.errors[0]["path"] == ["broken"]
    with pytest.raises(GraphQLError, match="the query is not valid GraphQL"):
        await ctx.graphql.execute("{")
    await ctx.aclose()
    gone = context(GRAPHQL_URL="http://127.0.0.1:9/graphql?secret=1")
    with pytest.raises(GraphQLError, match=r"127.0.0.1:9/graphql\?… did not respond"):
        await gone.graphql.execute("{ broken }")
    await gone.aclose()


@pytest.fixture
async def tenant_role(connection: "asyncpg.Connection[Any]") -> AsyncIterator[str]:
    """A role that row level security is for, and a table with two tenants' rows."""
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
    """What the handler sees."""
    async with ctx.db.transaction() as connection:
        await connection.execute("select 1")
    row = await ctx.db.fetchrow("select current_user::text as role, current_setting('jwt.claims.user_id') as actor")
    await ctx.db.execute("set application_name = 'left behind'")
    return {
        "notes": [row["text"] for row in await ctx.db.fetch("select text from notes order by text")],
        "role": row["role"],
        "actor": row["actor"],
        "pid": await ctx.db.fetchval("select pg_backend_pid()"),
    }


async def test_the_handlers_connection_is_the_tenants(
    database: str, tenant_role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Role, tenant and actor are the job's, for this handler only: the next one has its own."""
    monkeypatch.setenv("DATABASE_URL", database)
    monkeypatch.setenv("JOBFN_DB_ROLE", tenant_role)
    async with function_under_test(create_app(tasks=[read_notes])) as app:
        mine = await app.deliver(read_notes, database_id=TENANT, actor_id=ACTOR)
        assert mine.result["notes"] == ["mine"]
        assert (mine.result["role"], mine.result["actor"]) == (tenant_role, ACTOR)
        nobodys = await app.deliver(read_notes)
        assert (nobodys.result["notes"], nobodys.result["actor"]) == ([], "")
        assert nobodys.result["pid"] == mine.result["pid"]
        monkeypatch.setenv("JOBFN_DB_ROLE", "")
        owners = await app.deliver(read_notes, database_id=TENANT)
        assert owners.result["role"] != tenant_role
        assert len(owners.result["notes"]) == 2


async def test_a_context_built_by_hand_has_a_connection_too(database: str) -> None:
    """In a unit test, without an app; closing it closes the connection."""
    ctx = context(DATABASE_URL=database)
    connection = await ctx.db.connection()
    assert await ctx.db.fetchval("select current_setting('jwt.claims.database_id')") == TENANT
    await ctx.aclose()
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetchval("select 1")


async def test_a_database_that_cannot_be_had(database: str) -> None:
    """None is named, nobody answers, or the role is not to be had: each says so."""
    with pytest.raises(ConfigurationError, match="set DATABASE_URL, or PGHOST"):
        await context().db.fetch("select 1")
    with pytest.raises(DatabaseUnreachable, match="cannot reach its database"):
        await context(DATABASE_URL="postgresql://127.0.0.1:9/x").db.fetch("select 1")
    refused = context(DATABASE_URL=database, JOBFN_DB_ROLE="nobody_here")
    with pytest.raises(DatabaseError, match=r'JOBFN_DB_ROLE=nobody_here: role "nobody_here" does not exist'):
        await refused.db.fetch("select 1")
    await refused.aclose()


async def test_a_connection_that_breaks_does_not_fail_the_job(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that lost its connection after its work is done has done it; the next one gets another."""
    monkeypatch.setenv("DATABASE_URL", database)

    @task("cut")
    async def cut(payload: None, ctx: JobContext) -> str:
        (await ctx.db.connection()).terminate()
        return "done"

    async with function_under_test(cut, read_notes) as app:
        assert (await app.deliver(cut)).result == "done"
        assert (await app.deliver(cut)).result == "done"
