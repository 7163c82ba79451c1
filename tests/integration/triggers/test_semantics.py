"""Triggers enqueue one job per changed row, in order and in the same transaction, whatever the statement."""

import json
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from jobfn.triggers import DataJobTrigger
from support.fixtures import ConnectTo
from support.jobs import TENANT
from support.triggers import Shop

ACTOR = "0d1b1a0e-9c1c-4a7e-8a36-0c3f3f1b2a11"
ORDERS = "insert into orders (id, customer_id, total) select n, gen_random_uuid(), n from generate_series({}, {}) n"
WHOLE_ROW = DataJobTrigger(task_identifier="t", payload_strategy="row", events=("INSERT", "UPDATE", "DELETE"))
CHANGED_ID = DataJobTrigger(
    task_identifier="t",
    payload_strategy="custom",
    payload_custom={"id": "id"},
    events=("UPDATE",),
    watch_fields=("id",),
    include_old=True,
)


async def test_rollback_discards_the_jobs(shop: Shop) -> None:
    await shop.apply("orders", DataJobTrigger(task_identifier="t"))
    await shop.execute("begin", ORDERS.format(1, 2), "savepoint s", ORDERS.format(3, 4), "rollback to s", "commit")
    await shop.execute("begin", ORDERS.format(5, 6), "rollback")
    assert await shop.payloads() == [{"id": 1}, {"id": 2}]


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("is_row_level", [True, False])
async def test_tenant_and_actor_are_read_from_the_session(shop: Shop, key: str | None, *, is_row_level: bool) -> None:
    if is_row_level:
        await shop.execute("create table orders_archive () inherits (orders)")
    await shop.apply("orders", DataJobTrigger(task_identifier="t", job_key=key))
    for tenant, actor, expected in (
        (None, None, (None, None)),
        (TENANT, ACTOR, (TENANT, ACTOR)),
        (TENANT, "", (TENANT, None)),
        ("", None, (None, None)),
        ("no uuid", "'; drop table jobs", (None, None)),
    ):
        for name, value in (("database_id", tenant), ("user_id", actor)):
            if value is not None:
                await shop.connection.execute("select set_config($1, $2, false)", f"jwt.claims.{name}", value)
        await shop.execute("delete from orders", ORDERS.format(1, 1))
        row = await shop.connection.fetchrow("select database_id::text, actor_id::text from app_jobs.jobs")
        assert row is not None
        assert tuple(row) == expected
        await shop.delete_jobs()


@pytest.mark.parametrize("tenant", [None, "", "no uuid"])
async def test_missing_tenant_on_a_platform_schema_does_not_fail_the_write(
    platform_shop: Shop, tenant: str | None
) -> None:
    is_required = await platform_shop.connection.fetchval(
        "select attnotnull from pg_attribute where attrelid = 'app_jobs.jobs'::regclass and attname = 'database_id'"
    )
    if tenant == "no uuid" and not is_required:
        tenant = ""  # this schema's add_job rejects it
    await platform_shop.apply("orders", DataJobTrigger(task_identifier="t"))
    if tenant is not None:
        await platform_shop.connection.execute("select set_config('jwt.claims.database_id', $1, false)", tenant)
    await platform_shop.execute(ORDERS.format(1, 1))
    database_id = await platform_shop.connection.fetchval("select database_id::text from app_jobs.jobs")
    assert database_id == ("00000000-0000-0000-0000-000000000000" if is_required else None)


async def test_writer_needs_no_privileges_on_the_jobs_schema(shop: Shop) -> None:
    await shop.apply("orders", DataJobTrigger(task_identifier="t"))
    (function, *_) = await shop.owned_objects()
    role = f"jobfn_writer_{await shop.connection.fetchval('select pg_backend_pid()')}"
    await shop.execute(
        f"create role {role}", f"grant insert on orders to {role}", f"grant create on schema public to {role}"
    )
    try:
        await shop.execute(f"set role {role}", ORDERS.format(1, 1))
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shop.execute("select count(*) from app_jobs.jobs")
        await shop.execute("create table own_table (id int)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await shop.execute(
                "create trigger forged after insert on own_table referencing new table as jobfn_new_rows "
                f"for each statement execute function app_jobs.{function}()"
            )
    finally:
        await shop.execute("reset role", f"drop owned by {role}", f"drop role {role}")
    assert await shop.payloads() == [{"id": 1}]


