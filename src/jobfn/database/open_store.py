"""Choose the ``JobStore`` for a database's schema.

jobfn's schema gets a ``NativeJobStore``, which handles many jobs in one statement. The platform's schema gets a
``PlatformJobStore``, which calls the contract's functions job by job.
"""

from collections.abc import Sequence

import asyncpg

from jobfn.database.migrate import prerelease_message
from jobfn.database.native_store import NativeJobStore
from jobfn.database.permissions import missing_right
from jobfn.database.platform_store import PlatformJobStore
from jobfn.database.schema_version import check_version
from jobfn.database.statements import query
from jobfn.database.store import JobStore, OnSettled, ignore_settlement
from jobfn.errors import ConfigurationError, SchemaError


async def open_store(
    pool: asyncpg.Pool,
    schema: str,
    *,
    queues: Sequence[str] | None = None,
    on_settled: OnSettled = ignore_settlement,
    grant: str = "worker",
) -> JobStore:
    """Return the store for a schema.

    Args:
        pool: Connections.
        schema: The jobs schema.
        queues: Claim only jobs of these queues; ``""`` stands for the jobs without one. None: all jobs.
        on_settled: Called with the jobs that were settled together.
        grant: The grant of ``jobfn db migrate`` that the caller's role needs.

    Raises:
        SchemaError: The schema does not exist, is older than this jobfn, or is from a pre-release.
        PermissionDenied: The role may not use the schema.
        ConfigurationError: Queues are given, and this is the platform's schema, whose ``get_job`` cannot choose them.
    """
    kind = await pool.fetchrow(query("schema_kind", schema), schema)
    if not kind["has_jobs"]:
        raise SchemaError(f"this database has no jobs schema {schema}: run `jobfn db migrate`, or set JOBS_SCHEMA")
    if not kind["is_usable"]:
        right = f"USAGE on schema {schema}"
        is_native = kind["has_record"]
        raise missing_right(kind["role"], right, schema=schema, owner=kind["owner"], grant=grant, is_native=is_native)
    if kind["has_record"] and kind["has_prerelease_function"]:
        raise SchemaError(prerelease_message(schema))
    if kind["has_record"]:
        await check_version(pool, schema, kind)
        return NativeJobStore(pool, schema, queues=queues, on_settled=on_settled)
    if queues is not None:
        raise ConfigurationError(
            f"JOBS_QUEUES has no effect on schema {schema}: the platform's get_job cannot choose queues. Unset it, and "
            "limit this worker to tasks (JOBS_SUPPORT_ANY=false and JOBS_SUPPORTED), or use jobfn's schema"
        )
    return PlatformJobStore(
        pool,
        schema,
        has_actor_id=kind["has_actor_id"],
        has_entity_id=kind["has_entity_id"],
        has_organization_id=kind["has_organization_id"],
        on_settled=on_settled,
    )
