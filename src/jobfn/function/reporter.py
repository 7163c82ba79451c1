"""Report outcomes to the callback server: one report per delivery, retried until it is acknowledged.

A report is retried after a connection error or a 5xx, with growing delays, for as long as the job's lease can last
without its worker. Any other response ends the attempts: the callback server has decided.
"""

import asyncio
import functools
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from jobfn.errors import DurableError, TransportError
from jobfn.function.context import Progress
from jobfn.function.metrics import FunctionMetrics
from jobfn.function.report_batcher import ReportBatcher
from jobfn.function.retries import send_until_answered
from jobfn.http.client import Response, Transport
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import MAX_URL_CHARACTERS, JobHeaders, Report, redact_url, report_url
from jobfn.wire.names import CONFLICT_STATUS, DOCTOR_WORKER_ID
from jobfn.wire.report_batch import BatchedReport

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from jobfn.function.durable.clients import HttpSteps

#: Maximum number of reports in flight to all callback servers together, and to one of them.
MAX_REPORTS = 10_000
MAX_REPORTS_PER_ORIGIN = 2_000
#: Maximum time for which a report is retried, unless ``JOBFN_REPORT_TIMEOUT_SECONDS`` is set.
MAX_RETRY_SECONDS = 3600.0
#: Maximum number of connections to one callback server, so that one that does not respond leaves some to others.
MAX_CONNECTIONS_PER_HOST = 50
#: Maximum size of the request and of the response of steps that share a request with others.
MAX_BATCHED_STEPS_BYTES = 4096
#: A lease is renewed this many times before it would expire. The interval is also the timeout of a heartbeat.
HEARTBEATS_PER_LEASE = 3
_ATTEMPT_TIMEOUT_SECONDS = 10.0
#: Assumed lease of a worker that does not send one.
_DEFAULT_LEASE_SECONDS = 30.0


class HeartbeatReply(NamedTuple):
    """The reply to a heartbeat: its HTTP status, and whether the job was cancelled."""

    status: int
    is_cancelled: bool


class CallbackServerError(TransportError):
    """The callback server answered with a 5xx."""


