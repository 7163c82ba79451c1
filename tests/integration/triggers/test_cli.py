"""``jobfn triggers`` in a subprocess."""

import json
import sys
from pathlib import Path

import pytest

from support.commands import Command, Spawn
from support.triggers import Shop

BLUEPRINT = """
ref: orders
table_name: orders
nodes:
  - DataTimestamps
  - $type: DataJobTrigger
    data: {{task_identifier: confirm_order, priority: {priority}}}
  - $type: DataJobTrigger
    data: {{task_identifier: post, events: [DELETE], payload_strategy: row}}
"""
FUNCTIONS = """
from jobfn import task
from jobfn.payloads import RowId

@task("confirm_order")
async def confirm_order(payload: RowId) -> None: ...

@task("post")
async def post(payload: {annotation}) -> None: ...
"""
NOTICE = "jobfn: notice: b.yaml: table public.orders: ignored nodes of other types: DataTimestamps"


def write(folder: Path, *, priority: int = 0, annotation: str = "dict") -> None:
    (folder / "b.yaml").write_text(BLUEPRINT.format(priority=priority))
    (folder / "functions.py").write_text(FUNCTIONS.format(annotation=annotation))


async def test_plan_apply_and_drop_print_the_changes(
    shop: Shop, command: Command, database: str, tmp_path: Path
) -> None:
    write(tmp_path)

    async def run(arguments: str) -> tuple[int, list[str]]:
        result = await command("jobfn", "triggers", *arguments.split(), DATABASE_URL=database)
        lines = result.output.splitlines()
        assert "Traceback" not in result.output
        return result.code, [line for line in lines if line != NOTICE]

    created = ["public.orders", "  + create  confirm_order  INSERT, UPDATE", "  + create  post           DELETE"]
    assert await run("plan b.yaml") == (3, [*created, "2 to create"])
    assert await run("apply b.yaml") == (0, [*created, "2 created"])
    kept = ["public.orders", "  = keep    confirm_order  INSERT, UPDATE", "  = keep    post           DELETE"]
    assert await run("apply b.yaml") == (0, [*kept, "2 unchanged"])
    assert await run("plan b.yaml") == (0, [*kept, "2 unchanged"])
    write(tmp_path, priority=5)
    change = ["  ~ change  confirm_order  INSERT, UPDATE", "      - priority  0", "      + priority  5"]
    changed = ["public.orders", *change, kept[2]]
    assert await run("plan b.yaml") == (3, [*changed, "1 to change, 1 unchanged"])
    assert (await run("apply b.yaml"))[0] == 0
    write(tmp_path, priority=7)
    lines = (await run("plan b.yaml"))[1]
    assert lines[2:4] == ["      - priority  5", "      + priority  7"]

    dropped = ["public.orders", "  - drop    confirm_order  INSERT, UPDATE", "  - drop    post           DELETE"]
    assert await run("drop b.yaml --dry-run") == (0, [*dropped, "2 to drop"])
    assert len(await shop.owned_objects()) == 5
    assert await run("drop --all") == (0, [*dropped, "2 dropped"])
    assert await shop.owned_objects() == []
    assert await run("drop b.yaml") == (0, ["no triggers, and none to drop"])


async def test_json_output_has_changes_and_notices(shop: Shop, command: Command, database: str, tmp_path: Path) -> None:
    write(tmp_path)

    async def run(*arguments: str) -> object:
        result = await command("jobfn", "triggers", *arguments, "--json", DATABASE_URL=database)
        return json.loads(result.output.removeprefix(NOTICE))

    plan = await run("plan", "b.yaml")
    assert isinstance(plan, dict)
    assert plan["notices"] == []
    assert [{key: value for key, value in change.items() if key != "statements"} for change in plan["changes"]] == [
        {
            "action": "create",
            "table": "public.orders",
            "task": task,
            "events": events,
            "each_statement": True,
            "before": None,
            "after": after,
        }
        for task, events, after in (
            ("confirm_order", ["INSERT", "UPDATE"], {"task_identifier": "confirm_order", "priority": 0}),
            ("post", ["DELETE"], {"task_identifier": "post", "payload_strategy": "row", "events": ["DELETE"]}),
        )
    ]
    sql = await run("sql", "b.yaml")
    assert isinstance(sql, list)
    assert [(node["table"], node["task"]) for node in sql] == [("orders", "confirm_order"), ("orders", "post")]
    assert await run("check", "functions.py", "b.yaml") == []
    assert await run("drop", "b.yaml") == {"changes": [], "notices": []}
    assert await shop.owned_objects() == []


async def test_printed_sql_is_an_equivalent_script(shop: Shop, command: Command, database: str, tmp_path: Path) -> None:
    write(tmp_path)
    blueprint = (tmp_path / "b.yaml").read_text()
    (tmp_path / "b.yaml").write_text(
        blueprint.replace("task_identifier: post", 'task_identifier: "x\\ndrop table orders;"')
    )
    printed = await command("jobfn", "triggers", "sql", "b.yaml", DATABASE_URL=database)
    assert printed.code == 0
    script = printed.output.removeprefix(NOTICE).strip()
    assert script.startswith("begin;")
    assert script.endswith("commit;")
    assert '-- ["public", "orders", "x\\ndrop table orders;"]: DELETE' in script
    await shop.execute(script)
    assert (await command("jobfn", "triggers", "plan", "b.yaml", DATABASE_URL=database)).code == 0


