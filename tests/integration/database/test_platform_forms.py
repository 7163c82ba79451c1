"""The platform's newest forms on jobfn's schema: entities, remove_job, force_unlock_workers, hand-written triggers."""

import json

import asyncpg
import pytest

from jobfn.database.migrate import migrate
from jobfn.database.privileges import Grants
from support.fixtures import Connect
from support.jobs import TENANT, WORKER, Jobs
from support.roles import temporary_role

ENTITY = "0e0e0e0e-17d5-424d-9bcb-ee7b17c13d43"
ORGANIZATION = "0a0a0a0a-17d5-424d-9bcb-ee7b17c13d43"
ENTITY_COLUMNS = ("entity_id", "organization_id", "entity_type")

CALLS = [
    ("'x', entity_id := $1, organization_id := $2, entity_type := $3", None),
    ("'x', '{\"id\": 1}', entity_id := $1, organization_id := $2, entity_type := $3", {"id": 1}),
    ("'x', '{\"id\": 1}'::json, entity_id := $1, organization_id := $2, entity_type := $3", {"id": 1}),
    ("'x', '{\"id\": 1}', 'k', 'q', now(), 3, -1, $1, $2, $3", {"id": 1}),
    ("'x', '{}', 'k', null, now(), 25, 0, $1, $2, $3", {}),
    ("identifier := 'x', entity_type := $3, organization_id := $2, entity_id := $1, payload := '{}'", {}),
]


@pytest.mark.parametrize(("arguments", "payload"), CALLS, ids=[arguments for arguments, _ in CALLS])
async def test_add_job_stores_the_entity(
    connection: asyncpg.Connection, arguments: str, payload: dict[str, int] | None
) -> None:
    row = await connection.fetchrow(f"select * from app_jobs.add_job({arguments})", ENTITY, ORGANIZATION, "org")
    assert tuple(str(row[name]) for name in ENTITY_COLUMNS) == (ENTITY, ORGANIZATION, "org")
    assert json.loads(row["payload"]) == (payload or {})


async def test_second_job_with_a_key_has_its_own_entity(jobs: Jobs) -> None:
    call = (
        "select (app_jobs.add_job('x', job_key := 'k', entity_id := $1, organization_id := $2, entity_type := $3)).id"
    )
    job = await jobs.connection.fetchval(call, ENTITY, ORGANIZATION, "org")
    assert await jobs.connection.fetchval(call, ORGANIZATION, None, "team") == job
    entity, organization, kind = await jobs.values(job, *ENTITY_COLUMNS)
    assert (str(entity), organization, kind) == (ORGANIZATION, None, "team")
    await jobs.connection.execute("select app_jobs.add_jobs('x', array['{}']::json[], array['k'])")
    assert await jobs.values(job, *ENTITY_COLUMNS) == (None, None, None)


@pytest.mark.parametrize("payload", ["'{}'", "'{}'::json"])
async def test_schedule_gives_its_entity_to_its_jobs(jobs: Jobs, payload: str) -> None:
    call = f"select (app_jobs.add_scheduled_job('x', {payload}, '{{\"hour\": 9}}', 'k', entity_id := $1)).id"
    schedule = await jobs.connection.fetchval(call, ENTITY)
    job = await jobs.connection.fetchval("select (app_jobs.run_scheduled_job($1)).id", schedule)
    assert [str(value) for value in await jobs.values(job, "entity_id")] == [ENTITY]
    assert await jobs.connection.fetchval(call, None) == schedule
    assert await jobs.connection.fetchval("select entity_id from app_jobs.scheduled_jobs") is None


async def test_removed_key_deletes_a_waiting_job(jobs: Jobs) -> None:
    job = await jobs.add("x", job_key="k")
    other = await jobs.add("x", job_key="other")
    assert await jobs.connection.fetchval("select (app_jobs.remove_job('k')).id") == job
    assert not await jobs.exists(job)
    assert await jobs.exists(other)
    assert await jobs.connection.fetchval("select (app_jobs.remove_job('k')).id") is None
    assert await jobs.connection.fetchval("select (app_jobs.remove_job(null)).id") is None
    assert await jobs.connection.fetchval("select outcome from app_jobs.job_runs") == "removed"


async def test_running_job_loses_a_removed_key_and_is_not_retried(jobs: Jobs) -> None:
    job = await jobs.add("x", job_key="k")
    await jobs.claim()
    assert await jobs.connection.fetchval("select (app_jobs.remove_job('k')).id") == job
    assert await jobs.values(job, "key", "attempts", "max_attempts", "locked_by") == (None, 1, 1, WORKER)
    await jobs.fail(job)
    await jobs.update("run_at = now()")
    assert await jobs.claim() is None


async def test_job_with_an_expired_lock_is_removed(jobs: Jobs) -> None:
    job = await jobs.add("x", job_key="k")
    await jobs.claim()
    await jobs.update("locked_at = now() - interval '5 hours'")
    assert await jobs.connection.fetchval("select (app_jobs.remove_job('k')).id") == job
    assert await jobs.count() == 0


