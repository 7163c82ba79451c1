"""Actions on durable functions: send a signal, and retry from a step."""

from dataclasses import dataclass

from jobfn.database.signals import send_signal as call_signal
from jobfn.errors import ConfigurationError, DatabaseError
from jobfn.operations.actions import require_durable
from jobfn.operations.queries import job_states
from jobfn.operations.records import JobState
from jobfn.operations.statements import Database


@dataclass(frozen=True, slots=True)
class StepRetry:
    """A retry from a step.

    Attributes:
        steps: How many steps it forgets, this one included.
        children: How many of their child jobs have not ended: those that do not run are cancelled.
    """

    job_id: int
    position: int
    name: str
    steps: int
    children: int


async def send_signal(database: Database, job_id: int, event: str, payload: str | None) -> bool:
    """See ``Operations.send_signal``."""
    require_durable(database)
    async with database.transaction() as connection:
        return 0 < job_id < 2**63 and await call_signal(connection, database.schema, job_id, event, payload)


async def plan_retry(database: Database, job_id: int, step: str | int) -> StepRetry:
    """See ``Operations.plan_retry``."""
    require_durable(database)
    state = (await job_states(database, [job_id])).get(job_id) if 0 < job_id < 2**63 else None
    if state is None:
        raise DatabaseError(f"job {job_id} does not exist, or was completed or removed: its steps are deleted")
    if state is JobState.RUNNING:
        raise DatabaseError(f"job {job_id} is running: wait until it ends, or cancel it first")
    name, position = (step, None) if isinstance(step, str) else (None, step)
    rows = await database.fetch("find_step", job_id, name, position)
    if not rows:
        raise ConfigurationError(f"job {job_id} has no step {step!r}: see `jobfn jobs show {job_id}`")
    [row] = rows
    return StepRetry(job_id, row["position"], row["name"], row["steps"], row["children"])


async def retry_from_step(database: Database, retry: StepRetry) -> None:
    """See ``Operations.retry_from_step``."""
    async with database.transaction() as connection:
        statement = database.statement("retry_job_from_step")
        if not await connection.fetchval(statement, retry.job_id, retry.position):
            raise DatabaseError(f"job {retry.job_id} has just been started, or has ended: nothing changed")
