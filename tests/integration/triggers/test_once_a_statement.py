"""A trigger that fires once a statement means what one that fires for each row means, and stays quick."""

import asyncio
from typing import Any

import asyncpg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers
from support.triggers import Shop

#: Two tables that are alike, but that one has a child: its triggers fire for each row.
TABLES = """
    create table alone (id int primary key, a int, b text);
    create table parent (like alone including all);
    create table child () inherits (parent);
"""

#: Rows are found in the order in which they lie, in both tables.
IN_ORDER = ("set enable_indexscan = off", "set enable_bitmapscan = off")

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
    """Run statements on a table; the payloads in order, or the error, of each.

    A statement that inserts some rows and updates others fires for the ones and then for the others: their jobs are
    compared in any order, and of a key's only that there is one.
    """
    found: list[object] = []
    for statement in statements:
        try:
            await connection.execute(statement.format(t=table))
        except asyncpg.UniqueViolationError as error:
            found.append(type(error))
        rows = await connection.fetch("select payload::text from app_jobs.jobs order by id")
        payloads = [row["payload"] for row in rows]
        does_both = "update" in statement and "insert" in statement and {"INSERT", "UPDATE"} <= set(node.events)
        if does_both and node.job_key is not None:
            found.append(len(payloads))
            await connection.execute("delete from app_jobs.jobs")
        else:
            found.append(sorted(payloads) if does_both else payloads)
        await connection.execute("delete from app_jobs.jobs where key is null")
    await connection.execute("delete from app_jobs.jobs")
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(node=NODES, statements=st.lists(STATEMENTS, min_size=1, max_size=8))
async def test_it_means_the_same(shop: Shop, node: DataJobTrigger, statements: list[str]) -> None:
    """Any trigger, any statements: the same jobs in the same order, whichever way it fires."""
    await shop.run("drop table if exists alone, parent, child", TABLES, *IN_ORDER)
    plan = await apply_triggers(shop.connection, [TableTriggers(table, [node]) for table in ("alone", "parent")])
    assert [change.each_statement for change in plan.changes if change.after is not None] == [True, False]
    once_a_statement = await outcomes(shop.connection, "alone", node, statements)
    assert once_a_statement == await outcomes(shop.connection, "parent", node, statements)


async def test_a_plan_made_for_one_row_serves_many(shop: Shop) -> None:
    """After statements of one row, one of 20,000 takes no nested loop: that would be hundreds of millions of steps."""
    node = DataJobTrigger(
        task_identifier="t", events=("UPDATE",), watch_fields=("status",), payload_strategy="row", include_old=True
    )
    await shop.give("orders", node)
    await shop.run(
        "insert into orders (id, customer_id, total) select n, gen_random_uuid(), 1 from generate_series(1, 20000) n"
    )
    for number in range(1, 8):
        await shop.run(f"update orders set status = 'seen' where id = {number}")
    async with asyncio.timeout(30):
        await shop.run("update orders set total = 2", "update orders set status = 'paid'")
    assert await shop.connection.fetchval("select count(*) from app_jobs.jobs") == 20_007
