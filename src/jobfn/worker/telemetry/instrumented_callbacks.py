"""Logs, metrics and traces of reports and heartbeats, alone or in a batch."""

import functools
from collections.abc import Callable, Mapping

from jobfn.database.connection import is_transient
from jobfn.database.records import Job
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import JOB_ID, JobHeaders, log_ids
from jobfn.worker.callbacks import DATABASE_UNREACHABLE, INTERNAL_ERROR, CallbackError, Callbacks, Reply
from jobfn.worker.telemetry.metrics import WorkerMetrics


class InstrumentedCallbacks:
    """``Callbacks`` with counted and traced reports, and the job's ids in every log line.

    ``find_job`` returns a job that is in flight in this process: the worker knows its task, and perhaps a tenant and an
    attempt that the function does not send back.
    """

    def __init__(
        self,
        callbacks: Callbacks,
        *,
        metrics: WorkerMetrics,
        tracing: Tracing = GLOBAL,
        find_job: Callable[[int], Job | None] | None = None,
    ) -> None:
        self._callbacks = callbacks
        self._metrics = metrics
        self._tracing = tracing
        self._find_job = find_job

    async def report(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        """See ``Callbacks.report``. Health probes are not counted."""
        if JOB_ID not in headers:
            return await self._callbacks.report(token, headers, body)
        self._bind_log_context(headers)
        if not self._tracing.is_on:
            return await self._report_counted(token, headers, body)
        trace = JobHeaders.parse_lenient(headers).trace
        with self._tracing.open("settle", kind="server", ids=self._ids(headers), parent=trace) as span:
            reply = await self._report_counted(token, headers, body)
            if reply.status != 200:
                span.set_error(f"responded with {reply.status}")
            return reply

    def authorize_batch(self, token: str | None, worker_id: str | None) -> None:
        """See ``Callbacks.authorize_batch``."""
        self._callbacks.authorize_batch(token, worker_id)

    async def heartbeat(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        """See ``Callbacks.heartbeat``."""
        self._bind_log_context(headers)
        return await self._callbacks.heartbeat(token, headers, body)

    async def steps(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        """See ``Callbacks.steps``."""
        self._bind_log_context(headers)
        return await self._callbacks.steps(token, headers, body)

    def _bind_log_context(self, headers: Mapping[str, str]) -> None:
        # Not reset: each report has its own task, whose later log lines are about the same job.
        logs.job_ids.set(functools.partial(self._ids, headers))

    def _ids(self, headers: Mapping[str, str]) -> Mapping[str, str | int | None]:
        """Return the ids in the headers, completed by those of the job in flight."""
        ids = log_ids(headers)
        job_id = ids.get("job")
        job = self._find_job(job_id) if self._find_job is not None and isinstance(job_id, int) else None
        if job is None or ids["attempt"] not in {None, job.attempt}:
            return ids
        return job.ids(str(ids["worker"])) | {name: value for name, value in ids.items() if value is not None}

    async def _report_counted(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        status = INTERNAL_ERROR.status
        try:
            reply = await self._callbacks.report(token, headers, body)
            status = reply.status
        except CallbackError as error:
            status = error.reply.status
            raise
        except Exception as error:
            status = DATABASE_UNREACHABLE.status if is_transient(error) else status
            raise
        finally:
            self._metrics.record_report(status)
        return reply