async def test_payload_keeps_json_types_and_digits(shop: Shop) -> None:
    await shop.execute(
        "create type mood as enum ('sad', 'glad'); create type place as (x int, y text); create domain tiny as int",
        """create table things (
            id bigint primary key, n numeric, f float8, b bool, t text, e mood, c place, d tiny, a int[], aa text[][],
            j json, jb jsonb, u uuid, ts timestamp, i interval, r int4range, by bytea, o text
        )""",
    )
    await shop.apply("things", WHOLE_ROW)
    await shop.execute(
        """insert into things values (
            9007199254740993, 1.50, 0.1, true, E'"\\\\\\u00e4\\n', 'glad', (1, 'a'), 7, '{1,null}', '{{a},{b}}',
            '{"b": 1,  "b": 2, "a": "\\u0000"}', '{"b": [1.50]}', '5b720132-17d5-424d-9bcb-ee7b17c13d43',
            '2030-01-31 09:00', '1 day', '[1,3)', '\\x00ff', null
        )"""
    )
    text: str = await shop.connection.fetchval("select payload::text from app_jobs.jobs")
    assert text.startswith('{"id":9007199254740993,"n":1.50,"f":0.1,"b":true,')
    assert '"j":{"b": 1,  "b": 2, "a": "\\u0000"}' in text
    assert json.loads(text) | {"j": None} == {
        "id": 9007199254740993,
        "n": 1.5,
        "f": 0.1,
        "b": True,
        "t": '"\\ä\n',
        "e": "glad",
        "c": {"x": 1, "y": "a"},
        "d": 7,
        "a": [1, None],
        "aa": [["a"], ["b"]],
        "j": None,
        "jb": {"b": [1.5]},
        "u": TENANT,
        "ts": "2030-01-31T09:00:00",
        "i": "1 day",
        "r": "[1,3)",
        "by": "\\x00ff",
        "o": None,
    }


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("json", ["'{}'", "'[]'", "null"]),
        ("json[]", ["array['1'::json]", "array['2'::json]", "null"]),
        ("jsonb", ["'{\"a\": 1}'", "'{}'", "null"]),
        ("box", ["'(1,1),(0,0)'", "'(2,2),(1,1)'", "null"]),  # = compares their areas
        ("holder", ["row('1')", "row('2')", "null"]),
        ("text", ["'a'", "'A'", "''", "null"]),
        ("float8", ["'NaN'", "0", "null"]),
    ],
)
async def test_watch_fields_detects_every_change_of_any_type(shop: Shop, kind: str, values: Sequence[str]) -> None:
    await shop.execute(
        "create type holder as (content json)", f"create table things (id int primary key, v {kind}, w int)"
    )
    await shop.apply("things", DataJobTrigger(task_identifier="t", events=("UPDATE",), watch_fields=("v",)))
    await shop.execute("insert into things values (1, null)")
    for value in values:
        await shop.execute(f"update things set v = {value}", "update things set v = v", "update things set w = 1")
    assert len(await shop.payloads()) == len(values)


