"""A role that owns a table and its types, and a more powerful role that applies triggers to the table."""

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger, TableTriggers, apply_triggers, plan_triggers
from jobfn.triggers.node import EntityLookup
from jobfn.triggers.plan import check_triggers, generate_sql
from support.attack import StartProduction
from support.commands import Command
from support.roles import temporary_role

#: Casts and checks with functions that report the role whose rights they have.
OBJECTS = """
    create function evil.spy(value text) returns boolean language plpgsql as $$
    begin
        raise notice 'evil as %', current_user;
        return true;
    end $$;
    create type evil.loud as enum ('a', 'b');
    create type evil.opaque as (doc json); -- has no =, so that its text is compared
    create function evil.loud_json(evil.loud) returns json language sql as
        $$ select case when evil.spy('') then '1'::json end $$;
    create function evil.opaque_text(evil.opaque) returns text language sql as
        $$ select case when evil.spy('') then '' || ($1).doc end $$;
    create cast (evil.loud as json) with function evil.loud_json(evil.loud);
    create cast (evil.opaque as text) with function evil.opaque_text(evil.opaque);
    create domain evil.picky as text check (evil.spy(value));
    create type evil.pair as (a evil.picky, b int);
    create table evil.rooms (id int primary key, owner uuid);
    insert into evil.rooms values (1, gen_random_uuid());
    create table evil.things (
        id int primary key, room_id int references evil.rooms, loud evil.loud, picky evil.picky, pair evil.pair,
        picks evil.picky[], note text, opaque evil.opaque
    );
    create table evil.parts (like evil.things including all) partition by range (id);
    create table evil.part partition of evil.parts for values from (0) to (1000);
"""
#: Changes that the owner makes after the triggers were applied.
CHANGES = """
    alter table evil.rooms rename to real_rooms;
    create view evil.rooms as select id, case when evil.spy('') then owner end as owner from evil.real_rooms;
    alter table evil.{0} alter note type evil.loud using 'a'::evil.loud;
"""
WRITES = (
    "insert into {0} values (1, 1, 'a', 'x', row('x', 1), array['x'], 'a', row('1'))",
    "update {0} set loud = 'b', opaque = row('2'), room_id = null, pair = row('y', 2), picks = array['y']",
    "delete from {0}",
)
ROOMS = EntityLookup(obj_table="rooms", obj_schema="evil", obj_field="owner")
TRIGGERS: dict[str, dict[str, Any]] = {
    "row": {"payload_strategy": "row", "include_meta": True},
    "old": {"payload_strategy": "row", "include_old": True, "events": ("UPDATE",)},
    "fields": {"payload_strategy": "fields", "payload_fields": ("loud",), "events": ("DELETE",)},
    "keyed": {"payload_strategy": "custom", "payload_custom": {"k": "loud"}, "job_key": "k"},
    # evaluated by the function only if it fires for each statement, and by the writer otherwise
    "watched": {"watch_fields": ("opaque",)},
    "domain": {"conditions": [{"field": "picky", "op": "IS DISTINCT FROM", "value": "y"}]},
    "pair": {"condition_field": "pair", "condition_value": "(x,1)"},
    "array": {"condition_field": "picks", "condition_value": "{x}"},
    "later": {"payload_strategy": "fields", "payload_fields": ("note",)},
    "entity": {"entity_field": "room_id", "entity_lookup": ROOMS},
}


@dataclass(frozen=True)
class Attack:
    """The owner's role, the superuser's connection, and the roles whose rights the owner's code had."""

    owner: str
    connection: "asyncpg.Connection[Any]"
    roles: set[str]

    async def execute(self, *statements: str, role: str | None = None) -> None:
        """Execute statements as the superuser or as a role."""
        await self.connection.execute(f"set role {role}" if role else "reset role")
        for statement in statements:
            await self.connection.execute(statement)
        await self.connection.execute("reset role")

    async def grant_enqueue(self) -> None:
        await migrate(self.connection, "app_jobs", grants=Grants(enqueue=(self.owner,)))

    async def grant_insert(self) -> None:
        await self.execute(
            f"grant insert on app_jobs.jobs to {self.owner}",
            f"grant usage on sequence app_jobs.jobs_id_seq to {self.owner}",
            f"grant execute on function app_jobs.jwt_claim to {self.owner}",
        )

    async def function_owners(self) -> set[str]:
        rows = await self.connection.fetch(
            "select distinct pg_get_userbyid(proowner)::text as name from pg_proc where proname like 'jobfn\\_%'"
        )
        return {row["name"] for row in rows}


