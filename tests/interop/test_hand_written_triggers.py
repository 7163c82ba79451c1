"""Tables with hand-written triggers work unchanged on jobfn's schema and on the platform's."""

import json
from typing import Any

import asyncpg
import pytest

from interop.parts import Parts, install_schema
from support.jobs import TENANT, Jobs
from support.network import free_port

pytestmark = pytest.mark.external

#: The published trigger functions read the tenant by it. The newest schema has it.
TENANT_FUNCTION = """
    create schema if not exists jwt_private;
    create or replace function jwt_private.current_database_id() returns uuid language sql as $$
        select nullif(current_setting('jwt.claims.database_id', true), '')::uuid
    $$;
"""
TABLE = """
    create table public.invoices (id bigint primary key, customer text, amount numeric, paid boolean, due date);
    create trigger a after insert or update or delete on public.invoices
        for each row execute procedure app_jobs.tg_add_job_with_row_id('note');
    create trigger b after insert or update or delete on public.invoices
        for each row execute procedure app_jobs.tg_add_job_with_row('note');
    create trigger c before insert or update or delete on public.invoices
        for each row execute procedure app_jobs.trigger_job_with_fields('note', 'id', 'amount', 'paid', 'due');
"""
CHANGES = """
    insert into public.invoices values (7, 'Ada', 2.50, null, '2030-01-31');
    update public.invoices set paid = true;
    delete from public.invoices;
"""


@pytest.mark.parametrize("schema", ["jobfn", "node", "newest"])
async def test_hand_written_triggers_add_the_same_jobs_to_every_schema(
    schema: str, connection: "asyncpg.Connection[Any]", parts: Parts
) -> None:
    await install_schema(schema, connection)
    await connection.execute(TENANT_FUNCTION + TABLE)
    await connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    await connection.execute(CHANGES)

    rows = await connection.fetch("select task_identifier, payload, database_id from app_jobs.jobs order by id")
    assert {(row["task_identifier"], str(row["database_id"])) for row in rows} == {("note", TENANT)}
    before = {"id": 7, "customer": "Ada", "amount": 2.50, "paid": None, "due": "2030-01-31"}
    fields = {"id": "7", "amount": "2.50", "paid": "", "due": "2030-01-31"}
    inserted = [fields, {"id": 7}, before]
    changed = [fields | {"paid": "true"}, {"id": 7}, before | {"paid": True}]
    assert [json.loads(row["payload"]) for row in rows] == inserted + changed + changed

    variables = parts.variables(await parts.start_function("jobfn"), free_port(), HOSTNAME="jobfn-worker")
    await parts.start_service(variables)
    await Jobs(connection).until_gone(seconds=30)
