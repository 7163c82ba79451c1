"""Plan, apply, drop: what is compared, what is changed, and whose things are left alone."""

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.errors import BlueprintError, DatabaseError, SchemaError
from jobfn.triggers import DataJobTrigger, Plan, TableTriggers, apply_triggers, drop_triggers, plan_triggers
from jobfn.triggers.plan import generate_sql
from support.triggers import PLATFORM_SCHEMAS, Shop

ORDER = "insert into orders (id, customer_id, total) values ({}, gen_random_uuid(), 1)"
ONE = DataJobTrigger(task_identifier="one")
TWO = DataJobTrigger(task_identifier="two", events=("INSERT",))


def actions(plan: Plan) -> list[tuple[str, str]]:
    return [(change.action.value, change.task) for change in plan.changes]


async def tasks_after_an_order(shop: Shop) -> list[str]:
    """Insert an order and take the jobs that come of it away again."""
    await shop.run("delete from orders", "delete from app_jobs.jobs", ORDER.format(1))
    found = sorted(job.task for job in await shop.jobs())
    await shop.forget_jobs()
    return found


async def test_a_table_gets_what_its_blueprint_says_and_nothing_is_done_twice(shop: Shop) -> None:
    """Created, kept, changed, dropped; a second apply finds all as it should be; at the end no function is left."""
    assert actions(await shop.give("orders", ONE, TWO)) == [("create", "one"), ("create", "two")]
    assert await tasks_after_an_order(shop) == ["one", "two"]
    assert actions(await shop.give("orders", ONE, TWO)) == [("keep", "one"), ("keep", "two")]

    changed = DataJobTrigger(task_identifier="one", priority=5)
    assert actions(await shop.give("orders", changed)) == [("change", "one"), ("drop", "two")]
    assert not (await plan_triggers(shop.connection, [TableTriggers("orders", [changed])])).pending
    await shop.run(ORDER.format(9))
    assert [(job.task, job.priority) for job in await shop.jobs()] == [("one", 5)]

    assert actions(await shop.give("orders")) == [("drop", "one")]
    assert await shop.marked() == []
    assert await tasks_after_an_order(shop) == []


async def test_plan_changes_nothing(shop: Shop) -> None:
    """It says what apply would do, and in the end nothing is there."""
    tables = [TableTriggers("orders", [ONE])]
    plan = await plan_triggers(shop.connection, tables)
    assert actions(plan) == [("create", "one")]
    assert len(plan.pending) == 1
    assert await shop.marked() == []
    assert await plan_triggers(shop.connection, tables) == plan


async def test_a_change_touches_only_what_it_must(shop: Shop) -> None:
    """Another priority is another function: the triggers, and so the table's lock, are let be."""
    await shop.give("orders", ONE)
    plan = await shop.give("orders", DataJobTrigger(task_identifier="one", priority=5))
    assert [statement.partition("(")[0].rpartition(" ")[0] for statement in plan.statements] == [
        "create or replace function"
    ]
    (change,) = plan.changes
    assert change.before == {"task_identifier": "one"}
    assert change.after == {"task_identifier": "one", "priority": 5}


async def test_fewer_events_drop_the_triggers_of_the_others(shop: Shop) -> None:
    """And the parameters that are shown as before are the last ones applied."""
    await shop.give("orders", ONE)
    await shop.give("orders", DataJobTrigger(task_identifier="one", events=("INSERT",)))
    assert [name for name in await shop.marked() if name.endswith("_update")] == []
    (change,) = (await shop.give("orders", DataJobTrigger(task_identifier="one", events=("DELETE",)))).changes
    assert change.before == {"task_identifier": "one", "events": ["INSERT"]}
    await shop.run(ORDER.format(1), "update orders set total = 2", "delete from orders")
    assert await shop.payloads() == [{"id": 1}]


async def test_one_table_may_have_the_same_task_twice(shop: Shop) -> None:
    """For different events, or for the same: each is a trigger of its own."""
    inserted = DataJobTrigger(task_identifier="t", events=("INSERT",), priority=1)
    deleted = DataJobTrigger(task_identifier="t", events=("DELETE",), priority=2)
    await shop.give("orders", inserted, deleted, inserted)
    await shop.run(ORDER.format(1), "delete from orders")
    assert sorted(job.priority for job in await shop.jobs()) == [1, 1, 2]
    assert actions(await shop.give("orders", inserted, deleted, inserted)) == [("keep", "t")] * 3
    assert actions(await shop.give("orders", inserted)) == [("keep", "t"), ("drop", "t"), ("drop", "t")]


async def test_other_tables_are_left_alone(shop: Shop) -> None:
    """What a blueprint does not name keeps the triggers that it has, whichever schema it is in."""
    await shop.run("create schema other", "create table other.orders (like public.orders including all)")
    await shop.give("orders", ONE)
    await shop.give("orders", TWO, schema="other")
    assert actions(await shop.give("contacts")) == []
    assert actions(await shop.give("orders", schema="other")) == [("drop", "two")]
    assert await tasks_after_an_order(shop) == ["one"]


