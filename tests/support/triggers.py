"""What the triggers' tests speak of: a shop's database, the jobs in it, and schemas of the platform's shape."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg

from jobfn.triggers import DataJobTrigger, Plan, TableTriggers, apply_triggers

BLUEPRINTS = Path(__file__).parents[2] / "examples" / "blueprints"

#: The least that the contract asks of a jobs schema, for enqueuing: one that finds out the tenant, one that is told.
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
        run_at timestamptz default now(), max_attempts int default 25, priority int default 0
    ) returns app_jobs.jobs language sql security definer as $$
        insert into app_jobs.jobs as j
            (database_id, task_identifier, payload, key, queue_name, run_at, max_attempts, priority)
        values ({tenant}, identifier, payload, job_key, queue_name, run_at, max_attempts, priority)
        on conflict (key) do update
            set payload = excluded.payload, run_at = excluded.run_at, updated_at = now()
        returning j.*
    $$;
"""
_SESSION_TENANT = "nullif(current_setting('jwt.claims.database_id', true), '')::uuid"
PLATFORM_SCHEMAS = {
    "identifier": _PLATFORM_TABLE.format(null="") + _PLATFORM_ADD_JOB.format(first="", tenant=_SESSION_TENANT),
    "tenant": _PLATFORM_TABLE.format(null="not null") + _PLATFORM_ADD_JOB.format(first="db_id uuid,", tenant="db_id"),
}


@dataclass(frozen=True)
class Enqueued:
    """A job as a trigger made it.

    ``payload`` is the parsed JSON; ``delay`` is the time from its making to its ``run_at``.
    """

    task: str
    payload: Any
    key: str | None = None
    queue: str | None = None
    priority: int = 0
    max_attempts: int = 25
    delay: timedelta = timedelta(0)


@dataclass(frozen=True)
class Shop:
    """A database, and what a test asks of it."""

    connection: "asyncpg.Connection[Any]"

    async def run(self, *statements: str) -> None:
        """Run statements, each by itself."""
        for statement in statements:
            await self.connection.execute(statement)

    async def give(self, table: str, *triggers: DataJobTrigger, schema: str = "public") -> Plan:
        """Give a table these triggers."""
        return await apply_triggers(self.connection, [TableTriggers(table, triggers, schema)])

    async def jobs(self) -> list[Enqueued]:
        """The jobs that there are, in the order of their ids."""
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
            )
            for row in rows
        ]

    async def payloads(self) -> list[Any]:
        """Their payloads."""
        return [job.payload for job in await self.jobs()]

    async def forget_jobs(self) -> None:
        """Remove all jobs."""
        await self.connection.execute("delete from app_jobs.jobs")

    async def marked(self) -> Sequence[str]:
        """The triggers and functions whose comments say that they are jobfn's, by name."""
        return [
            row["name"]
            for row in await self.connection.fetch(
                "select t.tgname::text as name from pg_trigger t "
                "where obj_description(t.oid, 'pg_trigger') like 'Made by jobfn%' "
                "union all select p.proname::text from pg_proc p "
                "where obj_description(p.oid, 'pg_proc') like 'Made by jobfn%' order by 1"
            )
        ]
