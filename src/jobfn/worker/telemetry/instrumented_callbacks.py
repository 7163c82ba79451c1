"""The callback server as logs, metrics and traces see it: around what it does with each report, alone or in a batch."""

import functools
from collections.abc import Callable, Mapping

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.records import Job, JobStore, Settlement
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import JOB_ID, JobHeaders, log_ids
from jobfn.worker.callbacks import BROKEN, CallbackError, Callbacks, Reply
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.telemetry.metrics import WorkerMetrics
from jobfn.worker.tokens import CallbackTokens

NO_DATABASE_STATUS = 503


class ObservedCallbacks(Callbacks):
    """``Callbacks`` that count reports, make a span of each, and have its job's ids in every line.

    Args:
        settler: See ``Callbacks``, as the next four.
        store: Where locks are prolonged.
        lease_seconds: For how long, in seconds.
        tokens: Reads tokens.
        settled: Called after each report that settled its job.
        measures: What is counted.
        tracing: Makes spans.
        known: The job of an id, where the worker in the same process has it in hand: it knows the task, and perhaps a
            tenant and an attempt that a function does not send back. Default: no worker is here.
    """

    def __init__(
        self,
        settler: SettlementBatcher,
        store: JobStore,
        *,
        lease_seconds: float,
        measures: WorkerMetrics,
        tokens: CallbackTokens | None = None,
        settled: Callable[[Settlement], None] | None = None,
        tracing: Tracing = GLOBAL,
        known: Callable[[int], Job | None] | None = None,
    ) -> None:
        super().__init__(settler, store, lease_seconds=lease_seconds, tokens=tokens, settled=settled)
        self._measures = measures
        self._tracing = tracing
        self._known = known

    async def report(self, path: str, found: Mapping[str, str], body: bytes) -> Reply:
        """See ``Callbacks.report``. A health probe is none."""
        if JOB_ID not in found:
            return await super().report(path, found, body)
        self._bind_log_context(found)
        if not self._tracing.is_on:
            return await self._counted(path, found, body)
        trace = JobHeaders.parse_lenient_mapping(found).trace
        with self._tracing.open("settle", kind="server", ids=self._ids(found), parent=trace) as span:
            reply = await self._counted(path, found, body)
            if reply.status != 200:
                span.set_error(f"answered {reply.status}")
            return reply

    async def heartbeat(self, path: str, found: Mapping[str, str], body: bytes) -> Reply:
        """See ``Callbacks.heartbeat``."""
        self._bind_log_context(found)
        return await super().heartbeat(path, found, body)

    def _bind_log_context(self, found: Mapping[str, str]) -> None:
        # not set back: each report has a task of its own, and who answers its errors belongs to it
        logs.job_ids.set(functools.partial(self._ids, found))

    def _ids(self, found: Mapping[str, str]) -> Mapping[str, str | int | None]:
        """What a report says of its job, and what the worker beside knows of the same delivery."""
        ids = log_ids(found)
        number = ids.get("job")
        job = self._known(number) if self._known is not None and isinstance(number, int) else None
        if job is None or ids["attempt"] not in {None, job.attempt}:
            return ids
        return job.ids(str(ids["worker"])) | {name: value for name, value in ids.items() if value is not None}

    async def _counted(self, path: str, found: Mapping[str, str], body: bytes) -> Reply:
        status = BROKEN.status
        try:
            reply = await super().report(path, found, body)
            status = reply.status
        except CallbackError as refused:
            status = refused.reply.status
            raise
        except CONNECTION_LOST:
            status = NO_DATABASE_STATUS
            raise
        finally:
            self._measures.reported(status)
        return reply
