"""``jobfn triggers sql --no-database``: the SQL from the blueprint's own fields, and what was not checked."""

import json
from pathlib import Path
from typing import Any

import pytest

from support.commands import Command
from support.triggers import Shop

FIELDS = [
    {"name": "id", "type": "bigint"},
    {"name": "customer_id", "type": "uuid", "is_required": True},
    {"name": "total", "type": "numeric(10, 2)"},
    {"name": "status", "type": "text"},
    {"name": "note", "type": "varchar(20)"},
    {"name": "doc", "type": "json"},
    {"name": "tags", "type": "text[]"},
    {"name": "at", "type": "timestamptz"},
]
TABLE = """
    create table checked (
        id bigint primary key, customer_id uuid not null, total numeric(10, 2), status text, note varchar(20), doc json,
        tags text[], at timestamptz
    )
"""
ASSUMED = (
    "jobfn: notice: without a database: the SQL is for jobfn's schema app_jobs, and for tables without partitions and "
    "children; whether tables and columns exist as the blueprint says was not checked; run it only as the tables' "
    "owner, because the triggers run code of the owner with the rights of the role that runs it"
)
PREFIX = "table public.checked, DataJobTrigger t"


def write(folder: Path, *nodes: dict[str, Any], fields: object = FIELDS, others: tuple[object, ...] = ()) -> None:
    triggers = [{"$type": "DataJobTrigger", "data": {"task_identifier": "t", **data}} for data in nodes]
    table = {"table_name": "checked", "fields": fields, "nodes": [*others, *triggers]}
    (folder / "b.json").write_text(json.dumps(table))


async def without_database(command: Command) -> tuple[int, list[str], str]:
    """Return the exit code, the notices and the rest of the output."""
    result = await command("jobfn", "triggers", "sql", "b.json", "--no-database")
    lines = result.output.splitlines()
    notices = [line for line in lines if line.startswith("jobfn: ")]
    return result.code, notices, "\n".join(line for line in lines if line not in notices)


@pytest.mark.parametrize(
    ("data", "unchecked"),
    [
        ({}, []),
        ({"payload_strategy": "row", "include_old": True, "include_meta": True}, []),
        ({"payload_strategy": "custom", "payload_custom": {"k": "total"}, "entity_field": "customer_id"}, []),
        ({"watch_fields": ["total", "doc", "tags", "note"]}, []),
        ({"condition_field": "total", "condition_value": 10}, ["condition_value"]),
        ({"job_key": "k", "run_at_delay": "5 minutes", "max_delay": "1 hour"}, ["run_at_delay", "max_delay"]),
        (
            {
                "events": ["UPDATE"],
                "conditions": [
                    {"field": "at", "op": ">", "value": "2030-01-01"},
                    {
                        "OR": [
                            {"field": "doc", "op": "IS DISTINCT FROM"},
                            {"field": "note", "op": "LIKE", "value": "a%"},
                        ]
                    },
                ],
            },
            ["conditions"],
        ),
    ],
)
async def test_sql_is_that_of_a_database_with_these_columns(
    data: dict[str, Any], unchecked: list[str], shop: Shop, invoke: Command, database: str, tmp_path: Path
) -> None:
    await shop.execute(TABLE)
    write(tmp_path, data)
    code, notices, sql = await without_database(invoke)
    expected = await invoke("jobfn", "triggers", "sql", "b.json", DATABASE_URL=database)
    assert (code, sql) == (0, expected.output)
    notes = [f"jobfn: notice: {PREFIX}: not checked: whether {name} is valid in PostgreSQL" for name in unchecked]
    assert notices == [ASSUMED, *notes]