async def test_custom_type_is_compared_with_its_own_operators(shop: Shop) -> None:
    await shop.execute(
        """
        create schema hidden;
        create type hidden.ci;
        create function hidden.ci_in(cstring) returns hidden.ci language internal immutable strict as 'textin';
        create function hidden.ci_out(hidden.ci) returns cstring language internal immutable strict as 'textout';
        create type hidden.ci (input = hidden.ci_in, output = hidden.ci_out, like = text, collatable = true);
        create cast (hidden.ci as text) without function as implicit;
        create function hidden.eq(hidden.ci, hidden.ci) returns bool language sql immutable
            as $$ select lower($1::text) = lower($2::text) $$;
        create function hidden.lt(hidden.ci, hidden.ci) returns bool language sql immutable
            as $$ select lower($1::text) < lower($2::text) $$;
        create function hidden.cmp(hidden.ci, hidden.ci) returns int language sql immutable
            as $$ select bttextcmp(lower($1::text), lower($2::text)) $$;
        create function hidden.matches(hidden.ci, hidden.ci) returns bool language sql immutable
            as $$ select lower($1::text) like lower($2::text) $$;
        create operator hidden.= (function = hidden.eq, leftarg = hidden.ci, rightarg = hidden.ci);
        create operator hidden.< (function = hidden.lt, leftarg = hidden.ci, rightarg = hidden.ci);
        create operator hidden.~~ (function = hidden.matches, leftarg = hidden.ci, rightarg = hidden.ci);
        create operator class hidden.ci_ops default for type hidden.ci using btree
            as operator 1 hidden.<, operator 3 hidden.=, function 1 hidden.cmp(hidden.ci, hidden.ci);
        create table people (id int primary key, email hidden.ci);
        """
    )

    def conditions(*parts: dict[str, object]) -> Any:
        return [{"field": "email", **part} for part in parts]

    await shop.apply(
        "people",
        DataJobTrigger(task_identifier="watch", watch_fields=("email",), events=("UPDATE",)),
        DataJobTrigger(task_identifier="is", condition_field="email", condition_value="ADA@x", events=("INSERT",)),
        DataJobTrigger(
            task_identifier="like", conditions=conditions({"op": "LIKE", "value": "%@X"}), events=("INSERT",)
        ),
        DataJobTrigger(
            task_identifier="other",
            conditions=conditions({"op": "IS DISTINCT FROM", "value": "ada@x"}, {"op": "<", "value": "BYRON"}),
            events=("INSERT",),
        ),
    )
    await shop.execute("insert into people values (1, 'ada@x'), (2, 'Abe@y'), (3, null)")
    assert sorted((job.task, job.payload["id"]) for job in await shop.jobs()) == [("is", 1), ("like", 1), ("other", 2)]
    await shop.delete_jobs()
    await shop.execute("update people set email = upper(email::text)::hidden.ci", "update people set email = 'x'")
    assert await shop.payloads() == [{"id": 1}, {"id": 2}, {"id": 3}]


async def test_old_and_new_rows_are_paired_when_the_key_changes(shop: Shop) -> None:
    await shop.execute("alter table orders drop constraint orders_pkey")
    await shop.execute("alter table orders add primary key (id) deferrable initially deferred", ORDERS.format(1, 100))
    await shop.apply("orders", CHANGED_ID)
    await shop.execute("update orders set id = 101 - id")
    pairs = [(payload["old"]["id"], payload["id"]) for payload in await shop.payloads()]
    assert pairs == [(number, 101 - number) for number in range(1, 101)]
    assert all(payload["old"]["total"] == payload["old"]["id"] for payload in await shop.payloads())


async def test_upsert_and_merge_enqueue_by_row_action(shop: Shop) -> None:
    meta = DataJobTrigger(task_identifier="t", include_meta=True, events=("INSERT", "UPDATE", "DELETE"))
    await shop.execute(ORDERS.format(1, 2))
    await shop.apply("orders", meta)

    async def events() -> list[tuple[str, int]]:
        pairs = sorted((payload["_meta"]["event"], payload["id"]) for payload in await shop.payloads())
        await shop.delete_jobs()
        return pairs

    await shop.execute(f"{ORDERS.format(2, 3)} on conflict (id) do update set total = 0")
    assert await events() == [("INSERT", 3), ("UPDATE", 2)]
    await shop.execute(f"{ORDERS.format(3, 4)} on conflict (id) do nothing")
    assert await events() == [("INSERT", 4)]
    if shop.connection.get_server_version().major < 15:
        return  # it has no MERGE
    await shop.execute(
        """
        merge into orders o using generate_series(1, 6) n on o.id = n
        when matched and n = 1 then delete
        when matched and n = 2 then update set total = 9
        when matched then do nothing
        when not matched and n = 5 then do nothing
        when not matched then insert (id, customer_id, total) values (n, gen_random_uuid(), 1)
        """
    )
    assert await events() == [("DELETE", 1), ("INSERT", 6), ("UPDATE", 2)]


