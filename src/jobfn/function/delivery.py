"""Run one delivery, from its job headers and body to its outcome, and settle it by report or response.

``asgi_app.py`` delivers one job per request, ``batch_endpoint.py`` several. Both end here.
"""

import asyncio
import functools
import hmac
from typing import Any, Final

from starlette.types import Receive, Scope

from jobfn.errors import PayloadTooLarge, Unauthorized
from jobfn.function import outcome as outcomes
from jobfn.function.background import BackgroundRunner
from jobfn.function.cancellation import DisconnectWatcher, cancel_handler
from jobfn.function.context import JobContext, Progress
from jobfn.function.durable.support import DurableSupport
from jobfn.function.execution import AnyTask, Executor, refused
from jobfn.function.metrics import Instrumentation
from jobfn.function.outcome import ACCEPTED_STATUS, NO_REPORT_STATUSES, DeliveryOutcome
from jobfn.function.reporter import Reporter
from jobfn.function.retry_policy import NO_RETRY
from jobfn.function.settings import FunctionSettings
from jobfn.http.messages import LOCAL_REQUEST, is_disconnected
from jobfn.wire import INVOKE_SECRET, JobHeaders

_INVOKE_SECRET: Final = INVOKE_SECRET.lower().encode("ascii")


class DeliveryRunner:
    """Runs deliveries of one function app."""

    def __init__(
        self, *, settings: FunctionSettings, reporter: Reporter, instrumentation: Instrumentation, executor: Executor
    ) -> None:
        self.instrumentation = instrumentation
        self._settings = settings
        self._reporter = reporter
        self._executor = executor
        grace_seconds = settings.cancel_grace_seconds
        self._background = BackgroundRunner(
            reporter, max_jobs=settings.max_background_jobs, cancel_grace_seconds=grace_seconds
        )
        self._disconnects = DisconnectWatcher(reporter, grace_seconds=grace_seconds)

    def authorize(self, scope: Scope) -> bool:
        """Check the invoke secret of a request. Compares all secrets, in constant time.

        Returns:
            Whether the job headers of the caller may be believed: it has a secret, or is on this machine.

        Raises:
            Unauthorized: The function has secrets, and the request has none of them.
        """
        secrets = self._settings.invoke_secrets
        if not secrets:
            return self._settings.db_any_caller or LOCAL_REQUEST in scope
        sent = next((value for name, value in scope["headers"] if name == _INVOKE_SECRET), b"")
        matches = [hmac.compare_digest(sent, secret.encode()) for secret in secrets]
        if not any(matches):
            raise Unauthorized(f"{INVOKE_SECRET} is missing or wrong: send the function's secret")
        return True

    async def run(
        self, task: AnyTask, headers: JobHeaders, body: bytes, receive: Receive, *, is_trusted: bool
    ) -> DeliveryOutcome:
        """Return the outcome of a delivery, which is 202 for a background job.

        Args:
            task: The task.
            headers: The job headers.
            body: The payload.
            receive: ASGI's.
            is_trusted: What ``authorize`` returned.
        """
        if len(body) > self._settings.max_body_bytes:
            return self.payload_too_large()
        context = JobContext.from_headers(task.identifier, headers)
        if headers.heartbeat_url is not None:
            context.on_progress = functools.partial(self._send_progress, headers, context)
        if task.takes_context or headers.keep_result_seconds is not None:
            context._support = DurableSupport(  # noqa: SLF001  - not part of the context's public API
                None if headers.durable is None else functools.partial(self._reporter.open_steps, headers),
                headers.attempt != 1,
                headers.keep_result_seconds,
            )
        if not is_trusted:
            context._refuse_db()  # noqa: SLF001  - not part of the context's public API
        payload = self._executor.decode(task, body, context)
        if isinstance(payload, DeliveryOutcome):
            return payload
        if task.background and not headers.settled_by_response:
            return self._start_in_background(task, payload, context, headers)
        if headers.heartbeat_url is None:
            return await self._executor.run(task, payload, context)
        self._disconnects.add(receive, headers, context)
        try:
            return await self._executor.run(task, payload, context)
        finally:
            self._disconnects.remove(context)
            if context.cancelled:
                self._on_cancelled_ended(context, headers)

    def payload_too_large(self) -> DeliveryOutcome:
        """Return the outcome of a payload that exceeds the limit."""
        limit = self._settings.max_body_bytes
        message = f"The body is over {limit} bytes (JOBFN_MAX_BODY_BYTES): send a reference instead of the data"
        return refused(PayloadTooLarge(message), NO_RETRY)

    async def settle(self, headers: JobHeaders, outcome: DeliveryOutcome, receive: Receive) -> bool:
        """Return whether the response may settle the job. Otherwise send the report, if the outcome has one.

        The response may if the worker offers it. If the worker has disconnected or this request is being cancelled,
        the response would be lost, and with it the work that is done: then the report goes out.
        """
        if outcome.status_code == ACCEPTED_STATUS:
            return False
        if headers.offers_response and (outcome.status_code in NO_REPORT_STATUSES or await can_respond(receive)):
            return True
        if headers.callback_url is not None:
            await self.report(headers, outcome)
        return False

    async def report(self, headers: JobHeaders, outcome: DeliveryOutcome) -> None:
        """Report an outcome to the callback server, unless it is one that has no report, or not yet."""
        if outcome.status_code not in NO_REPORT_STATUSES and outcome.status_code != ACCEPTED_STATUS:
            await self._reporter.report(headers, outcome.report, wait_seconds=self._settings.report_wait_seconds)

    def ask_if_cancelled(self, headers: JobHeaders) -> bool:
        """Ask the callback server whether a background job was cancelled. Return whether the job runs here."""
        return self._background.ask(headers)

    async def drain(self) -> None:
        """Wait for background jobs, within the shutdown timeout of the settings."""
        await self._background.drain(timeout_seconds=self._settings.shutdown_timeout_seconds)

    async def _send_progress(self, headers: JobHeaders, context: JobContext, progress: Progress) -> None:
        if await self._reporter.send_progress(headers, progress):
            cancel_handler(context, self._settings.cancel_grace_seconds)

    def _on_cancelled_ended(self, context: JobContext, headers: JobHeaders) -> None:
        if not context._runs_on:  # noqa: SLF001  - not part of the context's public API
            self._reporter.report_ended(headers)

    def _start_in_background(
        self, task: AnyTask, payload: Any, context: JobContext, headers: JobHeaders
    ) -> DeliveryOutcome:
        if self._background.is_full:
            return outcomes.busy(self._settings.max_background_jobs)

        async def run_job() -> None:
            outcome = await self._executor.run(task, payload, context)
            self.instrumentation.metrics.record_outcome(task.identifier, outcome)
            if context.cancelled:
                self._on_cancelled_ended(context, headers)
            elif not context.lease_lost:
                timeout_seconds = self._reporter.timeout_seconds(headers)
                await self._reporter.report(headers, outcome.report, wait_seconds=timeout_seconds)

        self._background.start(run_job, context, headers)
        return outcomes.accepted()


async def can_respond(receive: Receive, request: "asyncio.Task[Any] | None" = None) -> bool:
    """Return whether a response will probably arrive: the client is connected, and the server does not stop.

    Args:
        receive: ASGI's.
        request: The task of the request. Default: the current one. Its caller must raise a cancellation that arrives
            meanwhile again.
    """
    request = request or asyncio.current_task()
    try:
        return not (request is not None and request.cancelling()) and not await is_disconnected(receive)
    except asyncio.CancelledError:
        return False