async def test_columns_that_fields_do_not_name_are_noticed(invoke: Command, tmp_path: Path) -> None:
    write(tmp_path, {"payload_strategy": "fields", "payload_fields": ["total", "totl"], "events": ["INSERT"]}, {})
    (tmp_path / "b.json").write_text((tmp_path / "b.json").read_text().replace('"name": "id"', '"name": "number"'))
    code, notices, sql = await without_database(invoke)
    assert (code, notices[1:]) == (
        0,
        [
            f"jobfn: notice: {PREFIX}: not checked: columns that the blueprint's fields do not name: totl",
            f"jobfn: notice: {PREFIX}: not checked: columns that the blueprint's fields do not name: id",
            f"jobfn: notice: {PREFIX}: not checked: the primary key, taken to be id",
        ],
    )
    assert "'totl', jobfn_new.\"totl\"" in sql


async def test_primary_key_is_that_of_the_node_data_id(invoke: Command, tmp_path: Path) -> None:
    write(tmp_path, {}, fields=[], others=({"$type": "DataId", "data": {"field_name": "uid"}},))
    _, notices, sql = await without_database(invoke)
    assert notices[2:] == []
    assert "json_build_object('id', jobfn_new.\"uid\")" in sql


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (
            {"condition_field": "state", "condition_value": "x"},
            (
                "condition_field: the blueprint's fields give state no built-in type, which the SQL depends on: add "
                "it, or use a database"
            ),
        ),
        (
            {"watch_fields": ["kind"]},
            (
                "watch_fields: the blueprint's fields give kind no built-in type, which the SQL depends on: add it, or "
                "use a database"
            ),
        ),
        (
            {"entity_field": "id", "entity_lookup": {"obj_table": "channels", "obj_field": "entity_id"}},
            "entity_lookup: obj_schema is missing: without a database, the table cannot be found by its name",
        ),
        (
            {"entity_field": "total"},
            (
                "entity_field: total is of type numeric, and an entity id is a uuid: name another column, or add "
                "entity_lookup if this one is a foreign key"
            ),
        ),
    ],
)
async def test_what_only_a_database_knows_is_refused(
    data: dict[str, Any], problem: str, invoke: Command, tmp_path: Path
) -> None:
    write(tmp_path, data, fields=[*FIELDS, {"name": "kind", "type": "citext"}])
    code, lines, _ = await without_database(invoke)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(f"jobfn: {PREFIX}: {problem}")


async def test_lookup_takes_the_key_id(invoke: Command, tmp_path: Path) -> None:
    lookup = {"obj_table": "channels", "obj_schema": "chat", "obj_field": "entity_id"}
    write(tmp_path, {"entity_field": "id", "entity_lookup": lookup})
    code, notices, sql = await without_database(invoke)
    note = f"{PREFIX}: not checked: whether chat.channels exists, its column entity_id, and its key, taken to be id"
    assert (code, notices[1:]) == (0, [f"jobfn: notice: {note}"])
    assert '(select jobfn_entity."entity_id" from "chat"."channels" as jobfn_entity where jobfn_entity."id" = ' in sql


async def test_whole_row_needs_no_fields(invoke: Command, tmp_path: Path) -> None:
    write(tmp_path, {"payload_strategy": "row"}, fields=["name", {"name": "x"}], others=("DataId",))
    code, notices, sql = await without_database(invoke)
    assert (code, notices[1:]) == (0, [ASSUMED])
    assert "to_json(jobfn_new)" in sql


async def test_array_of_an_unknown_type_cannot_be_watched(invoke: Command, tmp_path: Path) -> None:
    write(tmp_path, {"watch_fields": ["kinds"]}, fields=[*FIELDS, {"name": "kinds", "type": "kind[]"}])
    code, lines, _ = await without_database(invoke)
    assert (code, "watch_fields: the blueprint's fields give kinds no built-in type" in lines[0]) == (2, True)


async def test_without_a_database_the_error_names_the_option(invoke: Command, tmp_path: Path) -> None:
    write(tmp_path, {})
    result = await invoke("jobfn", "triggers", "sql", "b.json")
    assert (result.code, "no database is set" in result.output, "--no-database" in result.output) == (2, True, True)