async def test_copy_enqueues_one_job_per_row_in_order(shop: Shop) -> None:
    await shop.apply("page_views", DataJobTrigger(task_identifier="t", events=("INSERT",)))
    await shop.connection.copy_records_to_table("page_views", records=[(number, "/") for number in range(3)])
    assert await shop.payloads() == [{"id": 0}, {"id": 1}, {"id": 2}]


async def test_foreign_key_cascades_enqueue(shop: Shop) -> None:
    await shop.execute(
        """create table lines (
            id int primary key, order_id bigint references orders on delete cascade on update cascade
        )""",
        ORDERS.format(1, 3),
        "insert into lines select n, (n + 1) / 2 from generate_series(1, 6) n",
    )
    await shop.apply(
        "lines", DataJobTrigger(task_identifier="t", watch_fields=("order_id",), events=("UPDATE", "DELETE"))
    )
    await shop.execute("update orders set id = 10 where id = 1", "delete from orders where id in (2, 3)")
    assert sorted(payload["id"] for payload in await shop.payloads()) == [1, 2, 3, 4, 5, 6]


async def test_payload_is_the_row_after_before_triggers(shop: Shop) -> None:
    await shop.execute(
        """create function tidy() returns trigger language plpgsql as $$ begin
            if new.total < 0 then return null; end if; new.status := upper(new.status); return new; end $$""",
        "create trigger tidy before insert or update on orders for each row execute function tidy()",
    )
    node = DataJobTrigger(
        task_identifier="t", payload_strategy="fields", payload_fields=("id", "status"), watch_fields=("status",)
    )
    await shop.apply("orders", node)
    await shop.execute(ORDERS.format(-1, 2), "update orders set status = 'new'", "update orders set status = 'paid'")
    assert await shop.payloads() == [
        *({"id": number, "status": "NEW"} for number in (0, 1, 2)),
        *({"id": number, "status": "PAID"} for number in (0, 1, 2)),
    ]


async def test_job_key_keeps_one_waiting_job_of_the_last_row(shop: Shop) -> None:
    await shop.apply("orders", DataJobTrigger(task_identifier="t", job_key="k", queue_name="q"))
    await shop.execute(ORDERS.format(1, 50), "update orders set total = 0 where id < 40")
    (waiting,) = await shop.jobs()
    assert (waiting.payload, waiting.key, waiting.queue) == ({"id": 39}, "k", "q")
    await shop.execute("update app_jobs.jobs set locked_at = now(), locked_by = 'somebody', attempts = 1")
    await shop.execute(ORDERS.format(51, 60))
    running, following = await shop.jobs()
    assert (running.key, running.payload) == (None, {"id": 39})
    assert (following.key, following.payload) == ("k", {"id": 60})


async def test_statement_without_matching_rows_sends_no_notification(
    shop: Shop, database: str, connect_to: ConnectTo
) -> None:
    await shop.apply("orders", DataJobTrigger(task_identifier="t", watch_fields=("status",)))
    await shop.execute(ORDERS.format(1, 3))
    notifications: list[object] = []
    listener = await connect_to(database)
    await listener.add_listener("jobs:insert", lambda *call: notifications.append(call))
    await shop.execute(
        "update orders set total = 5", "delete from orders where false", "update orders set id = 1 where false"
    )
    await shop.execute("insert into orders select * from orders where false", "notify \"jobs:insert\", 'the end'")
    while not notifications:
        await listener.execute("select 1")
    assert [call[-1] for call in notifications if isinstance(call, tuple)] == ["the end"]


