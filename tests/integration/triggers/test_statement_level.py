"""Statement-level triggers enqueue the same jobs as row-level triggers, and stay fast."""

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers
from support.jobs import TENANT
from support.roles import temporary_role
from support.triggers import Shop

#: Two equal tables; the second has a child, so its triggers fire for each row.
TABLES = """
    create table plain_table (id int primary key, a int, b text);
    create table parent (like plain_table including all);
    create table child () inherits (parent);
"""

#: Sequential scans, so that both tables return rows in the same order.
SEQUENTIAL_SCANS = ("set enable_indexscan = off", "set enable_bitmapscan = off")

EVENTS = st.lists(st.sampled_from(["INSERT", "UPDATE", "DELETE"]), min_size=1, unique=True)
IDS = st.integers(1, 6)
VALUES = st.sampled_from(["1", "2", "null"])

CONDITIONS = st.sampled_from(
    [
        {},
        {"watch_fields": ["a"]},
        {"watch_fields": ["a", "b"]},
        {"watch_fields": ["id"]},
        {"condition_field": "a", "condition_value": 1},
        {"conditions": [{"OR": [{"field": "a", "op": "IS NULL"}, {"field": "id", "op": ">", "value": 3}]}]},
        {"conditions": [{"NOT": {"field": "a", "op": "=", "value": 1}}]},
        {"conditions": {"AND": [{"field": "b", "op": "IS NOT NULL"}, {"field": "a", "op": "<", "value": 2}]}},
        {"events": ["UPDATE"], "conditions": [{"field": "a", "op": "IS DISTINCT FROM"}]},
        {
            "events": ["UPDATE"],
            "conditions": [
                {"field": "id", "op": "<", "ref": {"field": "id", "row": "OLD"}},
                {"field": "b", "op": "IS NULL", "row": "OLD"},
            ],
        },
    ]
)
PAYLOADS = st.sampled_from(
    [
        {},
        {"payload_strategy": "row"},
        {"payload_strategy": "fields", "payload_fields": ["b", "a"]},
        {"payload_strategy": "custom", "payload_custom": {"key": "id"}},
    ]
)
NODES = st.builds(
    lambda events, condition, payload, old, key: DataJobTrigger.model_validate(
        {"task_identifier": "t", "events": events, "include_old": old, "job_key": key} | condition | payload
    ),
    EVENTS,
    CONDITIONS,
    PAYLOADS,
    st.booleans(),
    st.sampled_from([None, None, "k"]),
)
STATEMENTS = st.one_of(
    st.builds(
        "insert into {{t}} select n, {}, 'x' from generate_series({}, 4) n on conflict do nothing".format, VALUES, IDS
    ),
    st.builds(
        "insert into {{t}} select n, {}, null from generate_series({}, 6) n "
        "on conflict (id) do update set a = excluded.a".format,
        VALUES,
        IDS,
    ),
    st.builds("update {{t}} set a = {}".format, VALUES),
    st.builds("update {{t}} set a = {}, b = a::text where id <= {}".format, VALUES, IDS),
    st.builds("update {{t}} set id = id + 10 * {}, b = null".format, IDS),
    st.builds("update {{t}} set id = {} where id = {}".format, IDS, IDS),
    st.builds("delete from {{t}} where id >= {}".format, IDS),
    st.builds(
        "with x as (update {{t}} set a = 1 where id = {} returning id), y as (update {{t}} set a = 2 where id = {}) "
        "insert into {{t}} select 50 + id, 3, 'y' from x".format,
        st.just(1),
        st.just(2),
    ),
)