async def test_what_jobfn_did_not_make_is_never_touched(shop: Shop) -> None:
    """Triggers made by hand, with names and functions like ours, stay through apply, drop and drop --all."""
    await shop.give("orders", ONE)
    (mine,) = await shop.connection.fetch("select proname::text as name from pg_proc where proname like 'jobfn_one%'")
    await shop.run(
        "create function app_jobs.jobfn_mine() returns trigger language plpgsql as $$ begin return null; end $$",
        "create trigger jobfn_mine after insert on orders for each row execute function app_jobs.jobfn_mine()",
        # somebody uses our function for a trigger of their own: it must stay too
        "create trigger theirs after insert on orders referencing new table as jobfn_new_rows for each statement "
        f"execute function app_jobs.{mine['name']}()",
    )
    await drop_triggers(shop.connection, None)
    assert await shop.marked() == [mine["name"]]
    assert await tasks_after_an_order(shop) == ["one"]
    left = await shop.connection.fetch(
        "select tgname::text from pg_trigger where tgrelid = 'orders'::regclass order by 1"
    )
    assert [row["tgname"] for row in left] == ["jobfn_mine", "theirs"]

    await shop.run("drop trigger theirs on orders")
    assert actions(await shop.give("contacts")) == [("drop", "one")]  # now nobody uses it any more
    assert await shop.marked() == []


@pytest.mark.parametrize("what", ["function", "trigger"])
async def test_a_name_that_is_taken_is_an_error(shop: Shop, what: str) -> None:
    """Nobody else's function or trigger is overwritten."""
    nodes, _ = await generate_sql(shop.connection, [TableTriggers("orders", [ONE])])
    function, trigger = nodes[0].function.name, nodes[0].triggers[0].name
    body = "() returns trigger language plpgsql as $$ begin return null; end $$"
    await shop.run(f"create function app_jobs.{function if what == 'function' else 'other'}{body}")
    if what == "trigger":
        await shop.run(
            f"create trigger {trigger} before insert on orders for each row execute function app_jobs.other()"
        )
    with pytest.raises(BlueprintError, match=rf"{what} .*{function}.* is not jobfn's, and its name is needed"):
        await shop.give("orders", ONE)
    assert await shop.marked() == []


async def test_what_somebody_changed_by_hand_is_put_right(shop: Shop) -> None:
    """A trigger that was dropped, a function whose body was edited: plan sees it, apply mends it."""
    await shop.give("orders", ONE)
    (function, _, _) = await shop.marked()
    await shop.run(f"drop trigger {function}_insert on orders")
    assert actions(await shop.give("orders", ONE)) == [("change", "one")]
    await shop.run(
        f"create or replace function app_jobs.{function}() returns trigger language plpgsql "
        "as $$ begin return null; end $$"
    )
    assert actions(await shop.give("orders", ONE)) == [("change", "one")]
    assert await tasks_after_an_order(shop) == ["one"]


async def test_a_trigger_that_was_switched_off_stays_off(shop: Shop) -> None:
    """Also through a change that makes it anew; plan points it out."""
    await shop.give("orders", ONE)
    (_, insert, _) = await shop.marked()
    await shop.run(f"alter table orders disable trigger {insert}")
    plan = await shop.give("orders", ONE)
    assert plan.notices == (f"table public.orders: trigger {insert} is set to 'disable'",)
    assert not plan.pending
    await shop.run("create table orders_archive () inherits (orders)")  # from now on, for each row
    assert actions(await shop.give("orders", ONE)) == [("change", "one")]
    assert await tasks_after_an_order(shop) == []
    await shop.run(f"alter table orders enable trigger {insert}")
    assert await tasks_after_an_order(shop) == ["one"]


async def test_a_table_that_is_gone_leaves_no_function_for_long(shop: Shop) -> None:
    """Dropping a table drops its triggers; the next apply, of whichever table, drops their function."""
    await shop.give("orders", ONE)
    await shop.run("drop table orders")
    plan = await shop.give("contacts")
    assert [(change.action.value, change.table, change.task) for change in plan.changes] == [("drop", None, "one")]
    assert await shop.marked() == []


async def test_another_jobs_schema_takes_over(shop: Shop) -> None:
    """Applied with another JOBS_SCHEMA, triggers enqueue there, and the old functions go."""
    await shop.give("orders", ONE)
    await migrate(shop.connection, "My Jobs")
    tables = [TableTriggers("orders", [ONE])]
    plan = await apply_triggers(shop.connection, tables, jobs_schema="My Jobs")
    assert actions(plan) == [("change", "one"), ("drop", "one")]
    assert not (await plan_triggers(shop.connection, tables, jobs_schema="My Jobs")).pending
    await shop.run(ORDER.format(1))
    assert await shop.jobs() == []
    assert await shop.connection.fetchval('select count(*) from "My Jobs".jobs') == 1
    assert (
        await shop.connection.fetchval(
            "select count(*) from pg_proc where pronamespace = 'app_jobs'::regnamespace and proname like 'jobfn_%'"
        )
        == 0
    )


