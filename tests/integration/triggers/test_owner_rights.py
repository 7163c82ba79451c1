"""Triggers of the platform's schema on the table of a role that does not apply them."""

import pytest

from jobfn.errors import BlueprintError, DatabaseError
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers
from support.roles import temporary_role
from support.triggers import Shop

ORDERS = [TableTriggers("orders", [DataJobTrigger(task_identifier="t", events=("INSERT",))])]
ORDER = "insert into orders (id, customer_id, total) values (1, gen_random_uuid(), 1)"


async def test_triggers_of_a_platform_schema_run_as_the_tables_owner(platform_shop: Shop) -> None:
    shop = platform_shop
    async with temporary_role(shop.connection) as owner:
        await shop.execute(f"alter table orders owner to {owner}")
        with pytest.raises(BlueprintError) as raised:
            await apply_triggers(shop.connection, ORDERS)
        assert str(raised.value).startswith(
            f"role {owner} owns table public.orders and may not add jobs: run "
            f'`grant usage on schema "app_jobs" to "{owner}"`, and grant what its add_job needs. Or trust the owners'
        )
        await shop.execute(f"grant usage on schema app_jobs to {owner}")
        await apply_triggers(shop.connection, ORDERS)
        owners = await shop.connection.fetch(
            "select distinct pg_get_userbyid(proowner)::text as name from pg_proc where proname like 'jobfn%'"
        )
        assert [row["name"] for row in owners] == [owner]
        await shop.execute(ORDER)
        assert await shop.payloads() == [{"id": 1}]


async def test_add_job_with_the_callers_rights_needs_an_owner_who_may_insert(platform_shop: Shop) -> None:
    shop = platform_shop
    add_job = await shop.connection.fetchval("select oid::regprocedure::text from pg_proc where proname = 'add_job'")
    async with temporary_role(shop.connection) as owner:
        await shop.execute(
            f"alter function {add_job} security invoker",
            f"alter table orders owner to {owner}",
            f"grant all on schema app_jobs to {owner}",
        )
        with pytest.raises(BlueprintError, match="may not add jobs"):
            await apply_triggers(shop.connection, ORDERS)
        await shop.execute(f"set role {owner}")
        with pytest.raises(DatabaseError, match=f"role {owner} must be allowed to enqueue"):
            await apply_triggers(shop.connection, ORDERS)
        await shop.execute(
            "reset role",
            f"grant select, insert, update on app_jobs.jobs to {owner}",
            f"grant usage on sequence app_jobs.jobs_id_seq to {owner}",
        )
        await apply_triggers(shop.connection, ORDERS)
        await shop.execute(ORDER)
        assert await shop.payloads() == [{"id": 1}]


async def test_unusable_schema_of_a_lookup_is_reported(shop: Shop) -> None:
    async with temporary_role(shop.connection) as owner:
        await shop.execute(
            f"alter table orders owner to {owner}",
            f"grant all on schema app_jobs to {owner}",
            f"grant all on all functions in schema app_jobs to {owner}",
            "create schema closed",
            "create table closed.customers (id uuid primary key, entity uuid)",
        )
        lookup = {"obj_table": "customers", "obj_schema": "closed", "obj_field": "entity"}
        node = DataJobTrigger.model_validate(
            {"task_identifier": "t", "entity_field": "customer_id", "entity_lookup": lookup}
        )
        with pytest.raises(
            BlueprintError, match=f"look the entity up as {owner}, who may not use schema closed: grant usage"
        ):
            await shop.apply("orders", node)
