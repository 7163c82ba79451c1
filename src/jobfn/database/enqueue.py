"""Enqueue a job from the command line, the dashboard or the dev server.

Applications use ``jobfn.client``, which needs no driver of jobfn's.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import asyncpg

from jobfn.database.records import NewJob
from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError, error_text
from jobfn.sql.loader import omit_arguments
from jobfn.telemetry.tracing import GLOBAL, Tracing


async def enqueue(connection: asyncpg.Connection, schema: str, job: NewJob, *, tracing: Tracing = GLOBAL) -> int:
    """Enqueue a job in the connection's transaction, and return its id.

    Args:
        connection: The connection.
        schema: The jobs schema.
        job: The job.
        tracing: Creates a span, whose trace context the job gets.

    Raises:
        SchemaError: There is no such schema, or an older one of the platform, whose ``add_job`` requires a tenant.
        DatabaseError: PostgreSQL rejected the job: the payload is not valid JSON, a name is too long.
    """
    if not tracing.is_on:
        return await _add_job(connection, schema, job)
    with tracing.open(f"enqueue {job.task}", kind="producer", ids={"task": job.task}) as span:
        trace = tracing.propagate(None)
        if trace is None:  # a tracer provider whose spans have no context
            return await _add_job(connection, schema, job)
        async with _settings(connection, {"jobfn.traceparent": trace.parent, "jobfn.tracestate": trace.state or ""}):
            job_id = await _add_job(connection, schema, job)
        span.set_attributes({"job": job_id})
        return job_id


@contextlib.asynccontextmanager
async def _settings(connection: asyncpg.Connection, settings: Mapping[str, str]) -> AsyncIterator[None]:
    """Change settings of the session in the block, then restore them."""
    names = list(settings)
    async with connection.transaction():  # a savepoint if the caller has begun a transaction
        previous = await connection.fetchval(query("settings", ""), names)
        await connection.execute(query("set_settings", ""), names, list(settings.values()))
        yield
        await connection.execute(query("set_settings", ""), names, previous)


async def _add_job(connection: asyncpg.Connection, schema: str, job: NewJob) -> int:
    if job.expires_at is not None:
        return await _add_expiring_job(connection, schema, job, job.expires_at)
    values = [job.task, job.payload, job.key, job.queue, job.run_at, job.max_attempts, job.priority]
    entity = [job.entity_id, job.organization_id, job.entity_type]
    try:
        if job.database_id is None:
            return await _call_add_job(connection, schema, values, entity)
        if not any(entity) and await connection.fetchval(query("has_tenant_form", ""), schema):
            return await _fetch_id(connection, "add_job_for_tenant", schema, *values, job.database_id)
        async with _settings(connection, {"jwt.claims.database_id": job.database_id}):
            return await _call_add_job(connection, schema, values, entity)
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError) as error:
        raise SchemaError(
            f"schema {schema} has no matching add_job: run `jobfn db migrate`; the platform's older schema requires "
            "the tenant (--database-id) and takes no entity"
        ) from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"the job was not added: {error_text(error)}") from error


async def _add_expiring_job(connection: asyncpg.Connection, schema: str, job: NewJob, expires_at: datetime) -> int:
    """Add a job with an expiry, which a setting of the transaction passes on."""
    async with _settings(connection, {"jobfn.expires_at": ""}):  # restores it
        try:
            await connection.execute(query("set_default_expiry", schema), expires_at)
        except asyncpg.UndefinedFunctionError as error:
            raise SchemaError(
                f"schema {schema} has no expiry of jobs: run `jobfn db migrate`; the platform's schema has none"
            ) from error
        return await _add_job(connection, schema, replace(job, expires_at=None))


async def _call_add_job(
    connection: asyncpg.Connection, schema: str, values: Sequence[object], entity: Sequence[str | None]
) -> int:
    if any(entity):
        return await _fetch_id(connection, "add_job_for_entity", schema, *values, *entity)
    return await _fetch_id(connection, "add_job", schema, *values)


async def _fetch_id(connection: asyncpg.Connection, name: str, schema: str, *values: object) -> int:
    """Call ``add_job`` without ``max_attempts`` and ``priority`` if they are None: the platform's stores nulls."""
    omitted = {5: "max_attempts", 6: "priority"}
    omitted = {position: argument for position, argument in omitted.items() if values[position] is None}
    statement = omit_arguments(query(name, schema), tuple(omitted.values()))
    given = [value for position, value in enumerate(values) if position not in omitted]
    job_id: int = await connection.fetchval(statement, *given)
    return job_id