@pytest.mark.parametrize("family", ["partitioned", "inherited"])
async def test_partitions_and_child_tables_enqueue(shop: Shop, family: str) -> None:
    if family == "partitioned":
        await shop.execute(
            "create table logs (id int, at int, note text, primary key (id, at)) partition by range (at)",
            "create table logs_1 partition of logs for values from (0) to (10)",
            "create table logs_2 partition of logs for values from (10) to (20)",
        )
    else:
        await shop.execute(
            "create table logs (id int primary key, at int, note text)", "create table logs_1 () inherits (logs)"
        )
    await shop.apply("logs", DataJobTrigger(task_identifier="t", include_meta=True, watch_fields=("note",)))
    await shop.execute("insert into logs values (1, 5), (2, 15)", "update logs set note = 'x' where id = 1")
    events = [
        (payload["id"], payload["_meta"]["table"], payload["_meta"]["event"]) for payload in await shop.payloads()
    ]
    assert events == [(1, "logs", "INSERT"), (2, "logs", "INSERT"), (1, "logs", "UPDATE")]
    if family == "partitioned":
        await shop.delete_jobs()
        await shop.execute("insert into logs_2 values (3, 15)", "update logs set at = 15 where id = 1")
        assert (3, "INSERT") in [(payload["id"], payload["_meta"]["event"]) for payload in await shop.payloads()]


async def test_payload_of_120_fields(shop: Shop) -> None:
    names = [f"c{number}" for number in range(120)]
    await shop.execute(f"create table wide (id int primary key, {', '.join(f'{name} jsonb' for name in names)})")
    await shop.apply(
        "wide",
        DataJobTrigger(task_identifier="t", payload_strategy="fields", payload_fields=tuple(names), include_meta=True),
    )
    await shop.execute(
        """insert into wide (id, c0, c49, c50, c119) values (1, '{"a": {}}', '"}"', '"{"', '{"z": [{}]}')"""
    )
    expected = dict.fromkeys(names) | {"c0": {"a": {}}, "c49": "}", "c50": "{", "c119": {"z": [{}]}}
    (payload,) = await shop.payloads()
    assert list(payload) == [*names, "_meta"]
    assert payload == expected | {"_meta": {"schema": "public", "table": "wide", "event": "INSERT"}}


async def test_added_and_dropped_columns_change_the_payload(shop: Shop) -> None:
    await shop.apply("page_views", WHOLE_ROW)
    await shop.execute(
        "insert into page_views values (1, '/')",
        "alter table page_views add column referrer text default 'here'",
        "insert into page_views values (2, '/')",
        "alter table page_views drop column path",
        "update page_views set referrer = 'there' where id = 1",
    )
    assert await shop.payloads() == [
        {"id": 1, "path": "/"},
        {"id": 2, "path": "/", "referrer": "here"},
        {"id": 1, "referrer": "there"},
    ]


async def test_column_names_do_not_clash_with_generated_names(shop: Shop) -> None:
    names = ["jobfn_new", "jobfn_old", "jobfn_n", "jobfn_row", "new", "old", "tg_op", "jobfn_new_rows", "payload"]
    await shop.execute(f"create table odd (id int primary key, {', '.join(f'{name} int' for name in names)})")
    node = DataJobTrigger(
        task_identifier="t", payload_strategy="row", include_old=True, watch_fields=tuple(names), events=("UPDATE",)
    )
    await shop.apply("odd", node, WHOLE_ROW.model_copy(update={"job_key": "k", "include_meta": True}))
    await shop.execute("insert into odd (id) values (1)", "update odd set jobfn_n = 7")
    expected = {"id": 1, **dict.fromkeys(names), "jobfn_n": 7}
    jobs = {job.key: job.payload for job in await shop.jobs()}
    assert jobs[None] == {"new": expected, "old": expected | {"jobfn_n": None}}
    assert jobs["k"] == expected | {"_meta": {"schema": "public", "table": "odd", "event": "UPDATE"}}