async def test_forced_unlock_frees_jobs_and_queues_of_the_given_workers(jobs: Jobs) -> None:
    queued = await jobs.add("x", queue_name="q")
    last = await jobs.add("x", max_attempts=1)
    for _ in range(2):
        await jobs.claim("dead-worker")
    other = await jobs.add("x")
    await jobs.claim("live-worker")
    await jobs.connection.execute(
        "insert into app_jobs.job_queues (queue_name, locked_at, locked_by) values ('by hand', now(), 'dead-worker')"
    )
    await jobs.connection.execute("select app_jobs.force_unlock_workers(array['dead-worker', 'unknown'])")

    assert await jobs.values(queued, "attempts", "locked_by", "locked_at", "last_error") == (1, None, None, None)
    error = "the worker dead-worker was unlocked by hand"
    assert await jobs.values(last, "attempts", "locked_by", "last_error") == (1, None, error)
    assert await jobs.values(other, "locked_by") == ("live-worker",)
    assert (await jobs.queue("q"), await jobs.queue("by hand")) == ((1, None), None)
    assert await jobs.complete(queued, worker="dead-worker") is None, "its late report changes nothing"
    assert await jobs.claim_id() == queued
    rows = await jobs.connection.fetch("select job_id, attempt, outcome, error from app_jobs.job_runs order by 1")
    assert [tuple(row) for row in rows] == [(queued, 1, "lost", error), (last, 1, "lost", error)]


TABLE = """
    create table public.invoices (
        id bigint primary key, "customerName" text, amount numeric, paid boolean, sent_at timestamptz
    );
"""
TRIGGERS = {
    "tg_add_job_with_row_id('process_invoice')": ({"id": 7}, {"id": 7}),
    "tg_add_job_with_row('process_invoice')": (
        {"id": 7, "customerName": "O'Hara", "amount": 2.50, "paid": None, "sent_at": None},
        {"id": 7, "customerName": "O'Hara", "amount": 2.50, "paid": True, "sent_at": None},
    ),
    "trigger_job_with_fields('process_invoice', 'id', '\"customerName\"', 'Amount', 'paid')": (
        {"id": "7", '"customerName"': "O'Hara", "Amount": "2.50", "paid": ""},
        {"id": "7", '"customerName"': "O'Hara", "Amount": "2.50", "paid": "true"},
    ),
    "trigger_job_with_fields('process_invoice')": ({}, {}),
}


@pytest.mark.parametrize(("function", "payloads"), TRIGGERS.items())
@pytest.mark.parametrize("when", ["before", "after"])
async def test_hand_written_trigger_adds_a_job(
    connection: asyncpg.Connection, when: str, function: str, payloads: tuple[dict[str, object], dict[str, object]]
) -> None:
    await connection.execute(TABLE)
    await connection.execute(
        f"""
        create trigger enqueue {when} insert or update or delete on public.invoices
            for each row execute procedure app_jobs.{function}
        """
    )
    await connection.execute("select set_config('jwt.claims.database_id', $1, false)", TENANT)
    await connection.execute("insert into public.invoices values (7, 'O''Hara', 2.50, null)")
    await connection.execute("update public.invoices set paid = true")
    await connection.execute("delete from public.invoices")
    rows = await connection.fetch("select * from app_jobs.jobs order by id")
    inserted, updated = payloads
    assert [json.loads(row["payload"]) for row in rows] == [inserted, updated, updated]
    assert {(row["task_identifier"], str(row["database_id"])) for row in rows} == {("process_invoice", TENANT)}
    assert await connection.fetchval("select count(*) from public.invoices") == 0


async def test_role_that_may_only_write_to_the_table_adds_jobs_by_its_trigger(jobs: Jobs) -> None:
    async with temporary_role(jobs.connection) as role:
        await jobs.connection.execute(TABLE)
        await jobs.connection.execute(
            "create trigger enqueue after insert on public.invoices "
            "for each row execute function app_jobs.tg_add_job_with_row_id('process_invoice')"
        )
        await jobs.connection.execute(f"grant insert on public.invoices to {role}")
        await jobs.connection.execute(f"set role {role}")
        await jobs.connection.execute("insert into public.invoices values (7)")
        await jobs.connection.execute("reset role")
    assert await jobs.count() == 1


async def test_role_that_enqueues_may_not_create_such_a_trigger(jobs: Jobs) -> None:
    """The trigger functions run casts of the table's types with the rights of the schema's owner."""
    async with temporary_role(jobs.connection) as role:
        await migrate(jobs.connection, "app_jobs", grants=Grants(enqueue=(role,)))
        await jobs.connection.execute(f"create schema own authorization {role}")
        await jobs.connection.execute(f"set role {role}")
        await jobs.connection.execute("create table own.notes (id int)")
        for function in ("tg_add_job_with_row_id", "tg_add_job_with_row", "trigger_job_with_fields"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match=function):
                await jobs.connection.execute(
                    f"create trigger t after insert on own.notes for each row execute function app_jobs.{function}('x')"
                )
        assert await jobs.connection.fetchval("select (app_jobs.add_job('x', entity_type := 'org')).id") is not None
        await jobs.connection.execute("reset role")
        await jobs.connection.execute("drop schema own cascade")


async def test_job_queues_can_be_locked_and_unlocked_although_it_is_a_view(jobs: Jobs, connect: Connect) -> None:
    """docs/how-to/beside-node.md: a view cannot be locked by row or truncated; these statements do the same."""
    await jobs.add("x", queue_name="q")
    other = await connect()
    with pytest.raises(asyncpg.FeatureNotSupportedError, match="FOR UPDATE is not allowed with GROUP BY"):
        await other.execute("select * from app_jobs.job_queues for update")
    with pytest.raises(asyncpg.WrongObjectTypeError, match='"job_queues" is not a table'):
        await other.execute("truncate app_jobs.job_queues")

    await other.execute(
        "update app_jobs.job_queues set locked_at = now(), locked_by = 'by hand' where queue_name = 'q'"
    )
    assert await jobs.claim() is None
    await other.execute("delete from app_jobs.job_queues")
    assert await jobs.claim() is not None
