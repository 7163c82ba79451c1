"""``ctx.transaction``: a step whose effect is in the application's database, committed together with its record."""

import os
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from jobfn.errors import DurableError
from jobfn.function.durable.clients import InlineSteps, JobNotHeld
from jobfn.function.durable.results import result_to_json
from jobfn.function.durable.run import DurableRun, current_step
from jobfn.function.durable.step import Step
from jobfn.sql.quoting import quote_identifier
from jobfn.wire.steps import StepRecord

if TYPE_CHECKING:
    from jobfn.function.database import JobDatabase

#: SQLSTATE of ``record_transaction_step`` for a job that this delivery does not hold.
_NOT_HELD: Final = "JF409"
#: SQLSTATEs of a schema or function that does not exist, or may not be used.
_UNAVAILABLE: Final = frozenset({"3F000", "42883", "42501"})


class TransactionContext(Protocol):
    """A ``JobContext``."""

    job_id: int | None
    worker_id: str | None
    attempt: int | None
    snoozes: int

    @property
    def db(self) -> "JobDatabase":
        """PostgreSQL as the job's tenant and actor."""


def run_transaction(
    run: DurableRun, context: TransactionContext, name: str, function: Callable[..., Any], arguments: Sequence[Any]
) -> Coroutine[Any, Any, Any]:
    """Return the coroutine of a step in a transaction. See ``DurableMethods.transaction``."""
    return _TransactionStep(run, run.name_of(name), function, arguments, context).run()


class _TransactionStep(Step):
    def __init__(
        self,
        run: DurableRun,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        context: TransactionContext,
    ) -> None:
        super().__init__(run, name, function, arguments, None)
        self._context = context

    async def _execute(self) -> StepRecord:
        position = await self._run.reserve_position()
        started_at = perf_counter()
        failure: Exception | None = None
        try:
            async with self._context.db.transaction() as connection:
                token = current_step.set(self._name)
                try:
                    result = await self._function(connection, *self._arguments)
                except Exception as error:
                    failure = error
                    raise
                finally:
                    current_step.reset(token)
                record = StepRecord(
                    position, self._name, "step", result=result_to_json(result, self._annotation, self._name)
                )
                if not isinstance(self._run.client, InlineSteps):
                    await self._run.exchange(self._record(connection, record, perf_counter() - started_at))
        except DurableError:
            raise
        except Exception as error:
            if error is not failure:
                self._run.interrupt(error)  # it may have been committed: only the next delivery knows
                raise
            await self._fail(error, 1, perf_counter() - started_at)
        self._run.add(record)
        return record

    async def _record(self, connection: Any, record: StepRecord, seconds: float) -> None:
        context, schema = self._context, os.environ.get("JOBS_SCHEMA") or "app_jobs"
        statement = (
            f"select {quote_identifier(schema, what='schema name')}"
            ".record_transaction_step($1, $2, $3, $4, $5, cast($6::text as json), $7)"
        )
        attempt = None if context.attempt is None else context.attempt + context.snoozes
        try:
            await connection.execute(
                statement,
                context.worker_id,
                context.job_id,
                attempt,
                record.position,
                record.name,
                record.result,
                seconds,
            )
        except Exception as error:
            sqlstate = getattr(error, "sqlstate", None)
            if sqlstate == _NOT_HELD:
                raise JobNotHeld from None
            if sqlstate in _UNAVAILABLE:
                raise DurableError(
                    f"ctx.transaction needs the jobs schema {schema} in the database of ctx.db, and the right to "
                    f"record steps: run `jobfn db migrate --grant-steps ROLE`, or use ctx.step ({error})"
                ) from None
            raise
