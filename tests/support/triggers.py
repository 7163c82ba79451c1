"""A shop's database for trigger tests, and jobs schemas of the platform's shape."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from jobfn.triggers import DataJobTrigger, Plan, TableTriggers, apply_triggers

BLUEPRINTS = Path(__file__).parents[2] / "examples" / "blueprints"

#: The minimal schemas that can enqueue: ``add_job`` determines the tenant, or takes it as an argument.
_PLATFORM_TABLE = """
    create schema app_jobs;
    create table app_jobs.jobs (
        id bigserial primary key, database_id uuid {null}, queue_name text, task_identifier text not null,
        payload json not null default '{{}}', priority int not null default 0,
        run_at timestamptz not null default now(), attempts int not null default 0,
        max_attempts int not null default 25, key text unique, last_error text,
        locked_at timestamptz, locked_by text, updated_at timestamptz not null default now()
    );
"""
_PLATFORM_ADD_JOB = """
    create function app_jobs.add_job(
        {first} identifier text, payload json default '{{}}', job_key text default null, queue_name text default null,
        run_at timestamptz default now(), max_attempts int default 25, priority int default 0 {last}
    ) returns app_jobs.jobs language sql security definer as $$
        insert into app_jobs.jobs as j
            (database_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority {entity})
        values ({tenant}, identifier, payload, job_key, queue_name, run_at, max_attempts, priority {entity})
        on conflict (key) do update
            set payload = excluded.payload, run_at = excluded.run_at, updated_at = now()
        returning j.*
    $$;
"""
_SESSION_TENANT = "nullif(current_setting('jwt.claims.database_id', true), '')::uuid"
_WITHOUT_ENTITY = {"last": "", "entity": ""}
_ENTITY = {
    "last": ", entity_id uuid default null, organization_id uuid default null, entity_type text default null",
    "entity": ", entity_id, organization_id, entity_type",
}
PLATFORM_SCHEMAS = {
    "identifier": _PLATFORM_TABLE.format(null="")
    + _PLATFORM_ADD_JOB.format(first="", tenant=_SESSION_TENANT, **_WITHOUT_ENTITY),
    "tenant": _PLATFORM_TABLE.format(null="not null")
    + _PLATFORM_ADD_JOB.format(first="db_id uuid,", tenant="db_id", **_WITHOUT_ENTITY),
    "entity": _PLATFORM_TABLE.format(null="")
    + "alter table app_jobs.jobs add entity_id uuid, add organization_id uuid, add entity_type text;"
    + _PLATFORM_ADD_JOB.format(first="", tenant=_SESSION_TENANT, **_ENTITY),
}


@dataclass(frozen=True)
class Enqueued:
    """A job that a trigger enqueued.

    Attributes:
        payload: Parsed JSON.
        delay: Time from enqueue to ``run_at``.
    """

    task: str
    payload: Any
    key: str | None = None
    queue: str | None = None
    priority: int = 0
    max_attempts: int = 25
    delay: timedelta = timedelta(0)
    entity: str | None = None


@dataclass(frozen=True)
class Shop:
    """A database with the tables of the example blueprints."""

    connection: "asyncpg.Connection[Any]"

    async def execute(self, *statements: str) -> None:
        """Execute statements one by one."""
        for statement in statements:
            await self.connection.execute(statement)

    async def apply(self, table: str, *triggers: DataJobTrigger, schema: str = "public") -> Plan:
        return await apply_triggers(self.connection, [TableTriggers(table, triggers, schema)])

    async def jobs(self) -> list[Enqueued]:
        """Return all jobs, ordered by id."""
        rows = await self.connection.fetch("select *, run_at - updated_at as delay from app_jobs.jobs order by id")
        return [
            Enqueued(
                task=row["task_identifier"],
                payload=json.loads(row["payload"]),
                key=row["key"],
                queue=row["queue_name"],
                priority=row["priority"],
                max_attempts=row["max_attempts"],
                delay=row["delay"],
                entity=str(row["entity_id"]) if row.get("entity_id") is not None else None,
            )
            for row in rows
        ]

    async def payloads(self) -> list[Any]:
        return [job.payload for job in await self.jobs()]

    async def delete_jobs(self) -> None:
        await self.connection.execute("delete from app_jobs.jobs")

    async def owned_objects(self) -> Sequence[str]:
        """Return the names of the triggers and functions with jobfn's ownership tag."""
        return [
            row["name"]
            for row in await self.connection.fetch(
                "select t.tgname::text as name from pg_trigger t "
                "where obj_description(t.oid, 'pg_trigger') like 'Made by jobfn%' "
                "union all select p.proname::text from pg_proc p "
                "where obj_description(p.oid, 'pg_proc') like 'Made by jobfn%' order by 1"
            )
        ]
