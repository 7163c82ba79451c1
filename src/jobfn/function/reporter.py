"""Telling the callback server how a delivery ended: one report each, tried until it is heard.

A report is sent again after a connection error or a 5xx, with growing pauses, for as long as the job's lease can hold
without its worker. Any other answer ends it: the callback server understood and will not change its mind.
"""

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobfn.errors import TransportError
from jobfn.function.context import Progress
from jobfn.function.metrics import FunctionMetrics
from jobfn.function.report_batcher import ReportBatcher
from jobfn.http.client import Transport
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import JobHeaders, Report, redact_url, report_url
from jobfn.wire.report_batch import BatchedReport

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

CONFLICT = 409
#: A lease is renewed so many times before it would end, and each sign of life may take as long as there is between two.
HEARTBEATS_PER_LEASE = 3
_ATTEMPT_TIMEOUT_SECONDS = 10.0
#: What a worker that tells of no lease is taken to have.
_DEFAULT_LEASE_SECONDS = 30.0
_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0


class CallbackServerError(TransportError):
    """The callback server answered 5xx: it is there, and in trouble."""


class Reporter:
    """Sends reports and remembers those that are still under way.

    Args:
        transport: What carries them.
        report_timeout_seconds: How long one report is tried, in seconds; None: as long as the delivery's lease, or 30 seconds
            where the worker told of none.
        allow: Hosts that reports may go to: ``name``, ``name:port`` or ``*.domain``; empty: any.
        measures: What is counted. Default: nobody looks.
        tracing: Makes spans.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        report_timeout_seconds: float | None,
        allow: Sequence[str] = (),
        measures: FunctionMetrics | None = None,
        tracing: Tracing = GLOBAL,
    ) -> None:
        self._measures = measures or FunctionMetrics()
        self._tracing = tracing
        self._transport = transport
        self._allow = tuple(allow)
        self._report_seconds = report_timeout_seconds
        self._together = ReportBatcher(transport, try_seconds=_ATTEMPT_TIMEOUT_SECONDS)
        self._under_way: set[asyncio.Task[None]] = set()

    def seconds_for(self, headers: JobHeaders) -> float:
        """How long a report of this delivery is tried, in seconds."""
        if self._report_seconds is not None:
            return self._report_seconds
        return headers.lease_seconds or _DEFAULT_LEASE_SECONDS

    def through(self, transport: Transport) -> None:
        """Let another transport carry what is sent from now on."""
        self._transport = transport
        self._together = ReportBatcher(transport, try_seconds=_ATTEMPT_TIMEOUT_SECONDS)

    async def report(self, headers: JobHeaders, report: Report, *, wait_seconds: float) -> None:
        """Send a delivery's report, if it can be: without worker, job and callback URL there is none to send.

        Args:
            headers: The delivery's.
            report: What to say.
            wait_seconds: Return after this long even if it has not been heard; it is tried on in the background,
                as it is when the caller is cancelled.
        """
        if headers.callback_url is None or not headers.reportable:
            return
        try:
            target = self._target(headers.callback_url)
        except ValueError as error:
            self._log.error("report not sent", job=headers.job_id, reason=str(error))
            self._measures.reports.add("refused")
            return
        sending = asyncio.create_task(self._send(target, headers, report))
        self._under_way.add(sending)
        sending.add_done_callback(self._under_way.discard)
        await asyncio.wait({sending}, timeout=wait_seconds)

    async def beat(self, headers: JobHeaders, progress: Progress | None) -> int | None:
        """Send one sign of life, once. Returns the answer's status; None where nobody listens.

        Raises:
            TransportError: No answer came.
        """
        if headers.heartbeat_url is None or headers.job_id is None or headers.worker_id is None:
            return None
        try:
            target = self._target(headers.heartbeat_url)
        except ValueError as error:
            self._log.error("sign of life not sent", job=headers.job_id, reason=str(error))
            return None
        told = {"progress": progress.share, "note": progress.note} if progress is not None else {}
        body = json.dumps({name: value for name, value in told.items() if value is not None}).encode("ascii")
        sent = dict(headers.echo) | {"Content-Type": "application/json"}
        seconds = min(
            _ATTEMPT_TIMEOUT_SECONDS, (headers.lease_seconds or _ATTEMPT_TIMEOUT_SECONDS) / HEARTBEATS_PER_LEASE
        )
        answer = await self._transport.post(target, body=body, headers=sent, timeout_seconds=seconds)
        return answer.status

    async def tell(self, headers: JobHeaders, progress: Progress) -> None:
        """Send one sign of life for a handler, which goes on with its work whether it is heard or not."""
        try:
            await self.beat(headers, progress)
        except TransportError as error:
            self._log.warning("progress not heard", job=headers.job_id, reason=str(error))

    def _target(self, url: str) -> str:
        """Where a report to this URL goes.

        Raises:
            ValueError: It is no URL, or its host is none of those that ``JOBFN_CALLBACK_ALLOWED_HOSTS`` names.
        """
        target = report_url(url)
        parts = urlsplit(target)
        host = parts.hostname or ""
        names = {host, f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"}
        if self._allow and not any(
            pattern in names or (pattern.startswith("*.") and host.endswith(pattern[1:])) for pattern in self._allow
        ):
            raise ValueError(f"{host} is none of the hosts that JOBFN_CALLBACK_ALLOWED_HOSTS names")
        return target

    async def drain(self, *, seconds: float) -> None:
        """Wait until every report under way was heard or given up; give up the rest after so many seconds."""
        if not self._under_way:
            return
        _, left = await asyncio.wait(set(self._under_way), timeout=seconds)
        for sending in left:
            sending.cancel()
        if left:
            await asyncio.wait(left)

    @property
    def _log(self) -> "FilteringBoundLogger":
        """Only who has something to say loads what says it."""
        return logs.get_logger("jobfn.report")

    async def _send(self, target: str, headers: JobHeaders, report: Report) -> None:
        result = "given_up"
        try:
            if self._tracing.is_on:
                with self._tracing.open("report", kind="client", ids={"job": headers.job_id or 0}):
                    status = await self._heard(target, headers, report)
            else:
                status = await self._heard(target, headers, report)
        except TransportError as error:
            self._log.error(
                "report given up: the response, or the job's lease, decides", job=headers.job_id, reason=str(error)
            )
        except asyncio.CancelledError:
            self._log.error("report given up: the process stops", job=headers.job_id)
            raise
        except Exception as error:  # noqa: BLE001  - logged; the response, or the lease, decides
            self._log.error("report broke", job=headers.job_id, url=redact_url(target), exc_info=error)
        else:
            result = "heard"
            if status == CONFLICT:
                result = "too_late"
                self._log.warning("report too late: the job was settled or given to somebody else", job=headers.job_id)
            elif not 200 <= status < 300:
                result = "refused"
                self._log.error(
                    "report refused: check X-Callback-Url",
                    job=headers.job_id,
                    url=redact_url(target),
                    status=status,
                )
        finally:
            self._measures.reports.add(result)

    async def _heard(self, target: str, headers: JobHeaders, report: Report) -> int:
        """The status that a callback server answers with which is not in trouble.

        Raises:
            TransportError: The time for it is over.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.seconds_for(headers)
        trace = self._tracing.propagate(headers.trace)
        sent = report.headers(headers.echo) | (trace.headers() if trace is not None else {})
        batch_url = headers.callback_batch if _same_origin(headers.callback_batch, target) else None
        alone = BatchedReport(target, sent, report.body())
        try:
            return await self._post(alone, batch_url)
        except TransportError as error:
            left = deadline - clock()
            if left <= 0:
                raise
            self._log.warning("report not heard, trying again", job=headers.job_id, reason=str(error))
        import stamina  # noqa: PLC0415  - only who retries pays for it

        async for attempt in stamina.retry_context(
            on=TransportError,
            attempts=None,
            timeout=left,
            wait_initial=_FIRST_PAUSE_SECONDS,
            wait_max=_MAX_PAUSE_SECONDS,
        ):
            with attempt:
                self._measures.report_retries.add()
                return await self._post(alone, batch_url)
        raise AssertionError("stamina ends by returning or by raising")  # pragma: no cover

    async def _post(self, report: BatchedReport, batch_url: str | None) -> int:
        status = await self._together.post(batch_url, report) if batch_url is not None else None
        if status is None:
            answer = await self._transport.post(
                report.url, body=report.body, headers=report.headers, timeout_seconds=_ATTEMPT_TIMEOUT_SECONDS
            )
            status = answer.status
        if status >= 500:
            raise CallbackServerError(f"POST {redact_url(report.url)} was answered with {status}")
        return status


def _same_origin(url: str | None, target: str) -> bool:
    """Whether a batch goes where its reports would go: another place was not asked for, and is perhaps not allowed."""
    return url is not None and url.partition("//")[2].partition("/")[0] == target.partition("//")[2].partition("/")[0]
