"""Triggers that do not fit their table: one line that names table, node and parameter, and nothing applied."""

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
    create view seen as select * from typed;
    create materialized view kept as select * from typed;
"""


def node(**parameters: Any) -> DataJobTrigger:
    return DataJobTrigger(task_identifier="do it", **parameters)


def condition(field: str, op: str, **more: Any) -> DataJobTrigger:
    return node(events=("UPDATE",), conditions=({"field": field, "op": op, **more},))


@pytest.mark.parametrize(
    ("table", "trigger", "problem"),
    [
        (
            "no_key",
            node(),
            "payload_strategy: row_id sends the primary key, and the table has none; choose fields or row",
        ),
        (
            "two_keys",
            node(),
            "payload_strategy: row_id sends the primary key, and the table's has several columns (a, b)",
        ),
        ("empty", node(), "the table has no columns"),
        ("metered", node(payload_strategy="row", include_meta=True), "include_meta: the table has a column _meta"),
        (
            "typed",
            node(payload_strategy="fields", payload_fields=("id", "amuont")),
            "payload_fields: the table has no column amuont (nearest: amount)",
        ),
        (
            "typed",
            node(payload_strategy="custom", payload_custom={"k": "zzz"}),
            "payload_custom: the table has no column zzz",
        ),
        ("typed", node(watch_fields=("Amount",)), "watch_fields: the table has no column Amount (nearest: amount)"),
        (
            "typed",
            node(condition_field="opn", condition_value=True),
            "condition_field: the table has no column opn (nearest: open)",
        ),
        ("typed", condition("tag", "IS NULL"), "conditions: the table has no column tag (nearest: tags)"),
        (
            "typed",
            condition("amount", "=", ref={"field": "amout"}),
            "conditions: the table has no column amout (nearest: amount)",
        ),
        ("typed", node(condition_field="amount", condition_value="much"), "condition_value: amount = 'much': "),
        ("typed", node(condition_field="small", condition_value=40000), "condition_value: small = '40000': "),
        ("typed", node(condition_field="open", condition_value="maybe"), "condition_value: open = 'maybe': "),
        ("typed", condition("at", ">", value="soon"), "conditions: at > 'soon': "),
        ("typed", condition("doc", "=", value="{}"), "conditions: doc = '{}': operator does not exist: json = json"),
        ("typed", condition("amount", "LIKE", value="1%"), "conditions: amount LIKE '1%': operator does not exist"),
        (
            "typed",
            condition("amount", "<", ref={"field": "name"}),
            "conditions: amount < name: operator does not exist",
        ),
        ("typed", node(run_at_delay="soon"), "run_at_delay: 'soon' is no interval of PostgreSQL's"),
        ("typed", node(run_at_delay="-5 minutes"), "run_at_delay: '-5 minutes' is no delay"),
        ("typed", node(run_at_delay="1001 years"), "run_at_delay: '1001 years' is no delay"),
        ("typed", node(run_at_delay="9999999999 years"), "run_at_delay: '9999999999 years' is no interval"),
        ("typed", node(run_at_delay="infinity"), "run_at_delay: 'infinity' is no"),
    ],
)
async def test_a_trigger_that_does_not_fit_is_refused(
    shop: Shop, table: str, trigger: DataJobTrigger, problem: str
) -> None:
    """Plan and apply say the same, and afterwards nothing is there."""
    await shop.run(TABLES)
    tables = [TableTriggers("typed", [node()]), TableTriggers(table, [trigger])][table == "typed" :]
    for ask in (plan_triggers, apply_triggers):
        with pytest.raises(BlueprintError) as refused:
            await ask(shop.connection, tables)
        message = str(refused.value)
        assert message.startswith(f"table public.{table}, DataJobTrigger do it: {problem}")
        assert "\n" not in message
    assert await shop.marked() == []


@pytest.mark.parametrize(
    ("schema", "table", "problem"),
    [
        ("public", "typd", "table public.typd does not exist (nearest: typed)"),
        ("nowhere", "typed", "table nowhere.typed does not exist"),
        ("public", "seen", "public.seen is no table, so its rows have no triggers"),
        ("public", "kept", "public.kept is no table"),
        ("public", "typed_pkey", "public.typed_pkey is no table"),
        ("app_jobs", "jobs", "table app_jobs.jobs belongs to the jobs themselves"),
        ("app_jobs", "job_queues", "app_jobs.job_queues is no table"),
    ],
)
async def test_what_can_have_no_triggers_is_refused(shop: Shop, schema: str, table: str, problem: str) -> None:
    """A table that is not there, what is no table, and the jobs themselves."""
    await shop.run(TABLES)
    with pytest.raises(BlueprintError) as refused:
        await shop.give(table, node(), schema=schema)
    assert str(refused.value).startswith(problem)
    with pytest.raises(BlueprintError):
        await drop_triggers(shop.connection, [(schema, table)])


async def test_a_table_named_twice_is_refused(shop: Shop) -> None:
    """Otherwise the second would take the first one's triggers away."""
    tables = [TableTriggers("orders", [node()]), TableTriggers("orders", [])]
    with pytest.raises(BlueprintError, match=r"table public\.orders is named twice"):
        await apply_triggers(shop.connection, tables)


