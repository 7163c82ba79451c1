"""Enqueue a job from the command line, the dashboard or the dev server.

Applications use ``jobfn.client``, which needs no driver of jobfn's.
"""

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from jobfn.database.records import NewJob
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire.trace_context import TraceContext


async def enqueue(connection: asyncpg.Connection, schema: str, job: NewJob, *, tracing: Tracing = GLOBAL) -> int:
    """Enqueue a job in the connection's transaction, and return its id.

    Args:
        connection: The connection.
        schema: The jobs schema.
        job: The job.
        tracing: Creates a span, whose trace context the job gets.

    Raises:
        SchemaError: There is no such schema, or it is the platform's, whose ``add_job`` requires a tenant.
        DatabaseError: PostgreSQL rejected the job: the payload is not valid JSON, a name is too long.
    """
    if not tracing.is_on:
        return await _add_job(connection, schema, job)
    with tracing.open(f"enqueue {job.task}", kind="producer", ids={"task": job.task}) as span:
        trace = tracing.propagate(None)
        if trace is None:  # a tracer provider whose spans have no context
            return await _add_job(connection, schema, job)
        async with _propagate_trace(connection, trace):
            job_id = await _add_job(connection, schema, job)
        span.set_attributes({"job": job_id})
        return job_id


@contextlib.asynccontextmanager
async def _propagate_trace(connection: asyncpg.Connection, trace: TraceContext) -> AsyncIterator[None]:
    """Set the trace context of jobs that are added in the block, then restore the session's."""
    async with connection.transaction():  # a savepoint if the caller has begun a transaction
        previous = await connection.fetchrow(query("current_trace", ""))
        await connection.execute(query("set_trace", ""), trace.parent, trace.state or "")
        yield
        await connection.execute(query("set_trace", ""), *(value or "" for value in previous or ("", "")))


async def _add_job(connection: asyncpg.Connection, schema: str, job: NewJob) -> int:
    name = "add_job"
    values = [job.task, job.payload, job.key, job.queue, job.run_at, job.max_attempts, job.priority]
    if job.database_id is not None:
        name = "add_job_for_tenant"
        values.append(job.database_id)
    try:
        job_id: int = await connection.fetchval(query(name, schema), *values)
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError) as error:
        raise SchemaError(
            f"schema {schema} has no matching add_job: run `jobfn db migrate`; the platform's schema requires the "
            "tenant (--database-id)"
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"the job was not added: {error}") from error
    return job_id
