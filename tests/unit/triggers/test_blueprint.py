"""Blueprint files: three formats, three shapes, and what is left alone in them."""

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
    found = load_blueprints([file])
    return found.tables, tuple(notice.removeprefix(f"{file}: ") for notice in found.notices)


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
def test_every_format_and_shape_says_the_same(name: str, text: str, tmp_path: Path) -> None:
    """JSON, YAML or TOML; one table, a list, or tables; both spellings of the node."""
    assert load(tmp_path, text, name) == ((TableTriggers("invoices", (TRIGGER,), "public"),), ())


@pytest.mark.parametrize("key", ["schema", "schema_name"])
def test_a_schema_may_be_named(key: str, tmp_path: Path) -> None:
    """Under the mission's name for it, or the platform's."""
    tables, _ = load(tmp_path, json.dumps({**TABLE, key: "shop"}))
    assert (tables[0].schema, tables[0].label) == ("shop", "shop.invoices")


def test_other_nodes_are_left_alone_and_named(tmp_path: Path) -> None:
    """Plain or with data, each type once; a module's table too."""
    nodes = ["DataId", {"$type": "DataTimestamps", "data": {}}, "DataId", NODE]
    tables, notices = load(
        tmp_path, json.dumps([{**TABLE, "nodes": nodes}, {"module": {"type": "agent"}, "nodes": []}])
    )
    assert [len(table.triggers) for table in tables] == [1]
    assert notices == (
        "table public.invoices: nodes of other types are left alone: DataId (x2), DataTimestamps",
        "a table of a platform module is left alone: name it by table_name",
    )


def test_an_empty_list_of_nodes_is_a_table_without_triggers(tmp_path: Path) -> None:
    """Which is not the same as a table that is not there."""
    assert load(tmp_path, json.dumps({**TABLE, "nodes": []}))[0] == (TableTriggers("invoices", (), "public"),)
    assert load(tmp_path, "[]")[0] == ()


def test_dates_in_yaml_and_toml_are_values_to_compare_with(tmp_path: Path) -> None:
    """What these formats read as dates reaches PostgreSQL as text again."""
    data = "{task_identifier: t, condition_field: due, condition_value: 2030-01-31}"
    tables, _ = load(tmp_path, f"table_name: t\nnodes: [{{$type: DataJobTrigger, data: {data}}}]", "b.yaml")
    assert tables[0].triggers[0].condition_value == "2030-01-31"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("b.txt", "", "a blueprint is a file that ends in .json, .yaml, .yml, .toml"),
        ("b.json", "{", "Expecting property name"),
        ("b.json", "[" * 100_000, "nested too deeply"),
        ("b.yaml", "a: [", "line 1"),
        ("b.yaml", "a: &a [*a]", "nested too deeply, or holds itself"),
        ("b.yaml", "1: x", "the key 1 is not text"),
        ("b.yaml", "!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("b.toml", "a = ?", "line 1"),
        ("b.json", '"x"', "a blueprint is one table"),
        ("b.yaml", "", "a blueprint is one table"),
        ("b.json", "[7]", "a table is an object with table_name and nodes, not 7"),
        ("b.json", "{}", "table_name must be a name in text, not None"),
        ("b.json", '{"table_name": "", "nodes": []}', "a name has at least one character"),
        ("b.json", '{"table_name": "t"}', "table public.t: nodes must be a list; [] removes the table's triggers"),
        ("b.json", '{"table_name": "t", "nodes": {}}', "nodes must be a list"),
        ("b.json", '{"table_name": "t", "nodes": [7]}', "table public.t, nodes[0]: a node is"),
        ("b.json", '{"table_name": "t", "nodes": [{"data": {}}]}', "table public.t, nodes[0]: a node is"),
        (
            "b.json",
            '{"table_name": "t", "schema": "a", "schema_name": "b", "nodes": []}',
            "schema and schema_name differ",
        ),
        ("b.json", '{"table_name": "t", "schema": 7, "nodes": []}', "schema must be a name in text, not 7"),
        (
            "b.json",
            '{"table_name": "t", "nodes": [{"$type": "DataJobTrigger", "task_identifier": "x"}]}',
            "nodes[0]: task_identifier: parameters go into data",
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
        ("b.json", '[{"table_name": "t", "nodes": []}, {"table_name": "t", "nodes": []}]', "is named a second time"),
    ],
)
def test_a_file_that_cannot_be_meant_so_is_refused(name: str, text: str, problem: str, tmp_path: Path) -> None:
    """One line that begins with the file and says where in it."""
    with pytest.raises(BlueprintError) as refused:
        load(tmp_path, text, name)
    message = str(refused.value)
    assert message.startswith(f"{tmp_path / name}")
    assert problem in message
    assert "\n" not in message


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    """As every other mistake with files."""
    with pytest.raises(BlueprintError, match="cannot be read: No such file"):
        load_blueprints([tmp_path / "none.json"])
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(BlueprintError, match="is not UTF-8"):
        load_blueprints([tmp_path / "b.yaml"])


def test_several_files_are_one_blueprint_and_no_table_is_in_two(tmp_path: Path) -> None:
    """Otherwise the second would take the first one's triggers away."""
    (tmp_path / "a.json").write_text(json.dumps(TABLE))
    (tmp_path / "b.json").write_text(json.dumps({**TABLE, "table_name": "orders"}))
    found = load_blueprints([tmp_path / "a.json", tmp_path / "b.json"])
    assert [table.table for table in found.tables] == ["invoices", "orders"]
    with pytest.raises(BlueprintError, match=r"b\.json: table public\.orders is named a second time"):
        load_blueprints([tmp_path / "b.json", tmp_path / "b.json"])