@pytest.fixture
async def attack(connection: "asyncpg.Connection[Any]") -> AsyncIterator[Attack]:
    roles: set[str] = set()

    def record(_: object, message: Any) -> None:
        if message.message.startswith("evil as "):
            roles.add(message.message.removeprefix("evil as "))

    async with temporary_role(connection) as owner, contextlib.AsyncExitStack() as stack:
        connection.add_log_listener(record)
        stack.callback(connection.remove_log_listener, record)
        await connection.execute(f"create schema evil authorization {owner}")
        await connection.execute(f"set role {owner}")
        await connection.execute(OBJECTS)
        await connection.execute("reset role")
        roles.clear()
        yield Attack(owner, connection, roles)


@pytest.mark.parametrize("may_insert", [False, True])
@pytest.mark.parametrize("table", ["things", "parts"])
@pytest.mark.parametrize("name", TRIGGERS)
async def test_code_of_the_owner_never_has_the_rights_of_the_role_that_applies(
    attack: Attack, name: str, table: str, *, may_insert: bool
) -> None:
    await attack.grant_enqueue()
    if may_insert:
        await attack.grant_insert()
    blueprint = [TableTriggers(table, [DataJobTrigger(task_identifier="t", **TRIGGERS[name])], "evil")]
    for operation in (plan_triggers, generate_sql, apply_triggers, plan_triggers):
        await operation(attack.connection, blueprint)
    await check_triggers(attack.connection, blueprint, {})
    assert attack.roles == set()
    assert not (await plan_triggers(attack.connection, blueprint)).pending
    assert await attack.function_owners() == {attack.owner}

    await attack.execute(CHANGES.format(table), role=attack.owner)
    attack.roles.clear()
    async with temporary_role(attack.connection) as writer:
        await attack.execute(
            f"grant usage on schema evil to {writer}",
            f"grant all on all tables in schema evil to {writer}",
        )
        await attack.execute(*(write.format(f"evil.{table}") for write in WRITES), role=writer)
        assert attack.roles <= {attack.owner, writer}
        is_conditional = name in {"watched", "domain", "pair", "array"}
        assert (attack.owner in attack.roles) == (not is_conditional or table == "things")
    assert await attack.connection.fetchval("select count(*) from app_jobs.jobs") > 0


def things(**parameters: Any) -> list[TableTriggers]:
    return [TableTriggers("things", [DataJobTrigger(task_identifier="t", **parameters)], "evil")]


async def test_owner_who_may_not_enqueue_needs_the_right_or_trust(attack: Attack) -> None:
    problem = (
        f"role {attack.owner} owns table evil.things and may not add jobs: run `jobfn db migrate --grant-enqueue "
        f"{attack.owner}`"
    )
    assert (await plan_triggers(attack.connection, things())).notices == (f"apply refuses: {problem}",)
    with pytest.raises(BlueprintError) as raised:
        await apply_triggers(attack.connection, things())
    assert str(raised.value).splitlines()[0] == (
        f"{problem}. Or trust the owners: --trust-owners (trust_owners=True). Nothing was changed"
    )
    assert await attack.function_owners() == set()
    plan = await apply_triggers(attack.connection, things(), trust_owners=True)
    assert await attack.function_owners() == {"postgres"}
    (notice,) = plan.notices
    assert notice.startswith(
        f"the triggers of evil.things would run code of its owner {attack.owner}, such as casts, with"
    )
    assert not (await plan_triggers(attack.connection, things(), trust_owners=True)).pending
    # without the trust, the function is one to correct
    assert (await plan_triggers(attack.connection, things())).pending
    await attack.grant_enqueue()
    (change,) = (await apply_triggers(attack.connection, things())).changes
    assert (change.action, change.changes_owner) == ("change", True)
    assert await attack.function_owners() == {attack.owner}
    assert attack.roles == set()


async def test_role_that_cannot_give_a_function_to_the_owner_is_refused(attack: Attack) -> None:
    async with temporary_role(attack.connection) as admin:
        await attack.execute(
            f"grant {attack.owner} to {admin}",
            f"grant all on schema app_jobs to {admin}",
            f"grant all on all tables in schema app_jobs to {admin}",
            f"grant all on all functions in schema app_jobs to {admin}",
            f"grant all on all sequences in schema app_jobs to {admin}",
        )
        await attack.connection.execute(f"set role {admin}")
        with pytest.raises(BlueprintError) as raised:
            await apply_triggers(attack.connection, things())
        assert str(raised.value).startswith(
            f"the triggers of evil.things would run code of its owner {attack.owner}, such as casts, with the rights "
            f"of role {admin}: grant {attack.owner} CREATE on schema app_jobs, or apply as a superuser. Or trust"
        )
        await apply_triggers(attack.connection, things(), trust_owners=True)
        assert await attack.function_owners() == {admin}
        await attack.execute()


