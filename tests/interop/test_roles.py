"""jobfn's service and triggers with the roles and the rights of the platform's published schema."""

from typing import Any

import asyncpg
import pytest

from interop.parts import Parts, add_jobs, install_schema
from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers
from jobfn.triggers.node import EntityLookup
from support.commands import Command, Spawn
from support.jobs import TENANT, Jobs
from support.network import free_port
from support.roles import login_role

pytestmark = pytest.mark.external


async def test_service_and_commands_run_as_a_member_of_administrator(
    connection: "asyncpg.Connection[Any]", empty_database: str, spawn: Spawn, command: Command
) -> None:
    await install_schema("node", connection)
    async with login_role(connection, empty_database) as role:
        refused = await command("jobfn", "jobs", "list", DATABASE_URL=role.dsn)
        assert refused.output == (
            f"jobfn: role {role.name} lacks USAGE on schema app_jobs: grant it as postgres, or connect as another role "
            "[J123]"
        )
        await connection.execute(f"grant administrator to {role.name}")
        parts = Parts(spawn, role.dsn)
        variables = parts.variables(await parts.start_function("jobfn"), free_port(), HOSTNAME="jobfn-worker")
        await parts.start_service(variables)
        (completing,) = await add_jobs(connection, "note", [{"id": 7}])
        (failing,) = await add_jobs(connection, "fail", [{}])
        jobs = Jobs(connection)
        await jobs.until_gone(completing, seconds=30)
        await jobs.until_failed(failing, seconds=30)
        for line in ("jobs list", "jobs stats", f"jobs show {failing}", "workers", "schedules list", "db status"):
            assert (await command("jobfn", *line.split(), DATABASE_URL=role.dsn)).code == 0, line


async def test_triggers_add_jobs_and_refuse_an_entity_that_the_schema_does_not_take(
    connection: "asyncpg.Connection[Any]",
) -> None:
    await install_schema("node", connection)
    await connection.execute("create table notes (id int primary key, owner uuid)")
    node = DataJobTrigger(task_identifier="note", events=("INSERT",))
    await apply_triggers(connection, [TableTriggers("notes", [node])])
    await connection.execute("insert into notes values (7)")
    assert await connection.fetchval("select payload::text from app_jobs.jobs") == '{"id" : 7}'
    with pytest.raises(BlueprintError, match="entity_field: add_job of schema app_jobs takes no entity_id"):
        await apply_triggers(connection, [TableTriggers("notes", [node.model_copy(update={"entity_field": "owner"})])])


async def test_triggers_set_the_entity_on_the_newest_schema(connection: "asyncpg.Connection[Any]") -> None:
    await install_schema("newest", connection)
    await connection.execute("create table channels (id int primary key, owner uuid)")
    await connection.execute("create table notes (id int primary key, channel_id int references channels)")
    lookup = {"obj_table": "channels", "obj_field": "owner"}
    node = DataJobTrigger(task_identifier="note", entity_field="channel_id", entity_lookup=EntityLookup(**lookup))
    await apply_triggers(connection, [TableTriggers("notes", [node])])
    await connection.execute(f"set jwt.claims.database_id = '{TENANT}'")
    await connection.execute(f"insert into channels values (1, '{TENANT}')")
    await connection.execute("insert into notes values (7, 1)")
    row = await connection.fetchrow("select payload::text, entity_id::text from app_jobs.jobs")
    assert (row["payload"], row["entity_id"]) == ('{"id" : 7}', TENANT)