async def test_the_printed_sql_does_the_same_and_may_be_run_twice(shop: Shop) -> None:
    """What `sql` prints, run by hand, is what apply would have done: plan finds nothing left."""
    tables = [TableTriggers("orders", [ONE, TWO]), TableTriggers("contacts", [ONE])]
    nodes, _ = await generate_sql(shop.connection, tables)
    for _ in range(2):
        await shop.run(*(node.script() for node in nodes))
        assert not (await plan_triggers(shop.connection, tables)).pending


async def test_all_or_nothing(shop: Shop) -> None:
    """When the last table cannot have its trigger, the first has none either."""
    wrong = DataJobTrigger(task_identifier="two", watch_fields=("nothing",))
    tables = [TableTriggers("orders", [ONE]), TableTriggers("contacts", [wrong])]
    with pytest.raises(BlueprintError, match=r"table public\.contacts, DataJobTrigger two: watch_fields"):
        await apply_triggers(shop.connection, tables)
    assert await shop.marked() == []


async def test_two_applies_at_once_do_not_meet(shop: Shop, database: str) -> None:
    """They take turns: one creates, the other finds it done."""
    other = await asyncpg.connect(database)
    try:
        tables = [TableTriggers("orders", [ONE, TWO])]
        plans = await asyncio.gather(*(apply_triggers(connection, tables) for connection in (shop.connection, other)))
    finally:
        await other.close()
    assert sorted(len(plan.pending) for plan in plans) == [0, 2]


async def test_a_busy_table_is_not_waited_for_for_ever(shop: Shop, database: str) -> None:
    """After lock_seconds there is a clear error, and nothing is half done."""
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute("lock table orders in share row exclusive mode")
            with pytest.raises(DatabaseError, match=r"held a lock for 0\.1 s.*Nothing was changed; try again"):
                await apply_triggers(shop.connection, [TableTriggers("orders", [ONE])], lock_seconds=0.1)
    finally:
        await other.close()
    assert await shop.marked() == []


async def test_the_caller_s_transaction_and_settings_are_kept(shop: Shop) -> None:
    """Inside a transaction of the caller's it is part of that; the search path is the caller's afterwards."""
    await shop.run("set search_path = public, app_jobs")
    transaction = shop.connection.transaction()
    await transaction.start()
    await shop.give("orders", ONE)
    assert await shop.connection.fetchval("show search_path") == "public, app_jobs"
    assert await tasks_after_an_order(shop) == ["one"]
    await transaction.rollback()
    assert await shop.marked() == []


async def test_a_role_without_the_right_is_told_so(shop: Shop) -> None:
    """Who may not create triggers, or functions in the jobs schema, learns what it takes."""
    role = f"jobfn_app_{uuid.uuid4().hex}"  # roles belong to the server, not to this test's database
    await shop.run(f"create role {role}", f"set role {role}")
    try:
        with pytest.raises(DatabaseError, match=r"this role may not do that: permission denied .* tables' owner"):
            await shop.give("orders", ONE)
    finally:
        await shop.run("reset role", f"drop role {role}")


async def test_a_role_that_may_not_add_jobs_makes_no_trigger(shop: Shop) -> None:
    """Its triggers would fail every write: that is said before there is one."""
    role = f"jobfn_app_{uuid.uuid4().hex}"
    await shop.run(
        f"create role {role}", f"grant all on schema app_jobs to {role}", f"alter table orders owner to {role}"
    )
    try:
        for right in (
            "insert on app_jobs.jobs",
            "usage on sequence app_jobs.jobs_id_seq",
            "execute on function app_jobs.session_claim",
            "execute on function app_jobs.add_job(text, json, text, text, timestamptz, int, int)",
        ):
            await shop.run(f"set role {role}")
            with pytest.raises(DatabaseError, match="this role may not add jobs to schema app_jobs"):
                await shop.give("orders", ONE)
            await shop.run("reset role", f"grant {right} to {role}")
        await shop.run(f"set role {role}")
        await shop.give("orders", ONE, DataJobTrigger(task_identifier="keyed", job_key="k"))
        await shop.run(ORDER.format(1), "reset role")
        assert await shop.payloads() == [{"id": 1}, {"id": 1}]
    finally:
        await shop.run("reset role", f"drop owned by {role} cascade", f"drop role {role}")


@pytest.mark.parametrize("preparation", ["", "create schema app_jobs; create table app_jobs.jobs (id int)"])
async def test_a_database_without_a_jobs_schema(empty_database: str, preparation: str) -> None:
    """An error that says how to make one, or that this is none."""
    connection: asyncpg.Connection[Any] = await asyncpg.connect(empty_database)
    try:
        await connection.execute(f"create table t (id int primary key); {preparation}")
        with pytest.raises(SchemaError, match="run `jobfn db migrate`"):
            await plan_triggers(connection, [TableTriggers("t", [ONE])])
    finally:
        await connection.close()


async def test_triggers_move_from_the_platform_s_schema_to_jobfn_s(empty_database: str) -> None:
    """The same table, first on one jobs schema and then on the other: what is wanted then is made anew."""
    connection = await asyncpg.connect(empty_database)
    try:
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
    finally:
        await connection.close()
