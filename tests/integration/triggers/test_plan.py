"""Plan, apply and drop triggers."""

import asyncio
import uuid

import pytest

from jobfn.database.migrate import migrate
from jobfn.errors import BlueprintError, DatabaseError, SchemaError
from jobfn.triggers import DataJobTrigger, Plan, TableTriggers, apply_triggers, drop_triggers, plan_triggers
from jobfn.triggers.plan import generate_sql
from support.fixtures import ConnectTo
from support.triggers import PLATFORM_SCHEMAS, Shop

ORDER = "insert into orders (id, customer_id, total) values ({}, gen_random_uuid(), 1)"
ONE = DataJobTrigger(task_identifier="one")
TWO = DataJobTrigger(task_identifier="two", events=("INSERT",))


def actions(plan: Plan) -> list[tuple[str, str]]:
    return [(change.action.value, change.task) for change in plan.changes]


async def tasks_after_an_order(shop: Shop) -> list[str]:
    """Insert an order and return the tasks that it enqueues."""
    await shop.execute("delete from orders", "delete from app_jobs.jobs", ORDER.format(1))
    tasks = sorted(job.task for job in await shop.jobs())
    await shop.delete_jobs()
    return tasks


async def test_apply_creates_keeps_changes_and_drops(shop: Shop) -> None:
    plan = await plan_triggers(shop.connection, [TableTriggers("orders", [ONE, TWO])])
    assert (actions(plan), await shop.owned_objects()) == ([("create", "one"), ("create", "two")], [])
    assert await shop.apply("orders", ONE, TWO) == plan
    assert await tasks_after_an_order(shop) == ["one", "two"]
    assert actions(await shop.apply("orders", ONE, TWO)) == [("keep", "one"), ("keep", "two")]

    changed = DataJobTrigger(task_identifier="one", priority=5)
    assert actions(await shop.apply("orders", changed)) == [("change", "one"), ("drop", "two")]
    assert not (await plan_triggers(shop.connection, [TableTriggers("orders", [changed])])).pending
    await shop.execute(ORDER.format(9))
    assert [(job.task, job.priority) for job in await shop.jobs()] == [("one", 5)]

    assert actions(await shop.apply("orders")) == [("drop", "one")]
    assert await shop.owned_objects() == []
    assert await tasks_after_an_order(shop) == []