class Reporter:
    """Sends reports and heartbeats, and keeps track of the reports in flight.

    Args:
        transport: Sends the requests.
        report_timeout_seconds: How long a report is retried; None: for the delivery's lease, or 30 seconds if the
            worker does not send one.
        allowed_hosts: Hosts that reports may go to: ``name``, ``name:port`` or ``*.domain``; empty: any host.
        metrics: Counts reports. Default: not exposed.
        tracing: Creates spans.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        report_timeout_seconds: float | None,
        allowed_hosts: Sequence[str] = (),
        metrics: FunctionMetrics | None = None,
        tracing: Tracing = GLOBAL,
    ) -> None:
        self._metrics = metrics or FunctionMetrics()
        self._tracing = tracing
        self._allowed_hosts = tuple(allowed_hosts)
        self._report_timeout_seconds = report_timeout_seconds
        self._in_flight: set[asyncio.Task[None]] = set()
        self._per_origin: dict[str, int] = {}
        self.use_transport(transport)

    def use_transport(self, transport: Transport) -> None:
        """Send all further requests through another transport."""
        self._transport = transport
        self._batcher = ReportBatcher(transport, timeout_seconds=_ATTEMPT_TIMEOUT_SECONDS)

    def timeout_seconds(self, headers: JobHeaders) -> float:
        """Return how long a report of this delivery is retried."""
        if self._report_timeout_seconds is not None:
            return self._report_timeout_seconds
        return min(headers.lease_seconds or _DEFAULT_LEASE_SECONDS, MAX_RETRY_SECONDS)

    async def report(self, headers: JobHeaders, report: Report, *, wait_seconds: float) -> None:
        """Send a delivery's report. Does nothing if worker, job or callback URL is missing.

        Returns after at most ``wait_seconds``. Then, or if the caller is cancelled, it is retried in the background.
        """
        if headers.callback_url is None or not headers.reportable:
            return
        target = self._allowed_target("report", headers.callback_url, headers)
        if target is None:
            self._metrics.reports.add("refused")
            return
        origin = _origin(target)
        to_origin = self._per_origin.get(origin, 0)
        if len(self._in_flight) >= MAX_REPORTS or to_origin >= MAX_REPORTS_PER_ORIGIN:
            self._metrics.reports.add("refused")
            self._log.error(
                "report not sent: too many are in flight, the response or the lease settles the job",
                job=headers.job_id,
                url=redact_url(target),
            )
            return
        sender = asyncio.create_task(self._send(target, headers, report))
        self._in_flight.add(sender)
        self._per_origin[origin] = to_origin + 1
        sender.add_done_callback(functools.partial(self._remove, origin))
        await asyncio.wait({sender}, timeout=wait_seconds)

    def _remove(self, origin: str, sender: "asyncio.Task[None]") -> None:
        self._in_flight.discard(sender)
        if self._per_origin[origin] > 1:
            self._per_origin[origin] -= 1
        else:
            del self._per_origin[origin]

    async def send_heartbeat(self, headers: JobHeaders, progress: Progress | None) -> "HeartbeatReply | None":
        """Send one heartbeat, without retries. Return the reply; None if it cannot be sent."""
        content = {} if progress is None else {"progress": progress.fraction, "note": progress.message}
        return await self._post_heartbeat(headers, content)

    async def ask_if_cancelled(self, headers: JobHeaders) -> bool:
        """Return whether a job was cancelled, without renewing its lease.

        Raises:
            TransportError: The callback server did not answer within the timeout of reports.
        """

        async def ask() -> HeartbeatReply | None:
            reply = await self._post_heartbeat(headers, {"renew": False})
            if reply is not None and reply.status >= 500:
                raise CallbackServerError(f"the callback server answered a heartbeat with {reply.status}")
            return reply

        reply = await send_until_answered(ask, timeout_seconds=self.timeout_seconds(headers))
        return reply is not None and reply.is_cancelled

    def report_ended(self, headers: JobHeaders) -> None:
        """Tell the callback server, in the background, that the handler of a cancelled job has ended.

        Until then, or until the end of its lease, the job keeps its slots of limits and its named queue.
        """
        if len(self._in_flight) < MAX_REPORTS:
            sender = asyncio.create_task(self._send_ended(headers))
            self._in_flight.add(sender)
            sender.add_done_callback(self._in_flight.discard)

    async def _send_ended(self, headers: JobHeaders) -> None:
        async def send() -> None:
            reply = await self._post_heartbeat(headers, {"renew": False, "ended": True})
            if reply is not None and reply.status >= 500:
                raise CallbackServerError(f"the callback server answered a heartbeat with {reply.status}")

        try:
            await send_until_answered(send, timeout_seconds=self.timeout_seconds(headers))
        except TransportError as error:
            self._log.warning("end of a cancelled job not reported", job=headers.job_id, reason=str(error))

    async def _post_heartbeat(self, headers: JobHeaders, content: Mapping[str, object]) -> "HeartbeatReply | None":
        if headers.heartbeat_url is None or headers.job_id is None or headers.worker_id is None:
            return None
        target = self._allowed_target("heartbeat", headers.heartbeat_url, headers)
        if target is None:
            return None
        response = await self._transport.post(
            target,
            body=json.dumps({name: value for name, value in content.items() if value is not None}).encode("ascii"),
            headers=dict(headers.echo) | {"Content-Type": "application/json"},
            timeout_seconds=min(
                _ATTEMPT_TIMEOUT_SECONDS, (headers.lease_seconds or _ATTEMPT_TIMEOUT_SECONDS) / HEARTBEATS_PER_LEASE
            ),
        )
        return HeartbeatReply(response.status, _says_cancelled(response))

    def open_steps(self, headers: JobHeaders) -> "HttpSteps":
        """Return a client for the steps of a delivery."""
        from jobfn.function.durable.clients import HttpSteps  # noqa: PLC0415  - only for durable functions

        return HttpSteps(self, headers)

    async def send_steps(self, headers: JobHeaders, url: str, body: bytes, *, max_bytes: int) -> tuple[int, object]:
        """Send steps once. Return the HTTP status and the body of the response, or its JSON.

        Small requests that are ready at the same time share a request, as reports do.

        Raises:
            DurableError: The URL is invalid or not allowed.
            TransportError: There was no response.
        """
        target = self._allowed_target("step", url, headers)
        if target is None:
            raise DurableError("steps cannot be recorded at X-Heartbeat-Url: the function's log says why")
        request_headers = dict(headers.echo) | {"Content-Type": "application/json"}
        if max_bytes <= MAX_BATCHED_STEPS_BYTES and _same_origin(headers.callback_batch, target):
            reply = await self._batcher.post(headers.callback_batch or "", BatchedReport(target, request_headers, body))
            if reply is not None:
                return reply.status, reply.content
        async with self._transport.stream(
            target, body=body, headers=request_headers, timeout_seconds=_ATTEMPT_TIMEOUT_SECONDS
        ) as response:
            return response.status, await response.read(max_bytes)

    async def send_progress(self, headers: JobHeaders, progress: Progress) -> bool:
        """Send one heartbeat for a handler. Return whether the job was cancelled. A failure is only logged."""
        try:
            reply = await self.send_heartbeat(headers, progress)
        except TransportError as error:
            self._log.warning("progress not sent", job=headers.job_id, reason=str(error))
            return False
        return reply is not None and reply.is_cancelled

    def _allowed_target(self, kind: str, url: str, headers: JobHeaders) -> str | None:
        """Return the URL that a report to ``url`` goes to; None, with a log line, if it is invalid or not allowed."""
        try:
            target = report_url(url)
            parts = urlsplit(target)
            host = parts.hostname or ""
            names = {host, f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"}
            if self._allowed_hosts and not any(
                pattern in names or (pattern.startswith("*.") and host.endswith(pattern[1:]))
                for pattern in self._allowed_hosts
            ):
                raise ValueError(f"{host} is not allowed: add it to JOBFN_CALLBACK_ALLOWED_HOSTS")  # noqa: TRY301
        except ValueError as error:
            self._log.error(f"{kind} not sent", job=headers.job_id, reason=str(error))
            return None
        return target

    async def drain(self, *, timeout_seconds: float) -> None:
        """Wait for the reports in flight; abandon those that exceed the timeout."""
        if not self._in_flight:
            return
        _, unfinished = await asyncio.wait(set(self._in_flight), timeout=timeout_seconds)
        for sender in unfinished:
            sender.cancel()
        if unfinished:
            await asyncio.wait(unfinished)

    @property
    def _log(self) -> "FilteringBoundLogger":
        """The logger, created on use: structlog is imported with the first line."""
        return logs.get_logger("jobfn.report")

    async def _send(self, target: str, headers: JobHeaders, report: Report) -> None:
        result = "abandoned"
        try:
            if self._tracing.is_on:
                with self._tracing.open("report", kind="client", ids={"job": headers.job_id or 0}):
                    status = await self._send_until_acknowledged(target, headers, report)
            else:
                status = await self._send_until_acknowledged(target, headers, report)
        except TransportError as error:
            self._log.error(
                "report abandoned: the response or the lease settles the job", job=headers.job_id, reason=str(error)
            )
        except asyncio.CancelledError:
            self._log.error("report abandoned: process is stopping", job=headers.job_id)
            raise
        except Exception as error:  # noqa: BLE001  - must not fail the delivery; the response or the lease settles it
            self._log.error("report failed", job=headers.job_id, url=redact_url(target), exc_info=error)
        else:
            result = "acknowledged"
            if status == CONFLICT_STATUS:
                result = "conflict"
                if headers.worker_id != DOCTOR_WORKER_ID:  # reports on a job that does not exist
                    self._log.warning(
                        "report conflict: the job was settled already or claimed by another worker", job=headers.job_id
                    )
            elif not 200 <= status < 300:
                result = "refused"
                self._log.error(
                    "report refused: check X-Callback-Url", job=headers.job_id, url=redact_url(target), status=status
                )
        finally:
            self._metrics.reports.add(result)

    async def _send_until_acknowledged(self, target: str, headers: JobHeaders, report: Report) -> int:
        """Return the first HTTP status below 500."""
        trace = self._tracing.propagate(headers.trace)
        report_headers = report.headers(headers.echo) | (trace.headers() if trace is not None else {})
        batch_url = headers.callback_batch if _same_origin(headers.callback_batch, target) else None
        single = BatchedReport(target, report_headers, report.body())
        reason = ""

        def log_failure(error: TransportError) -> None:
            nonlocal reason
            if str(error) != reason:
                reason = str(error)
                self._log.warning("report not acknowledged: retrying", job=headers.job_id, reason=reason)

        return await send_until_answered(
            lambda: self._post(single, batch_url),
            timeout_seconds=self.timeout_seconds(headers),
            on_failure=log_failure,
            on_retry=self._metrics.report_retries.add,
        )

    async def _post(self, report: BatchedReport, batch_url: str | None) -> int:
        reply = await self._batcher.post(batch_url, report) if batch_url is not None else None
        if reply is not None:
            status = reply.status
        else:
            response = await self._transport.post(
                report.url, body=report.body, headers=report.headers, timeout_seconds=_ATTEMPT_TIMEOUT_SECONDS
            )
            status = response.status
        if status >= 500:
            raise CallbackServerError(f"POST {redact_url(report.url)} was answered with {status}")
        return status


def _says_cancelled(response: Response) -> bool:
    if response.status != CONFLICT_STATUS:
        return False
    try:
        content = json.loads(response.body)
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("cancelled") is True


def _same_origin(url: str | None, target: str) -> bool:
    """Whether a batch goes to the scheme and host of its reports: others may not be allowed, or not encrypted."""
    return url is not None and len(url) <= MAX_URL_CHARACTERS and _origin(url) == _origin(target)


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])