async def test_member_of_the_owner_gives_the_function_to_the_owner(attack: Attack) -> None:
    await attack.grant_enqueue()
    await attack.execute(f"grant create on schema app_jobs to {attack.owner}")
    async with temporary_role(attack.connection) as member:
        await attack.execute(f"grant {attack.owner} to {member}")
        await attack.connection.execute(f"set role {member}")
        await apply_triggers(attack.connection, things())
        assert await attack.function_owners() == {attack.owner}
        assert not (await plan_triggers(attack.connection, things())).pending
        await attack.execute()
    await attack.connection.execute("insert into evil.things (id) values (1)")
    assert await attack.connection.fetchval("select count(*) from app_jobs.jobs") == 1


async def test_code_of_the_owner_does_not_run_in_a_session_that_set_its_role(attack: Attack) -> None:
    """Code that runs as the owner could reset the role and would have the rights of the role that logged in."""
    await attack.execute(f"grant create on schema app_jobs to {attack.owner}")
    await attack.grant_enqueue()
    await attack.connection.execute(f"set role {attack.owner}")
    await apply_triggers(attack.connection, things(**TRIGGERS["domain"]))
    await plan_triggers(attack.connection, things(**TRIGGERS["pair"]))
    assert attack.roles == set()


async def test_command_refuses_and_trusts(attack: Attack, database: str, invoke: Command, tmp_path: Path) -> None:
    blueprint = tmp_path / "b.json"
    node = {"$type": "DataJobTrigger", "data": {"task_identifier": "t"}}
    blueprint.write_text(json.dumps({"schema": "evil", "table_name": "things", "nodes": [node]}))
    refused = await invoke("jobfn", "triggers", "apply", str(blueprint), DATABASE_URL=database)
    assert (refused.code, "may not add jobs: run `jobfn db migrate --grant-enqueue" in refused.output) == (2, True)
    trusted = await invoke("jobfn", "triggers", "apply", str(blueprint), "--trust-owners", DATABASE_URL=database)
    assert (trusted.code, "with the rights of role postgres" in trusted.output) == (0, True), trusted.output
    granted = await invoke("jobfn", "db", "migrate", "--grant-enqueue", attack.owner, DATABASE_URL=database)
    assert granted.code == 0, granted.output
    planned = await invoke("jobfn", "triggers", "plan", str(blueprint), DATABASE_URL=database)
    assert (planned.code, "the function gets another owner" in planned.output) == (3, True), planned.output
    printed = await invoke("jobfn", "triggers", "sql", str(blueprint), DATABASE_URL=database)
    assert f"() owner to {attack.owner};" in printed.output.replace('"', "")
    await attack.connection.execute(printed.output)
    assert await attack.function_owners() == {attack.owner}


async def test_table_that_gets_another_owner_is_reported_and_corrected(attack: Attack) -> None:
    """The function of an older version, or of a previous owner, runs code with the rights of that role."""
    await attack.execute("alter table evil.things owner to postgres", f"alter table evil.rooms owner to {attack.owner}")
    plain = things(payload_strategy="fields", payload_fields=("id",))
    await attack.execute("alter table evil.things drop loud, drop picky, drop pair, drop picks, drop opaque")
    await apply_triggers(attack.connection, plain)
    assert await attack.function_owners() == {"postgres"}
    await attack.execute(f"alter table evil.things owner to {attack.owner}")
    await attack.grant_enqueue()
    _, notices = await check_triggers(attack.connection, plain, {})
    (notice,) = notices
    assert notice == (
        "table evil.things: the function of t belongs to this role, and not to the table's owner: run "
        "`jobfn triggers apply`"
    )
    (change,) = (await apply_triggers(attack.connection, plain)).changes
    assert (change.action, change.changes_owner) == ("change", True)
    assert await attack.function_owners() == {attack.owner}
    assert (await check_triggers(attack.connection, plain, {}))[1] == ()


