"""Jobs enqueued on the platform's schemas, and jobs with an entity."""

from typing import Any

import asyncpg
import pytest

from jobfn import EnqueueError, enqueue
from jobfn.errors import SchemaError
from support.client import OpenTransaction, maybe_await
from support.jobs import NEWEST_PLATFORM_SCHEMA, PLATFORM_SCHEMA, TENANT, Jobs

ACTOR = "c2d29867-3d0b-d497-9191-18a9d8ee7830"
ENTITY: Any = {"entity_id": ACTOR, "organization_id": TENANT, "entity_type": "org"}
SCHEMAS = {"native": None, "platform": PLATFORM_SCHEMA, "newest platform": NEWEST_PLATFORM_SCHEMA}


@pytest.fixture(params=SCHEMAS)
async def schema(request: pytest.FixtureRequest, connection: asyncpg.Connection) -> str:
    """The kind of schema of the database."""
    await install(connection, SCHEMAS[request.param])
    return str(request.param)


@pytest.fixture
async def newest_schema(connection: asyncpg.Connection) -> None:
    """Replace the schema of the database by the platform's newest one."""
    await install(connection, NEWEST_PLATFORM_SCHEMA)


async def install(connection: asyncpg.Connection, platform_schema: str | None) -> None:
    if platform_schema is not None:
        await connection.execute("drop schema app_jobs cascade")
        await connection.execute(platform_schema)


async def ids(jobs: Jobs, job: int) -> tuple[str, ...]:
    """Return the tenant, the actor and the entity of a job."""
    columns = ("database_id", "actor_id", "entity_id", "organization_id", "entity_type")
    return tuple(map(str, await jobs.values(job, *columns)))


@pytest.mark.usefixtures("newest_schema")
async def test_tenant_is_stored_on_the_newest_schema_and_the_claims_are_restored(
    transaction: OpenTransaction, jobs: Jobs
) -> None:
    connection = transaction.connection
    for _ in range(2):  # the second call does not look the form up again
        job = await maybe_await(enqueue(connection, "x", {"id": 1}, database_id=TENANT))
    own = await maybe_await(enqueue(connection, "x", {"id": 1}, **ENTITY))
    both = await maybe_await(enqueue(connection, "x", {"id": 1}, database_id=TENANT, key="k", **ENTITY))
    await transaction.commit()
    assert await ids(jobs, job) == (TENANT, "None", "None", "None", "None")
    assert await ids(jobs, own) == ("None", "None", ACTOR, TENANT, "org")
    assert await ids(jobs, both) == (TENANT, "None", ACTOR, TENANT, "org")


async def test_tenant_and_entity_are_stored_on_every_schema_that_has_them(
    schema: str, connection: asyncpg.Connection, jobs: Jobs
) -> None:
    for name in ("jwt.claims.database_id", "jwt.claims.user_id"):
        await connection.execute("select set_config($1, $2, false)", name, ACTOR)
    job = await enqueue(connection, "x", database_id=TENANT)
    if schema == "platform":
        assert [str(value) for value in await jobs.values(job, "database_id")] == [TENANT]
        with pytest.raises(SchemaError, match="takes no entity_id, organization_id and entity_type"):
            await enqueue(connection, "x", database_id=TENANT, entity_type="org")
    else:
        assert await ids(jobs, job) == (TENANT, ACTOR, "None", "None", "None")
        job = await enqueue(connection, "x", database_id=TENANT, entity_type="org")
        assert await ids(jobs, job) == (TENANT, ACTOR, "None", "None", "org")
    assert await connection.fetchval("select current_setting('jwt.claims.database_id')") == ACTOR


@pytest.mark.usefixtures("newest_schema")
async def test_platform_schema_has_no_dependencies(connection: asyncpg.Connection) -> None:
    with pytest.raises(SchemaError, match="has no dependencies of jobs: run `jobfn db migrate`, or leave depends_on"):
        await enqueue(connection, "x", database_id=TENANT, depends_on=[1])


@pytest.mark.usefixtures("newest_schema")
async def test_pool_enqueues_for_a_tenant(database: str, jobs: Jobs) -> None:
    async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
        job = await enqueue(pool, "x", database_id=TENANT)
    assert [str(value) for value in await jobs.values(job, "database_id")] == [TENANT]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"entity_id": "7"}, "entity_id must be a UUID"),
        ({"organization_id": 7}, "organization_id must be a UUID"),
        ({"entity_type": ""}, "entity_type='' must be text of 1 to 126 characters"),
    ],
)
async def test_invalid_entity_is_rejected(
    connection: asyncpg.Connection, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EnqueueError, match=message):
        await enqueue(connection, "x", **options)
