"""Parsing of blueprint files."""

import json
from pathlib import Path

import pytest

from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger, TableTriggers, load_blueprints

TRIGGER = DataJobTrigger(task_identifier="process_invoice")
NODE = {"$type": "DataJobTrigger", "data": {"task_identifier": "process_invoice"}}
TABLE = {"ref": "invoices", "table_name": "invoices", "nodes": [NODE]}

YAML = """
ref: invoices
table_name: invoices
nodes:
  - $type: DataJobTrigger
    data: {task_identifier: process_invoice}
"""
TOML = """
ref = "invoices"
table_name = "invoices"
[[nodes]]
"$type" = "DataJobTrigger"
data = { task_identifier = "process_invoice" }
"""


def load(folder: Path, text: str, name: str = "b.json") -> tuple[tuple[TableTriggers, ...], tuple[str, ...]]:
    file = folder / name
    file.write_text(text)
    blueprint = load_blueprints([file])
    return blueprint.tables, tuple(notice.removeprefix(f"{file}: ") for notice in blueprint.notices)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("b.yaml", YAML),
        ("b.yml", YAML),
        ("b.toml", TOML),
        ("b.json", json.dumps(TABLE)),
        ("b.JSON", json.dumps([TABLE])),
        ("b.json", json.dumps({"tables": [TABLE], "relations": []})),
        ("b.json", json.dumps({**TABLE, "schema": "public", "grants": [], "fields": []})),
        ("b.json", json.dumps({**TABLE, "nodes": [{**NODE, "$type": "JobTrigger"}]})),
    ],
)
def test_every_format_and_shape_loads_the_same_blueprint(name: str, text: str, tmp_path: Path) -> None:
    assert load(tmp_path, text, name) == ((TableTriggers("invoices", (TRIGGER,), "public"),), ())


@pytest.mark.parametrize("key", ["schema", "schema_name"])
def test_schema_is_read_under_both_names(key: str, tmp_path: Path) -> None:
    tables, _ = load(tmp_path, json.dumps({**TABLE, key: "shop"}))
    assert (tables[0].schema, tables[0].label) == ("shop", "shop.invoices")


def test_other_nodes_and_module_tables_are_ignored_with_a_notice(tmp_path: Path) -> None:
    nodes = ["DataId", {"$type": "DataTimestamps", "data": {}}, "DataId", NODE]
    tables, notices = load(
        tmp_path, json.dumps([{**TABLE, "nodes": nodes}, {"module": {"type": "agent"}, "nodes": []}])
    )
    assert [len(table.triggers) for table in tables] == [1]
    assert notices == (
        "table public.invoices: ignored nodes of other types: DataId (x2), DataTimestamps",
        "ignored a table of a platform module: name it by table_name",
    )


def test_empty_nodes_list_keeps_the_table(tmp_path: Path) -> None:
    assert load(tmp_path, json.dumps({**TABLE, "nodes": []}))[0] == (TableTriggers("invoices", (), "public"),)
    assert load(tmp_path, "[]")[0] == ()


def test_yaml_date_becomes_text(tmp_path: Path) -> None:
    data = "{task_identifier: t, condition_field: due, condition_value: 2030-01-31}"
    tables, _ = load(tmp_path, f"table_name: t\nnodes: [{{$type: DataJobTrigger, data: {data}}}]", "b.yaml")
    assert tables[0].triggers[0].condition_value == "2030-01-31"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("b.txt", "", "a blueprint file must end in .json, .yaml, .yml, .toml"),
        ("b.json", "{", "Expecting property name"),
        ("b.json", "[" * 100_000, "nested too deeply"),
        ("b.yaml", "a: [", "line 1"),
        ("b.yaml", "a: &a [*a]", "nested too deeply or contains itself"),
        ("b.yaml", "1: x", "the key 1 is not text"),
        ("b.yaml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("b.toml", "a = ?", "line 1"),
        ("b.json", '"x"', "a blueprint must be one table"),
        ("b.json", "[7]", "a table must be an object with table_name and nodes, not 7"),
        ("b.json", "{}", "table_name must be a string, not None"),
        ("b.json", '{"table_name": "", "nodes": []}', "a name has at least one character"),
        ("b.json", '{"table_name": "t"}', "table public.t: nodes must be a list; [] removes the table's triggers"),
        ("b.json", '{"table_name": "t", "nodes": [7]}', "table public.t, nodes[0]: a node must be"),
        (
            "b.json",
            '{"table_name": "t", "schema": "a", "schema_name": "b", "nodes": []}',
            "schema and schema_name differ",
        ),
        (
            "b.json",
            '{"table_name": "t", "nodes": [{"$type": "DataJobTrigger", "task_identifier": "x"}]}',
            "nodes[0]: task_identifier is not allowed beside $type",
        ),
        (
            "b.json",
            '{"table_name": "t", "nodes": [{"$type": "DataJobTrigger", "data": []}]}',
            "nodes[0]: data must be an object of parameters, not []",
        ),
        (
            "b.json",
            '{"table_name": "t", "nodes": ["DataJobTrigger"]}',
            "nodes[0] DataJobTrigger: task_identifier is missing",
        ),
        (
            "b.json",
            json.dumps(
                {**TABLE, "nodes": ["X", {"$type": "JobTrigger", "data": {"task_identifier": "do", "priority": ""}}]}
            ),
            "table public.invoices, nodes[1] JobTrigger do: priority: input should be a valid integer, not ''",
        ),
        ("b.json", '[{"table_name": "t", "nodes": []}, {"table_name": "t", "nodes": []}]', "occurs twice"),
    ],
)
def test_invalid_file_is_rejected_in_one_line(name: str, text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(BlueprintError) as raised:
        load(tmp_path, text, name)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path / name}")
    assert problem in message
    assert "\n" not in message


def test_unreadable_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(BlueprintError, match="cannot be read: No such file"):
        load_blueprints([tmp_path / "none.json"])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(BlueprintError, match="is not UTF-8"):
        load_blueprints([tmp_path / "b.yaml"])


def test_several_files_are_merged_but_a_table_must_not_repeat(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(TABLE))
    (tmp_path / "b.json").write_text(json.dumps({**TABLE, "table_name": "orders"}))
    blueprint = load_blueprints([tmp_path / "a.json", tmp_path / "b.json"])
    assert [table.table for table in blueprint.tables] == ["invoices", "orders"]
    with pytest.raises(BlueprintError, match=r"b\.json: table public\.orders occurs twice"):
        load_blueprints([tmp_path / "b.json", tmp_path / "b.json"])