async def test_owner_cannot_keep_access_to_a_function_that_gets_another_owner(attack: Attack) -> None:
    await attack.grant_enqueue()
    await attack.grant_insert()
    plain = things(payload_strategy="fields", payload_fields=("id",))
    await attack.execute("alter table evil.things drop loud, drop picky, drop pair, drop picks, drop opaque")
    await apply_triggers(attack.connection, plain)
    name = await attack.connection.fetchval("select proname from pg_proc where proname like 'jobfn\\_t\\_%'")
    async with temporary_role(attack.connection) as accomplice:
        await attack.execute(
            f"grant execute on function app_jobs.{name} to {accomplice} with grant option",
            f"grant execute on function app_jobs.{name} to public",
            f"create trigger other after insert on evil.parts for each row execute function app_jobs.{name}()",
            role=attack.owner,
        )
        await attack.execute("alter table evil.things owner to postgres")
        with pytest.raises(
            BlueprintError, match=f"function app_jobs.{name} must get another owner, and another trigger"
        ):
            await apply_triggers(attack.connection, plain)
        await attack.execute("drop trigger other on evil.parts")
        await apply_triggers(attack.connection, plain)
        assert await attack.function_owners() == {"postgres"}
        acl = await attack.connection.fetchval(f"select proacl::text from pg_proc where proname = '{name}'")
        assert acl == "{postgres=X/postgres}"


async def test_type_of_another_role_is_refused(attack: Attack) -> None:
    await attack.execute("create table public.mine (id int primary key, things evil.loud[])")
    mine = [TableTriggers("mine", [DataJobTrigger(task_identifier="t", payload_strategy="row")])]
    with pytest.raises(BlueprintError) as raised:
        await apply_triggers(attack.connection, mine)
    assert str(raised.value).startswith(
        f"table public.mine uses the type evil.loud of role {attack.owner}, whose code, such as casts, would run with "
        "the rights of role postgres: change the owner of one of them. Or trust"
    )
    await apply_triggers(attack.connection, mine, trust_owners=True)


async def test_lookup_reads_with_the_rights_of_the_owner(attack: Attack) -> None:
    await attack.grant_enqueue()
    await attack.execute("create table public.channels (id int primary key, owner uuid)")
    lookup = EntityLookup(obj_table="channels", obj_schema="public", obj_field="owner")
    blueprint = things(entity_field="room_id", entity_lookup=lookup)
    problem = (
        f"entity_lookup: triggers look the entity up as {attack.owner}, who may not read id, owner of public.channels: "
        "grant select"
    )
    with pytest.raises(BlueprintError, match=problem):
        await apply_triggers(attack.connection, blueprint)
    await attack.execute(f"grant select (id, owner) on public.channels to {attack.owner}")
    await apply_triggers(attack.connection, blueprint)
    async with temporary_role(attack.connection) as other:
        await attack.execute(f"alter table public.channels owner to {other}")
        await attack.execute(f"grant select on public.channels to {attack.owner}")
        (notice,) = (await plan_triggers(attack.connection, blueprint)).notices
        assert notice.startswith(f"apply refuses: the triggers of evil.things would run code of {other}, who owns")


async def test_operator_of_another_role_is_not_used(attack: Attack) -> None:
    await attack.execute(
        "create type public.plain",
        "create function public.plain_in(cstring) returns plain language internal immutable strict as 'textin'",
        "create function public.plain_out(plain) returns cstring language internal immutable strict as 'textout'",
        "create type public.plain (input = public.plain_in, output = public.plain_out, like = text)",
        "create table public.mine (id int primary key, note public.plain)",
    )
    await attack.execute(
        "create function evil.same(plain, plain) returns boolean language sql as $$ select evil.spy('') $$",
        "create operator evil.= (leftarg = plain, rightarg = plain, function = evil.same)",
        role=attack.owner,
    )
    node = DataJobTrigger(task_identifier="t", condition_field="note", condition_value="x")
    with pytest.raises(BlueprintError, match=r"operator does not exist: public\.plain = public\.plain"):
        await apply_triggers(attack.connection, [TableTriggers("mine", [node])])
    assert attack.roles == set()


async def test_honest_jobs_run_while_an_owner_holds_transactions_with_triggers(
    attack: Attack, start_production: StartProduction, pool: "asyncpg.Pool[Any]"
) -> None:
    """Transactions that add jobs through triggers, take their time, and roll back."""
    production = await start_production()
    await attack.grant_enqueue()
    node = DataJobTrigger(task_identifier="evil", payload_strategy="row", job_key="id", queue_name="evil")
    await apply_triggers(attack.connection, [TableTriggers("things", [node], "evil")])

    async def write() -> None:
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute(f"set local role {attack.owner}")
            await connection.execute(
                "insert into evil.things (id, loud, note) select n, 'a', repeat('x', 999) from generate_series(1, 99) n"
            )
            await connection.execute("select pg_sleep(0.05)")
            await transaction.rollback()

    await production.withstands(write)