@pytest.mark.parametrize(
    "trigger",
    [
        condition("amount", ">=", value=10),
        condition("amount", "!=", value="1e3"),
        condition("at", "<", value="2030-01-31T09:00+01:00"),
        condition("at", ">", value="infinity"),
        condition("open", "=", value=False),
        condition("tags", "=", value="{a,b}"),
        condition("name", "NOT LIKE", value="100\\%"),
        condition("name", "LIKE", ref={"field": "name", "row": "OLD"}),
        condition("doc", "IS DISTINCT FROM"),
        condition("doc", "IS DISTINCT FROM", value="{}"),
        condition("doc", "IS NOT NULL"),
        condition("amount", "IS DISTINCT FROM", value=None),
        condition("small", "<", ref={"field": "amount"}),
        node(run_at_delay="P1DT2H"),
        node(run_at_delay="0"),
        node(run_at_delay="1 day 2:30"),
    ],
    ids=repr,
)
async def test_what_fits_is_applied_and_fails_no_write(shop: Shop, trigger: DataJobTrigger) -> None:
    """Every operator, value and interval that PostgreSQL understands."""
    await shop.run(TABLES)
    await shop.give("typed", trigger)
    await shop.run(
        "insert into typed (id) values (1)",
        """
        update typed set amount = 12, at = 'infinity', open = false, doc = '{}', tags = '{a,b}', small = 1, name = '\\'
        """,
        "update typed set amount = null, at = null, open = null, doc = null, tags = null, small = null, name = null",
    )
    await shop.jobs()


async def test_a_key_of_several_columns_has_an_id_where_one_is_called_so(shop: Shop) -> None:
    """As the partitioned tables' have, whose key holds what they are divided by."""
    await shop.run(TABLES)
    await shop.give("dated", node())
    await shop.run("insert into dated values (7, '2030-01-31')")
    assert await shop.payloads() == [{"id": 7}]


async def test_virtual_columns_are_not_sent_as_something_they_are_not(shop: Shop) -> None:
    """Triggers do not see their values: naming one is an error; in a whole row it is null, and a notice says so."""
    if shop.connection.get_server_version().major < 18:
        await shop.run("create table made (id int primary key, double int generated always as (id * 2) stored)")
        await shop.give("made", node(payload_strategy="fields", payload_fields=("double",)))
        return
    await shop.run("create table made (id int primary key, double int generated always as (id * 2) virtual)")
    with pytest.raises(BlueprintError, match="watch_fields: double is a virtual generated column"):
        await shop.give("made", node(watch_fields=("double",)))
    plan = await shop.give("made", node(payload_strategy="row"))
    (notice,) = plan.notices
    assert notice.endswith("double is a virtual generated column: triggers do not see its value and send null")
    await shop.run("insert into made values (1)")
    assert await shop.payloads() == [{"id": 1, "double": None}]