async def outcomes(
    connection: "asyncpg.Connection[Any]", table: str, node: DataJobTrigger, statements: list[str]
) -> list[object]:
    """Execute statements on a table and return the payloads or the error of each.

    A statement that inserts and updates fires two triggers in unspecified order: its payloads are sorted, and with a
    job key only counted.
    """
    results: list[object] = []
    for statement in statements:
        try:
            await connection.execute(statement.format(t=table))
        except asyncpg.UniqueViolationError as error:
            results.append(type(error))
        rows = await connection.fetch("select payload::text from app_jobs.jobs order by id")
        payloads = [row["payload"] for row in rows]
        inserts_and_updates = (
            "update" in statement and "insert" in statement and {"INSERT", "UPDATE"} <= set(node.events)
        )
        if inserts_and_updates and node.job_key is not None:
            results.append(len(payloads))
            await connection.execute("delete from app_jobs.jobs")
        else:
            results.append(sorted(payloads) if inserts_and_updates else payloads)
        await connection.execute("delete from app_jobs.jobs where key is null")
    await connection.execute("delete from app_jobs.jobs")
    return results


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(node=NODES, statements=st.lists(STATEMENTS, min_size=1, max_size=8))
async def test_statement_level_enqueues_the_same_jobs_as_row_level(
    shop: Shop, node: DataJobTrigger, statements: list[str]
) -> None:
    await shop.execute("drop table if exists plain_table, parent, child", TABLES, *SEQUENTIAL_SCANS)
    plan = await apply_triggers(shop.connection, [TableTriggers(table, [node]) for table in ("plain_table", "parent")])
    assert [change.each_statement for change in plan.changes if change.after is not None] == [True, False]
    statement_level = await outcomes(shop.connection, "plain_table", node, statements)
    assert statement_level == await outcomes(shop.connection, "parent", node, statements)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(node=NODES, statements=st.lists(STATEMENTS, min_size=1, max_size=8))
async def test_owner_who_may_only_enqueue_adds_the_same_jobs(
    shop: Shop, node: DataJobTrigger, statements: list[str]
) -> None:
    async with temporary_role(shop.connection) as owner:
        await migrate(shop.connection, "app_jobs", grants=Grants(enqueue=(owner,)))
        await shop.execute("drop table if exists plain_table, parent, child", TABLES, *SEQUENTIAL_SCANS)
        await shop.execute(f"alter table plain_table owner to {owner}")
        tables = [TableTriggers(table, [node]) for table in ("plain_table", "parent")]
        plan = await apply_triggers(shop.connection, tables)
        assert [change.each_statement for change in plan.changes if change.after is not None] == [True, False]
        set_based = await outcomes(shop.connection, "plain_table", node, statements)
        assert set_based == await outcomes(shop.connection, "parent", node, statements)


async def test_owner_who_may_only_enqueue_adds_many_jobs_in_order_with_every_option(shop: Shop) -> None:
    async with temporary_role(shop.connection) as owner:
        await migrate(shop.connection, "app_jobs", grants=Grants(enqueue=(owner,)))
        await shop.execute(f"alter table orders owner to {owner}", "set jwt.claims.database_id = '" + TENANT + "'")
        node = DataJobTrigger(
            task_identifier="t", queue_name="q'", run_at_delay="1 hour", priority=3, max_attempts=4, events=("INSERT",)
        )
        await shop.apply("orders", node)
        await shop.execute(
            "insert into orders (id, customer_id, total) select n, gen_random_uuid(), 1 from generate_series(1, 250) n"
        )
        jobs = await shop.jobs()
        assert [job.payload["id"] for job in jobs] == list(range(1, 251))
        assert {(job.queue, job.priority, job.max_attempts, job.delay) for job in jobs} == {
            ("q'", 3, 4, timedelta(hours=1))
        }
        tenants = await shop.connection.fetch("select distinct database_id::text as tenant from app_jobs.jobs")
        assert [row["tenant"] for row in tenants] == [TENANT]


async def test_cached_plan_of_one_row_has_no_nested_loop_for_many(shop: Shop) -> None:
    node = DataJobTrigger(
        task_identifier="t", events=("UPDATE",), watch_fields=("status",), payload_strategy="row", include_old=True
    )
    await shop.apply("orders", node)
    await shop.execute(
        "insert into orders (id, customer_id, total) select n, gen_random_uuid(), 1 from generate_series(1, 20000) n"
    )
    for number in range(1, 8):
        await shop.execute(f"update orders set status = 'seen' where id = {number}")
    async with asyncio.timeout(30):
        await shop.execute("update orders set total = 2", "update orders set status = 'paid'")
    assert await shop.connection.fetchval("select count(*) from app_jobs.jobs") == 20_007
