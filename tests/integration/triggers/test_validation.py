"""Validation of triggers against their table."""

from typing import Any

import pytest

from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers, drop_triggers, plan_triggers
from support.triggers import Shop

TABLES = """
    create table no_key (name text, amount numeric);
    create table two_keys (a int, b int, primary key (a, b));
    create table dated (id int, at date, primary key (at, id));
    create table metered (id int primary key, _meta text);
    create table empty ();
    create table typed (
        id int primary key, amount numeric, at timestamptz, open bool, doc json, tags text[], small smallint, name text
    );
    create view a_view as select * from typed;
"""


def node(**parameters: Any) -> DataJobTrigger:
    return DataJobTrigger(task_identifier="do it", **parameters)


def condition(field: str, op: str, **more: Any) -> DataJobTrigger:
    return node(events=("UPDATE",), conditions=({"field": field, "op": op, **more},))


@pytest.mark.parametrize(
    ("table", "trigger", "problem"),
    [
        ("no_key", node(), "payload_strategy: row_id sends the primary key, but the table has none"),
        ("two_keys", node(), "payload_strategy: row_id sends the primary key, but it has several"),
        ("empty", node(), "the table has no columns"),
        ("metered", node(payload_strategy="row", include_meta=True), "include_meta: the table has a column _meta"),
        (
            "typed",
            node(payload_strategy="fields", payload_fields=("id", "amuont")),
            "payload_fields: the table has no column amuont",
        ),
        (
            "typed",
            node(payload_strategy="custom", payload_custom={"k": "zzz"}),
            "payload_custom: the table has no column zzz",
        ),
        ("typed", node(watch_fields=("Amount",)), "watch_fields: the table has no column Amount (nearest: amount)"),
        ("typed", node(condition_field="opn", condition_value=True), "condition_field: the table has no column opn"),
        ("typed", condition("amount", "=", ref={"field": "amout"}), "conditions: the table has no column amout"),
        ("typed", node(condition_field="amount", condition_value="much"), "condition_value: amount = 'much': "),
        ("typed", node(condition_field="open", condition_value="maybe"), "condition_value: open = 'maybe': "),
        ("typed", condition("amount", "LIKE", value="1%"), "conditions: amount LIKE '1%': operator does not exist"),
        ("typed", condition("doc", "=", value="{}"), "conditions: doc = '{}': operator does not exist: json = json"),
        ("typed", condition("amount", "<", ref={"field": "name"}), "conditions: amount < name: operator"),
        ("typed", node(run_at_delay="soon"), "run_at_delay: 'soon' is not a PostgreSQL interval"),
        ("typed", node(run_at_delay="-5 minutes"), "run_at_delay: '-5 minutes' must be between 0 and 1000 years"),
        ("typed", node(run_at_delay="infinity"), "run_at_delay: 'infinity' "),
        ("typed", node(unique_for="2 years"), "unique_for: '2 years' must be between 1 millisecond and 366 days"),
        (
            "typed",
            node(job_key="k", run_at_delay="1 minute", max_delay="0"),
            "max_delay: '0' must be between 1 second and 1000 years",
        ),
    ],
)
async def test_invalid_trigger_is_rejected_and_nothing_created(
    shop: Shop, table: str, trigger: DataJobTrigger, problem: str
) -> None:
    await shop.execute(TABLES)
    tables = [TableTriggers("typed", [node()]), TableTriggers(table, [trigger])][table == "typed" :]
    for operation in (plan_triggers, apply_triggers):
        with pytest.raises(BlueprintError) as raised:
            await operation(shop.connection, tables)
        message = str(raised.value)
        assert message.startswith(f"table public.{table}, DataJobTrigger do it: {problem}")
        assert "\n" not in message
    assert await shop.owned_objects() == []


@pytest.mark.parametrize(
    ("schema", "table", "problem"),
    [
        ("public", "typd", "table public.typd does not exist (nearest: typed)"),
        ("public", "a_view", "public.a_view is not a table: only tables have row triggers"),
        ("public", "typed_pkey", "public.typed_pkey is not a table"),
        ("app_jobs", "jobs", "table app_jobs.jobs is in the jobs schema"),
        ("app_jobs", "job_queues", "app_jobs.job_queues is not a table"),
    ],
)
async def test_relation_that_cannot_have_triggers_is_rejected(
    shop: Shop, schema: str, table: str, problem: str
) -> None:
    await shop.execute(TABLES)
    with pytest.raises(BlueprintError) as raised:
        await shop.apply(table, node(), schema=schema)
    assert str(raised.value).startswith(problem)
    with pytest.raises(BlueprintError):
        await drop_triggers(shop.connection, [(schema, table)])


async def test_duplicate_table_is_rejected(shop: Shop) -> None:
    tables = [TableTriggers("orders", [node()]), TableTriggers("orders", [])]
    with pytest.raises(BlueprintError, match=r"table public\.orders occurs twice"):
        await apply_triggers(shop.connection, tables)


@pytest.mark.parametrize(
    "trigger",
    [
        condition("amount", ">=", value=10),
        condition("amount", "!=", value="1e3"),
        condition("at", ">", value="infinity"),
        condition("tags", "=", value="{a,b}"),
        condition("name", "NOT LIKE", value="100\\%"),
        condition("name", "LIKE", ref={"field": "name", "row": "OLD"}),
        condition("doc", "IS DISTINCT FROM"),
        condition("doc", "IS DISTINCT FROM", value="{}"),
        condition("amount", "IS DISTINCT FROM", value=None),
        condition("small", "<", ref={"field": "amount"}),
        node(run_at_delay="P1DT2H"),
        node(run_at_delay="1 day 2:30"),
    ],
    ids=repr,
)
async def test_valid_trigger_is_applied_and_does_not_fail_writes(shop: Shop, trigger: DataJobTrigger) -> None:
    await shop.execute(TABLES)
    await shop.apply("typed", trigger)
    await shop.execute(
        "insert into typed (id) values (1)",
        """
        update typed set amount = 12, at = 'infinity', open = false, doc = '{}', tags = '{a,b}', small = 1, name = '\\'
        """,
        "update typed set amount = null, at = null, open = null, doc = null, tags = null, small = null, name = null",
    )
    await shop.jobs()


async def test_row_id_of_a_composite_key_is_its_id_column(shop: Shop) -> None:
    await shop.execute(TABLES)
    await shop.apply("dated", node())
    await shop.execute("insert into dated values (7, '2030-01-31')")
    assert await shop.payloads() == [{"id": 7}]


async def test_virtual_columns_are_rejected_or_sent_as_null(shop: Shop) -> None:
    if shop.connection.get_server_version().major < 18:
        await shop.execute("create table doubled (id int primary key, double int generated always as (id * 2) stored)")
        await shop.apply("doubled", node(payload_strategy="fields", payload_fields=("double",)))
        return
    await shop.execute("create table doubled (id int primary key, double int generated always as (id * 2) virtual)")
    with pytest.raises(BlueprintError, match="watch_fields: double is a virtual generated column"):
        await shop.apply("doubled", node(watch_fields=("double",)))
    plan = await shop.apply("doubled", node(payload_strategy="row"))
    (notice,) = plan.notices
    assert notice.endswith("double is a virtual generated column: triggers cannot read it and send null")
    await shop.execute("insert into doubled values (1)")
    assert await shop.payloads() == [{"id": 1, "double": None}]
