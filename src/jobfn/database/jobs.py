"""Opening the store that fits a database's schema, and enqueueing: the door to jobs.

jobfn's own schema gets ``NativeJobStore``, one statement for many jobs; a schema of the platform's gets ``PlatformJobStore``,
which calls the contract's functions job by job. Both do the same things under the same names, and nothing above this
module knows which it has.
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from jobfn.database.migrate import prerelease_message
from jobfn.database.native_store import NativeJobStore
from jobfn.database.platform_store import PlatformJobStore
from jobfn.database.records import Beat, Job, JobStore, NewJob, OnSettled, Outcome, Settlement, unheard
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire.trace_context import TraceContext

__all__ = [
    "Beat",
    "Job",
    "JobStore",
    "NativeJobStore",
    "NewJob",
    "Outcome",
    "PlatformJobStore",
    "Settlement",
    "enqueue",
    "open_store",
]


async def open_store(pool: "asyncpg.Pool[Any]", schema: str, *, on_ending: OnSettled = unheard) -> JobStore:
    """The store for the schema that this database carries.

    Args:
        pool: Connections.
        schema: Its name.
        on_ending: Told of each settlement that changed its job.

    Raises:
        SchemaError: It carries none, an older one, one from a pre-release, or one that this role may not use; says what
            to do.
    """
    kind = await pool.fetchrow(query("schema_kind", schema), schema)
    if kind is None or not kind["has_jobs"]:
        raise SchemaError(f"this database has no jobs schema {schema}: run `jobfn db migrate`, or set JOBS_SCHEMA")
    if not kind["is_open"]:
        raise SchemaError(f"this role may not use schema {schema}: grant it, or connect as another role")
    if kind["has_record"] and kind["has_prerelease_function"]:
        raise SchemaError(prerelease_message(schema))
    features = await pool.fetchrow(query("features", schema), schema)
    if features is not None and features["batches"]:
        return NativeJobStore(pool, schema, on_ending=on_ending)
    if kind["has_record"]:
        raise SchemaError(f"schema {schema} is older than this jobfn: run `jobfn db migrate`")
    return PlatformJobStore(
        pool,
        schema,
        has_actor_id=features is not None and features["actor_id"],
        has_entity_id=features is not None and features["entity_id"],
        on_ending=on_ending,
    )


async def enqueue(connection: "asyncpg.Connection[Any]", schema: str, job: NewJob, *, tracing: Tracing = GLOBAL) -> int:
    """Add one job in the connection's transaction.

    Args:
        connection: Where.
        schema: The jobs schema.
        job: What.
        tracing: Makes a span of it, a part of the current one's trace, which the job carries on.

    Returns:
        Its id.

    Raises:
        SchemaError: There is no such schema, or a platform's, whose ``add_job`` wants a tenant.
        DatabaseError: PostgreSQL refused it: no JSON, too long a name; says which.
    """
    if not tracing.is_on:
        return await _add(connection, schema, job)
    with tracing.open(f"enqueue {job.task}", kind="producer", ids={"task": job.task}) as span:
        trace = tracing.propagate(None)
        if trace is None:  # a provider whose spans have no context
            return await _add(connection, schema, job)
        async with _propagate_trace(connection, trace):
            added = await _add(connection, schema, job)
        span.set_attributes({"job": added})
        return added


@contextlib.asynccontextmanager
async def _propagate_trace(connection: "asyncpg.Connection[Any]", trace: TraceContext) -> AsyncIterator[None]:
    """Give the jobs that are added within the block this trace, and leave the settings as they were."""
    async with connection.transaction():  # a savepoint, where the caller has begun one
        before = await connection.fetchrow(query("current_trace", ""))
        await connection.execute(query("set_trace", ""), trace.parent, trace.state or "")
        yield
        await connection.execute(query("set_trace", ""), *(value or "" for value in before or ("", "")))


async def _add(connection: "asyncpg.Connection[Any]", schema: str, job: NewJob) -> int:
    values = [job.task, job.payload, job.key, job.queue, job.run_at, job.max_attempts, job.priority]
    try:
        if job.database_id is not None:
            found = await connection.fetchval(query("add_job_for_tenant", schema), *values, job.database_id)
        else:
            found = await connection.fetchval(query("add_job", schema), *values)
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError) as error:
        raise SchemaError(
            f"schema {schema} has no add_job for this: run `jobfn db migrate`; a schema of the platform's own "
            "wants the tenant too (--database-id)"
        ) from error
    except (asyncpg.PostgresError, asyncpg.DataError) as error:
        raise DatabaseError(f"the job was not added: {error}") from error
    return int(found)