async def test_check_prints_mismatches(shop: Shop, command: Command, database: str, tmp_path: Path) -> None:
    write(tmp_path)
    matching = await command("jobfn", "triggers", "check", "functions.py", "b.yaml", DATABASE_URL=database)
    assert (matching.code, matching.output.splitlines()) == (0, [NOTICE, "2 triggers match their tasks"])
    write(tmp_path, annotation="list[int]")
    (tmp_path / "functions.py").write_text((tmp_path / "functions.py").read_text().replace("confirm_order", "confirm"))
    result = await command("jobfn", "triggers", "check", "functions.py", "b.yaml", DATABASE_URL=database)
    assert result.code == 1
    assert result.output.splitlines()[1:] == [
        "public.orders, confirm_order on INSERT, UPDATE: no function has this task (nearest: confirm)",
        "public.orders, post on DELETE: the payload is sent as an object, but the field accepts an array",
        "2 mismatches",
    ]
    assert await shop.owned_objects() == []


async def test_plan_is_coloured_in_a_terminal_without_no_color(
    shop: Shop, spawn: Spawn, database: str, tmp_path: Path
) -> None:
    write(tmp_path)
    in_terminal = "import pty, sys; sys.exit(pty.spawn(['jobfn', 'triggers', 'plan', 'b.yaml']) >> 8)"
    bin_folder = str(Path(sys.executable).parent)
    environment = {"DATABASE_URL": database, "TERM": "xterm-256color", "PATH": bin_folder}
    coloured = await spawn("python", "-c", in_terminal, **environment)
    assert await coloured.wait() == 3
    assert any("\x1b[32m  + create  confirm_order" in line for line in coloured.lines)
    plain = await spawn("python", "-c", in_terminal, NO_COLOR="1", **environment)
    assert await plain.wait() == 3
    assert not any("\x1b[32m" in line for line in plain.lines)
    assert await shop.owned_objects() == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("plan", "Missing argument 'BLUEPRINT"),
        (
            "sql unknown.json",
            "unknown.json: table public.orders, nodes[0] DataJobTrigger t: unknown parameter evnts (nearest: events)",
        ),
        (
            "apply column.json",
            "table public.orders, DataJobTrigger t: watch_fields: the table has no column totl (nearest: total)",
        ),
        ("check nowhere.py b.yaml", "no file nowhere.py"),
        ("check functions.py:confirm_order.handler b.yaml", "functions.py has no app"),
        ("drop", "the tables must be given by blueprints or --all: use one of them"),
        ("plan b.yaml --database-url nonsense", "is not a database address"),
    ],
)
async def test_usage_error_is_one_line_with_exit_code_2(
    arguments: str, message: str, shop: Shop, command: Command, database: str, tmp_path: Path
) -> None:
    write(tmp_path)
    (tmp_path / "b.yaml").write_text((tmp_path / "b.yaml").read_text().replace("  - DataTimestamps\n", ""))
    for name, data in (("unknown", {"evnts": []}), ("column", {"watch_fields": ["totl"]})):
        node = {"$type": "DataJobTrigger", "data": {"task_identifier": "t", **data}}
        (tmp_path / f"{name}.json").write_text(json.dumps({"table_name": "orders", "nodes": [node]}))
    result = await command("jobfn", "triggers", *arguments.split(), DATABASE_URL=database)
    assert result.code == 2, result.output
    assert result.output.startswith("jobfn: ")
    assert message in result.output
    assert result.output.count("\n") == 0
    assert await shop.owned_objects() == []


async def test_dev_applies_blueprint_at_start_and_on_save(
    shop: Shop, spawn: Spawn, command: Command, database: str, tmp_path: Path
) -> None:
    write(tmp_path)
    await shop.execute("alter table orders rename to orders_later")
    dev = await spawn(
        "jobfn", "dev", "functions.py", "--port", "0", "--blueprint", "b.yaml", "--database-url", database
    )
    failure = json.loads(await dev.until("triggers not applied"))
    assert "table public.orders does not exist (nearest: orders_later)" in failure["reason"]
    await dev.until("jobfn dev is running")
    await dev.until('"serving"')
    await shop.execute("alter table orders_later rename to orders")
    (tmp_path / "functions.py").write_text((tmp_path / "functions.py").read_text() + "\n")
    assert json.loads(await dev.until('"triggers applied"'))["created"] == 2
    write(tmp_path, priority=5)
    assert json.loads(await dev.until('"changed"'))["changed"] == 1
    (tmp_path / "b.yaml").write_text("nodes: [")
    await dev.until("triggers not applied", times=2)
    await shop.execute("insert into orders (id, customer_id, total) values (1, gen_random_uuid(), 1)")
    finished = json.loads(await dev.until('"job done"'))
    assert finished["error"] is None


async def test_dev_with_an_unreadable_blueprint_does_not_start(command: Command, database: str, tmp_path: Path) -> None:
    write(tmp_path)
    result = await command("jobfn", "dev", "functions.py", "--blueprint", "no.yaml", "--database-url", database)
    assert result.code == 2
    assert result.output.endswith("jobfn: no.yaml cannot be read: No such file or directory [J105]")
