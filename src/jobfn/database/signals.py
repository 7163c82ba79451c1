"""Send a signal to a durable function, from the command line or the dashboard."""

import asyncpg

from jobfn.database.statements import query
from jobfn.errors import DatabaseError, SchemaError


async def send_signal(
    connection: "asyncpg.Connection[object]", schema: str, job: int | str, event: str, payload: str | None
) -> bool:
    """Send a signal to the job with this id (an int), or with this key or, else, id (a str).

    Args:
        connection: The connection.
        schema: The jobs schema.
        job: The job's id or key.
        event: The name of the signal.
        payload: JSON text.

    Returns:
        Whether the job got it; False if it has ended or does not exist.

    Raises:
        SchemaError: The schema has no durable functions.
        DatabaseError: The event or the payload is invalid.
    """
    try:
        by_id, by_key = "signal_job", "signal_job_key"
        if await connection.fetchval(query("may_signal_as_operator", schema), schema):
            by_id, by_key = "signal_job_as_operator", "signal_job_key_as_operator"
        name = by_id if isinstance(job, int) else by_key
        is_sent: bool = await connection.fetchval(query(name, schema), job, event, payload)
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError) as error:
        raise SchemaError(
            f"schema {schema} has no durable functions, so no job takes signals: run `jobfn db migrate`; the "
            "platform's own schema has none"
        ) from error
    except (asyncpg.CheckViolationError, asyncpg.ProgramLimitExceededError, asyncpg.DataError) as error:
        raise DatabaseError(f"the signal was not sent: {error}") from error
    return is_sent
