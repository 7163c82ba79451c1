"""Triggers that send a signal to a durable job when a row changes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from jobfn import JobContext, create_app, task
from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from jobfn.errors import BlueprintError
from jobfn.triggers import DataJobTrigger
from support.commands import Command
from support.fixtures import Serve, StartService
from support.jobs import Jobs
from support.roles import temporary_role
from support.triggers import Shop

ORDER = "insert into orders (id, customer_id, total) values (1, gen_random_uuid(), 9.5), (2, gen_random_uuid(), 1)"
APPROVED: dict[str, Any] = {"signal": "approved", "job_key_field": "id", "job_key_prefix": "order-"}


def approval(**parameters: Any) -> DataJobTrigger:
    return DataJobTrigger.model_validate(APPROVED | {"events": ["UPDATE"]} | parameters)


async def signals(shop: Shop) -> list[tuple[str, str, Any]]:
    rows = await shop.connection.fetch(
        "select j.key, s.event, s.payload from app_jobs.job_signals s join app_jobs.jobs j on j.id = s.job_id "
        "order by s.id"
    )
    return [(row["key"], row["event"], json.loads(row["payload"])) for row in rows]


async def test_update_wakes_a_durable_job(shop: Shop, serve: Serve, start_service: StartService, jobs: Jobs) -> None:
    approvals: asyncio.Queue[Any] = asyncio.Queue()

    @task("fulfil_order")
    async def fulfil_order(order: int, ctx: JobContext) -> None:
        approvals.put_nowait(await ctx.wait_for("approved"))

    node = approval(
        watch_fields=["status"],
        payload_strategy="fields",
        payload_fields=["total"],
        include_old=True,
        include_meta=True,
    )
    await shop.apply("orders", node)
    await shop.execute(ORDER)
    await start_service(await serve(create_app(tasks=[fulfil_order])))
    job_id = await jobs.add("fulfil_order", 1, job_key="order-1")
    await jobs.until_parked(job_id)
    await shop.execute("update orders set note = 'not watched'", "update orders set status = 'approved'")
    await jobs.until_gone(job_id)
    payload = approvals.get_nowait()
    assert payload["total"] == 9.5
    assert payload["old"]["status"] == "new"
    assert payload["_meta"] == {"schema": "public", "table": "orders", "event": "UPDATE"}
    assert approvals.empty()


@pytest.mark.parametrize("is_partitioned", [False, True])
async def test_rows_signal_their_jobs_in_order(shop: Shop, jobs: Jobs, *, is_partitioned: bool) -> None:
    if is_partitioned:
        await shop.execute("create table old_orders () inherits (orders)")  # triggers fire per row
    node = approval(
        job_key_field="note",
        job_key_prefix=None,
        conditions=[{"field": "total", "op": ">", "value": 1}],
        events=["INSERT", "UPDATE", "DELETE"],
    )
    plan = await shop.apply("orders", node)
    assert plan.pending[0].each_statement is not is_partitioned
    for key in ("a", "b"):
        await jobs.add("t", {}, job_key=key)
    await shop.execute(
        """insert into orders (id, customer_id, total, note) values
            (1, gen_random_uuid(), 2, 'b'), (2, gen_random_uuid(), 2, 'a'), (3, gen_random_uuid(), 2, 'a'),
            (4, gen_random_uuid(), 1, 'a'), (5, gen_random_uuid(), 2, null), (6, gen_random_uuid(), 2, 'unknown')""",
        "delete from orders where id = 3",
    )
    sent = await signals(shop)
    assert [payload["id"] for key, _, payload in sent if key == "a"] == [2, 3, 3]
    assert [payload["id"] for key, _, payload in sent if key == "b"] == [1]
    assert {event for _, event, _ in sent} == {"approved"}


async def test_number_in_a_row_is_not_the_id_of_a_job(shop: Shop, jobs: Jobs) -> None:
    job_id = await jobs.add("t", {})
    await shop.apply("orders", approval(job_key_prefix=None, events=["INSERT"]))
    await shop.execute(f"insert into orders (id, customer_id, total) values ({job_id}, gen_random_uuid(), 1)")
    assert await signals(shop) == []


async def test_signal_functions_have_the_rights_of_the_tables_owner(shop: Shop, jobs: Jobs) -> None:
    async with temporary_role(shop.connection) as owner:
        await shop.execute(f"alter table orders owner to {owner}")
        with pytest.raises(BlueprintError, match=f"role {owner} owns table public.orders and may not add jobs: run "):
            await shop.apply("orders", approval())
        await migrate(shop.connection, "app_jobs", grants=Grants(enqueue=(owner,)))
        await shop.apply("orders", approval())
        names = await shop.connection.fetch(
            "select pg_get_userbyid(proowner)::text as name from pg_proc where proname like 'jobfn_signal_approved%'"
        )
        assert [row["name"] for row in names] == [owner]
        await jobs.add("t", {}, job_key="order-2")
        await shop.execute(ORDER, "update orders set status = 'approved'")
        assert await signals(shop) == [("order-2", "approved", {"id": 2})]


async def test_missing_column_of_the_key_is_one_clear_error(shop: Shop) -> None:
    with pytest.raises(BlueprintError) as raised:
        await shop.apply("orders", approval(job_key_field="ids"))
    assert str(raised.value) == (
        "table public.orders, DataJobTrigger signal approved: job_key_field: the table has no column ids (nearest: id)"
    )


async def test_platform_schema_has_no_signals(platform_shop: Shop) -> None:
    with pytest.raises(BlueprintError) as raised:
        await platform_shop.apply("orders", approval())
    assert str(raised.value) == (
        "table public.orders, DataJobTrigger signal approved: signal: schema app_jobs has no signals: run "
        "`jobfn db migrate`; the platform's schema has none"
    )


async def test_commands_know_signals(shop: Shop, command: Command, database: str, tmp_path: Path) -> None:
    blueprint = tmp_path / "blueprint.json"
    blueprint.write_text(json.dumps({"table_name": "orders", "nodes": [{"$type": "DataJobTrigger", "data": APPROVED}]}))
    (tmp_path / "functions.py").write_text(
        "import jobfn\n\n@jobfn.task('t')\nasync def t(payload: dict) -> None: ...\n"
    )

    async def triggers(*arguments: str) -> tuple[int, str]:
        result = await command("jobfn", "triggers", *arguments, DATABASE_URL=database)
        return result.code, f"{result.output.rstrip()}\n"

    file = str(blueprint)
    created = "public.orders\n  + create  signal approved  INSERT, UPDATE\n"
    assert await triggers("check", str(tmp_path / "functions.py"), file) == (0, "1 trigger matches its task\n")
    assert await triggers("plan", file) == (3, f"{created}1 to create\n")
    _, sql = await triggers("sql", file)
    assert await triggers("apply", file) == (0, f"{created}1 created\n")
    kept = "public.orders\n  = keep    signal approved  INSERT, UPDATE\n1 unchanged\n"
    assert await triggers("plan", file) == (0, kept)
    await shop.execute(sql)
    assert await triggers("plan", file) == (0, kept)
    assert await triggers("drop", file) == (
        0,
        "public.orders\n  - drop    signal approved  INSERT, UPDATE\n1 dropped\n",
    )