async def test_changed_priority_replaces_only_the_function(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    plan = await shop.apply("orders", DataJobTrigger(task_identifier="one", priority=5))
    assert [statement.partition("(")[0].rpartition(" ")[0] for statement in plan.statements] == [
        "create or replace function"
    ]
    (change,) = plan.changes
    assert change.before == {"task_identifier": "one"}
    assert change.after == {"task_identifier": "one", "priority": 5}


async def test_removed_event_drops_its_trigger(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    await shop.apply("orders", DataJobTrigger(task_identifier="one", events=("INSERT",)))
    assert [name for name in await shop.owned_objects() if name.endswith("_update")] == []
    (change,) = (await shop.apply("orders", DataJobTrigger(task_identifier="one", events=("DELETE",)))).changes
    assert change.before == {"task_identifier": "one", "events": ["INSERT"]}
    await shop.execute(ORDER.format(1), "update orders set total = 2", "delete from orders")
    assert await shop.payloads() == [{"id": 1}]


async def test_one_table_can_have_several_triggers_of_a_task(shop: Shop) -> None:
    inserted = DataJobTrigger(task_identifier="t", events=("INSERT",), priority=1)
    deleted = DataJobTrigger(task_identifier="t", events=("DELETE",), priority=2)
    await shop.apply("orders", inserted, deleted, inserted)
    await shop.execute(ORDER.format(1), "delete from orders")
    assert sorted(job.priority for job in await shop.jobs()) == [1, 1, 2]
    assert actions(await shop.apply("orders", inserted, deleted, inserted)) == [("keep", "t")] * 3
    assert actions(await shop.apply("orders", inserted)) == [("keep", "t"), ("drop", "t"), ("drop", "t")]


async def test_apply_does_not_touch_other_tables(shop: Shop) -> None:
    await shop.execute("create schema other", "create table other.orders (like public.orders including all)")
    await shop.apply("orders", ONE)
    await shop.apply("orders", TWO, schema="other")
    assert actions(await shop.apply("contacts")) == []
    assert actions(await shop.apply("orders", schema="other")) == [("drop", "two")]
    assert await tasks_after_an_order(shop) == ["one"]


async def test_foreign_triggers_and_functions_are_never_touched(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    (function,) = await shop.connection.fetch(
        "select proname::text as name from pg_proc where proname like 'jobfn_one%'"
    )
    await shop.execute(
        "create function app_jobs.jobfn_foreign() returns trigger language plpgsql as $$ begin return null; end $$",
        "create trigger jobfn_foreign after insert on orders for each row execute function app_jobs.jobfn_foreign()",
        # the function of a foreign trigger is kept too
        "create trigger other after insert on orders referencing new table as jobfn_new_rows for each statement "
        f"execute function app_jobs.{function['name']}()",
    )
    await drop_triggers(shop.connection, None)
    assert await shop.owned_objects() == [function["name"]]
    assert await tasks_after_an_order(shop) == ["one"]
    remaining = await shop.connection.fetch(
        "select tgname::text from pg_trigger where tgrelid = 'orders'::regclass order by 1"
    )
    assert [row["tgname"] for row in remaining] == ["jobfn_foreign", "other"]

    await shop.execute("drop trigger other on orders")
    assert actions(await shop.apply("contacts")) == [("drop", "one")]  # unused now
    assert await shop.owned_objects() == []


@pytest.mark.parametrize("kind", ["function", "trigger"])
async def test_foreign_object_with_a_needed_name_is_an_error(shop: Shop, kind: str) -> None:
    nodes, _ = await generate_sql(shop.connection, [TableTriggers("orders", [ONE])])
    function, trigger = nodes[0].function.name, nodes[0].triggers[0].name
    body = "() returns trigger language plpgsql as $$ begin return null; end $$"
    await shop.execute(f"create function app_jobs.{function if kind == 'function' else 'other'}{body}")
    if kind == "trigger":
        await shop.execute(
            f"create trigger {trigger} before insert on orders for each row execute function app_jobs.other()"
        )
    with pytest.raises(
        BlueprintError, match=rf"{kind} .*{function}.* was not created by jobfn, but jobfn needs its name"
    ):
        await shop.apply("orders", ONE)
    assert await shop.owned_objects() == []


async def test_manual_changes_are_reverted(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    (function, _, _) = await shop.owned_objects()
    await shop.execute(f"drop trigger {function}_insert on orders")
    assert actions(await shop.apply("orders", ONE)) == [("change", "one")]
    await shop.execute(
        f"create or replace function app_jobs.{function}() returns trigger language plpgsql "
        "as $$ begin return null; end $$"
    )
    assert actions(await shop.apply("orders", ONE)) == [("change", "one")]
    assert await tasks_after_an_order(shop) == ["one"]


async def test_disabled_trigger_stays_disabled(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    (_, insert, _) = await shop.owned_objects()
    await shop.execute(f"alter table orders disable trigger {insert}")
    plan = await shop.apply("orders", ONE)
    assert plan.notices == (f"table public.orders: trigger {insert} is set to 'disable'",)
    assert not plan.pending
    await shop.execute("create table orders_archive () inherits (orders)")  # fires for each row now
    assert actions(await shop.apply("orders", ONE)) == [("change", "one")]
    assert await tasks_after_an_order(shop) == []
    await shop.execute(f"alter table orders enable trigger {insert}")
    assert await tasks_after_an_order(shop) == ["one"]


async def test_function_of_a_dropped_table_is_dropped_by_the_next_apply(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    await shop.execute("drop table orders")
    plan = await shop.apply("contacts")
    assert [(change.action.value, change.table, change.task) for change in plan.changes] == [("drop", None, "one")]
    assert await shop.owned_objects() == []


async def test_apply_with_another_jobs_schema_moves_the_triggers(shop: Shop) -> None:
    await shop.apply("orders", ONE)
    await migrate(shop.connection, "My Jobs")
    tables = [TableTriggers("orders", [ONE])]
    plan = await apply_triggers(shop.connection, tables, jobs_schema="My Jobs")
    assert actions(plan) == [("change", "one"), ("drop", "one")]
    assert not (await plan_triggers(shop.connection, tables, jobs_schema="My Jobs")).pending
    await shop.execute(ORDER.format(1))
    assert await shop.jobs() == []
    assert await shop.connection.fetchval('select count(*) from "My Jobs".jobs') == 1
    assert (
        await shop.connection.fetchval(
            "select count(*) from pg_proc where pronamespace = 'app_jobs'::regnamespace and proname like 'jobfn_%'"
        )
        == 0
    )


async def test_apply_is_atomic(shop: Shop) -> None:
    invalid = DataJobTrigger(task_identifier="two", watch_fields=("nothing",))
    tables = [TableTriggers("orders", [ONE]), TableTriggers("contacts", [invalid])]
    with pytest.raises(BlueprintError, match=r"table public\.contacts, DataJobTrigger two: watch_fields"):
        await apply_triggers(shop.connection, tables)
    assert await shop.owned_objects() == []


async def test_concurrent_applies_are_serialised(shop: Shop, database: str, connect_to: ConnectTo) -> None:
    connections = (shop.connection, await connect_to(database))
    tables = [TableTriggers("orders", [ONE, TWO])]
    plans = await asyncio.gather(*(apply_triggers(connection, tables) for connection in connections))
    assert sorted(len(plan.pending) for plan in plans) == [0, 2]


async def test_lock_timeout_is_reported(shop: Shop, database: str, connect_to: ConnectTo) -> None:
    other = await connect_to(database)
    async with other.transaction():
        await other.execute("lock table orders in share row exclusive mode")
        with pytest.raises(DatabaseError, match=r"held a lock for 0\.1 s.*Nothing was changed; try again"):
            await apply_triggers(shop.connection, [TableTriggers("orders", [ONE])], lock_timeout_seconds=0.1)
    assert await shop.owned_objects() == []


async def test_apply_keeps_the_callers_transaction_and_settings(shop: Shop) -> None:
    await shop.execute("set search_path = public, app_jobs")
    transaction = shop.connection.transaction()
    await transaction.start()
    await shop.apply("orders", ONE)
    assert await shop.connection.fetchval("show search_path") == "public, app_jobs"
    assert await tasks_after_an_order(shop) == ["one"]
    await transaction.rollback()
    assert await shop.owned_objects() == []


async def test_missing_privilege_is_reported(shop: Shop) -> None:
    role = f"jobfn_app_{uuid.uuid4().hex}"  # roles are shared by all databases of the server
    await shop.execute(f"create role {role}", f"set role {role}")
    try:
        with pytest.raises(DatabaseError, match=rf"role {role} lacks a privilege: permission denied .* tables' owner"):
            await shop.apply("orders", ONE)
    finally:
        await shop.execute("reset role", f"drop role {role}")


async def test_role_that_cannot_enqueue_is_rejected(shop: Shop) -> None:
    role = f"jobfn_app_{uuid.uuid4().hex}"
    await shop.execute(
        f"create role {role}", f"grant all on schema app_jobs to {role}", f"alter table orders owner to {role}"
    )
    try:
        for privilege in (
            "insert on app_jobs.jobs",
            "usage on sequence app_jobs.jobs_id_seq",
            "execute on function app_jobs.jwt_claim",
            "execute on function app_jobs.add_job(text, json, text, text, timestamptz, int, int, uuid, uuid, text)",
        ):
            await shop.execute(f"set role {role}")
            with pytest.raises(DatabaseError, match=f"role {role} must be allowed to enqueue into schema app_jobs"):
                await shop.apply("orders", ONE)
            await shop.execute("reset role", f"grant {privilege} to {role}")
        await shop.execute(f"set role {role}")
        await shop.apply("orders", ONE, DataJobTrigger(task_identifier="keyed", job_key="k"))
        await shop.execute(ORDER.format(1), "reset role")
        assert await shop.payloads() == [{"id": 1}, {"id": 1}]
    finally:
        await shop.execute("reset role", f"drop owned by {role} cascade", f"drop role {role}")


@pytest.mark.parametrize("preparation", ["", "create schema app_jobs; create table app_jobs.jobs (id int)"])
async def test_missing_jobs_schema_is_reported(empty_database: str, connect_to: ConnectTo, preparation: str) -> None:
    connection = await connect_to(empty_database)
    await connection.execute(f"create table t (id int primary key); {preparation}")
    with pytest.raises(SchemaError, match="run `jobfn db migrate`"):
        await plan_triggers(connection, [TableTriggers("t", [ONE])])


async def test_triggers_move_from_a_platform_schema_to_jobfns(empty_database: str, connect_to: ConnectTo) -> None:
    connection = await connect_to(empty_database)
    await connection.execute("create table t (id int primary key)")
    await connection.execute(PLATFORM_SCHEMAS["identifier"])
    await migrate(connection, "jobs")
    tables = [TableTriggers("t", [ONE])]
    await apply_triggers(connection, tables)
    plan = await apply_triggers(connection, tables, jobs_schema="jobs")
    assert [change.each_statement for change in plan.changes if change.after is not None] == [True]
    await connection.execute("insert into t values (1)")
    assert await connection.fetchval("select count(*) from jobs.jobs") == 1
    assert await connection.fetchval("select count(*) from app_jobs.jobs") == 0
