"""Triggers whose jobs are unique, or have a maximum delay."""

from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger
from support.roles import temporary_role
from support.triggers import Enqueued, Shop

ADD = """
    insert into orders (id, customer_id, total, note)
    values (1, gen_random_uuid(), 1, 'a'), (2, gen_random_uuid(), 2, 'a')
"""
PER_NOTE: dict[str, Any] = {
    "task_identifier": "sync_customer",
    "payload_strategy": "fields",
    "payload_fields": ["note", "total"],
    "unique_by": ["note"],
}


def unique(**parameters: Any) -> DataJobTrigger:
    return DataJobTrigger.model_validate(PER_NOTE | {"unique_until": "started"} | parameters)


@pytest.mark.parametrize("is_partitioned", [False, True])
@pytest.mark.parametrize(("on_conflict", "total"), [("keep", 1), ("replace", 2)])
async def test_rows_share_a_job(shop: Shop, on_conflict: str, total: int, *, is_partitioned: bool) -> None:
    if is_partitioned:
        await shop.execute("create table old_orders () inherits (orders)")  # triggers fire per row
    node = unique(on_conflict=on_conflict, queue_name="q", run_at_delay="1 minute", priority=2)
    plan = await shop.apply("orders", node)
    assert plan.pending[0].each_statement is not is_partitioned
    await shop.execute(ADD)
    job = Enqueued("sync_customer", {"note": "a", "total": total}, queue="q", priority=2, delay=timedelta(minutes=1))
    assert await shop.jobs() == [job]
    await shop.execute("update orders set note = 'b' where id = 2")
    assert [payload["note"] for payload in await shop.payloads()] == ["a", "b"]


async def test_error_fails_the_change(shop: Shop) -> None:
    await shop.apply("orders", unique(unique_until=None, unique_for="1 hour", on_conflict="error"))
    with pytest.raises(asyncpg.UniqueViolationError, match="'sync_customer' that is unique exists: job 1"):
        await shop.execute(ADD)
    assert await shop.jobs() == []


async def test_job_has_its_entity(shop: Shop) -> None:
    plan = await shop.apply("orders", unique(entity_field="customer_id"))
    assert not plan.pending[0].each_statement
    await shop.execute(ADD)
    [job] = await shop.jobs()
    assert job.entity == str(await shop.connection.fetchval("select customer_id from orders where id = 1"))


async def test_owner_who_may_only_enqueue(shop: Shop) -> None:
    async with temporary_role(shop.connection) as owner:
        await migrate(shop.connection, "app_jobs", grants=Grants(enqueue=(owner,)))
        await shop.execute(f"alter table orders owner to {owner}")
        await shop.apply("orders", unique())
        await shop.execute(ADD)
        assert len(await shop.jobs()) == 1


async def test_stream_of_changes_does_not_put_the_job_off_for_ever(shop: Shop) -> None:
    node = DataJobTrigger(
        task_identifier="index", job_key="index", run_at_delay="4 minutes", max_delay="10 minutes", events=("INSERT",)
    )
    await shop.apply("orders", node)
    await shop.execute(ADD, "update app_jobs.jobs set created_at = created_at - interval '8 minutes'")
    await shop.execute("insert into orders (id, customer_id, total) values (3, gen_random_uuid(), 3)")
    row = await shop.connection.fetchrow("select payload, run_at - created_at as delay from app_jobs.jobs")
    assert row is not None
    assert (row["payload"], row["delay"]) == ('{"id" : 3}', timedelta(minutes=10))


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({}, "unique"),
        (
            {"unique_until": None, "unique_by": None, "job_key": "k", "run_at_delay": "1 s", "max_delay": "9 s"},
            "max_delay",
        ),
    ],
)
async def test_platform_schema_is_an_error(platform_shop: Shop, parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(BlueprintError) as raised:
        await platform_shop.apply("orders", unique(**parameters))
    assert str(raised.value) == (
        f"table public.orders, DataJobTrigger sync_customer: {problem}: schema app_jobs does not have it: run "
        "`jobfn db migrate`; the platform's schema does not have it"
    )


@pytest.mark.parametrize("entity", [None, "customer_id"])
async def test_explicit_values_of_a_node_count(shop: Shop, entity: str | None) -> None:
    await shop.execute(
        "insert into app_jobs.task_settings (task_identifier, priority, max_attempts) values ('sync', 4, 3)"
    )
    node = DataJobTrigger(task_identifier="sync", events=("INSERT",), entity_field=entity, max_attempts=25, priority=0)
    await shop.apply("orders", node)
    await shop.execute(ADD)
    assert [(job.priority, job.max_attempts) for job in await shop.jobs()] == [(0, 25)] * 2


@pytest.mark.parametrize("entity", [None, "customer_id"])
async def test_settings_of_the_task_count(shop: Shop, entity: str | None) -> None:
    node = DataJobTrigger(task_identifier="sync", events=("INSERT",), entity_field=entity)
    plan = await shop.apply("orders", node)
    assert plan.pending[0].each_statement
    await shop.execute(ADD)
    await shop.execute(
        "insert into app_jobs.task_settings (task_identifier, queue_name, priority, max_attempts, unique_until) "
        "values ('sync', 'syncs', 4, 3, 'done')",
        "delete from orders",
        ADD,
        "delete from orders",
        ADD,
    )
    jobs = await shop.jobs()
    assert [(job.queue, job.priority, job.max_attempts) for job in jobs] == [(None, 0, 25)] * 2 + [("syncs", 4, 3)] * 2
    assert [job.payload for job in jobs] == [{"id": 1}, {"id": 2}, {"id": 1}, {"id": 2}]
    assert all((job.entity is None) is (entity is None) for job in jobs)
