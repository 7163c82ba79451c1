"""``entity_field`` and ``entity_lookup``: the entity id of a trigger's jobs."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger, load_blueprints
from support.triggers import Shop

TENANT = "aaaaaaaa-0000-4000-8000-000000000000"
TABLES = f"""
    create schema chat;
    create schema archive;
    create table chat.rooms (id int primary key, slug text unique, owner uuid, name text);
    create table archive.rooms (id int primary key, owner uuid);
    create domain chat.entity as uuid;
    create table chat.teams (a int, b int, owner chat.entity, primary key (a, b));
    create table posts (
        id int primary key, room_id int references chat.rooms, room_slug text references chat.rooms (slug), team_id int,
        owner uuid, text text, doc json
    );
    insert into chat.rooms values (1, 'one', '{TENANT}', 'One');
"""
ROOMS = {"obj_table": "rooms", "obj_schema": "chat", "obj_field": "owner"}


def node(**parameters: Any) -> DataJobTrigger:
    return DataJobTrigger(task_identifier="t", **parameters)


async def entities(shop: Shop) -> list[str | None]:
    return [job.entity for job in await shop.jobs()]


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"entity_field": "ownr"}, "entity_field: the table has no column ownr (nearest: owner)"),
        (
            {"entity_field": "room_id"},
            (
                "entity_field: room_id is of type integer, and an entity id is a uuid: name another column, or add "
                "entity_lookup if this one is a foreign key"
            ),
        ),
        (
            {"entity_field": "room_id", "entity_lookup": ROOMS | {"obj_table": "romms"}},
            "entity_lookup: table chat.romms does not exist (nearest: rooms)",
        ),
        (
            {"entity_field": "room_id", "entity_lookup": {"obj_table": "rooms", "obj_field": "owner"}},
            "entity_lookup: obj_table rooms is ambiguous (archive.rooms, chat.rooms): set obj_schema",
        ),
        (
            {"entity_field": "room_id", "entity_lookup": ROOMS | {"obj_field": "ownr"}},
            "entity_lookup: table chat.rooms has no column ownr (nearest: owner)",
        ),
        (
            {"entity_field": "room_id", "entity_lookup": ROOMS | {"obj_field": "name"}},
            "entity_lookup: chat.rooms.name is of type text, and an entity id is a uuid: name another obj_field",
        ),
        (
            {"entity_field": "team_id", "entity_lookup": {"obj_table": "teams", "obj_field": "owner"}},
            (
                "entity_lookup: chat.teams has no primary key of one column, and no foreign key leads to it from "
                "team_id: add one of them"
            ),
        ),
        (
            {"entity_field": "text", "entity_lookup": ROOMS},
            "entity_lookup: operator does not exist: integer = text",
        ),
    ],
)
async def test_invalid_entity_is_refused_by_plan_and_check_and_apply(
    shop: Shop, parameters: dict[str, Any], problem: str
) -> None:
    await shop.execute(TABLES)
    with pytest.raises(BlueprintError) as raised:
        await shop.apply("posts", node(**parameters))
    assert str(raised.value).splitlines()[0] == f"table public.posts, DataJobTrigger t: {problem}"
    assert await shop.owned_objects() == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ({"entity_lookup": ROOMS}, "entity_field is missing: entity_lookup needs the foreign key to look up"),
        ({"entity_feild": "owner"}, "unknown parameter entity_feild (nearest: entity_field)"),
        (
            {"entity_field": "room_id", "entity_lookup": {"obj_tabel": "rooms", "obj_field": "owner"}},
            "entity_lookup: obj_table is missing",
        ),
        (
            {"entity_field": "room_id", "entity_lookup": ROOMS | {"obj_shema": "chat"}},
            "entity_lookup: unknown parameter obj_shema (nearest: obj_schema)",
        ),
    ],
)
def test_blueprint_with_an_invalid_entity_is_refused(data: dict[str, Any], problem: str, tmp_path: Path) -> None:
    node = {"$type": "JobTrigger", "data": {"task_identifier": "t", **data}}
    (tmp_path / "b.json").write_text(json.dumps({"table_name": "posts", "nodes": [node]}))
    with pytest.raises(BlueprintError) as raised:
        load_blueprints([tmp_path / "b.json"])
    location = f"{tmp_path / 'b.json'}: table public.posts, nodes[0] JobTrigger t"
    assert str(raised.value).splitlines()[0] == f"{location}: {problem}"


@pytest.mark.parametrize(
    "parameters",
    [
        {"entity_field": "room_id", "entity_lookup": ROOMS},
        {"entity_field": "room_slug", "entity_lookup": ROOMS},  # the foreign key refers to another column than id
    ],
)
async def test_lookup_reads_the_related_row_of_each_event(shop: Shop, parameters: dict[str, Any]) -> None:
    await shop.execute(TABLES)
    await shop.apply("posts", node(events=("INSERT", "UPDATE", "DELETE"), **parameters))
    await shop.execute(
        "insert into posts (id, room_id, room_slug) values (1, 1, 'one'), (2, null, null)",
        "update posts set room_id = null, room_slug = null where id = 1",
        "update posts set room_id = 1, room_slug = 'one' where id = 2",
        "delete from posts where id = 2",
    )
    assert await entities(shop) == [TENANT, None, None, TENANT, TENANT]


async def test_name_that_is_in_one_schema_needs_no_schema(shop: Shop) -> None:
    await shop.execute(TABLES, "drop table archive.rooms")
    await shop.apply("posts", node(entity_field="room_id", entity_lookup={"obj_table": "rooms", "obj_field": "owner"}))
    await shop.execute("insert into posts (id, room_id) values (1, 1)")
    assert await entities(shop) == [TENANT]


async def test_change_of_the_lookup_is_planned(shop: Shop) -> None:
    await shop.execute(TABLES)
    await shop.apply("posts", node(entity_field="owner"))
    plan = await shop.apply("posts", node(entity_field="room_id", entity_lookup=ROOMS))
    (change,) = plan.changes
    assert (change.action, change.before, change.after) == (
        "change",
        {"task_identifier": "t", "entity_field": "owner"},
        {"task_identifier": "t", "entity_field": "room_id", "entity_lookup": ROOMS},
    )
    assert (await shop.apply("posts", node(entity_field="room_id", entity_lookup=ROOMS))).pending == ()


async def test_role_that_writes_needs_no_right_on_the_related_table(shop: Shop) -> None:
    await shop.execute(TABLES)
    await shop.apply("posts", node(entity_field="room_id", entity_lookup=ROOMS))
    await shop.execute(
        "create role jobfn_test_writer",
        "grant insert on posts to jobfn_test_writer",
        "set role jobfn_test_writer",
        "insert into posts (id, room_id) values (1, 1)",
        "reset role",
        "drop owned by jobfn_test_writer",
        "drop role jobfn_test_writer",
    )
    assert await entities(shop) == [TENANT]


async def test_key_and_rows_of_a_partitioned_table_carry_the_entity(shop: Shop) -> None:
    await shop.execute(TABLES, "create table more_posts () inherits (posts)")
    await shop.apply(
        "posts",
        node(entity_field="owner", events=("INSERT",)),
        node(entity_field="owner", events=("INSERT",), job_key="k"),
    )
    await shop.execute(f"insert into posts (id, owner) values (1, null), (2, '{TENANT}')")
    assert sorted((job.key or "", job.entity or "") for job in await shop.jobs()) == [
        ("", ""),
        ("", TENANT),
        ("k", TENANT),
    ]
