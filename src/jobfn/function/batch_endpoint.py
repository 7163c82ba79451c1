"""``BatchEndpoint``: several jobs of one task in one request (``wire/delivery_batch.py``; contract, section 7).

The jobs run one after the other, each with its own headers, payload, span and outcome, so a batch occupies no more
concurrency than a single delivery. Outcomes are sent together when all jobs have run. If that takes longer than
``MAX_SECONDS``, the outcomes so far are sent at once, the jobs that have not started go back to the worker, and the
outcome of the running one follows.
"""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Iterable, Mapping
from time import perf_counter
from typing import Final

from starlette.types import Message, Receive, Scope, Send

from jobfn.errors import BadRequest, PayloadTooLarge, RequestError, UnknownTask
from jobfn.function.delivery import DeliveryRunner, can_respond
from jobfn.function.execution import AnyTask, refused
from jobfn.function.instrumentation import DeliverySpan
from jobfn.function.isolated import run_in_context
from jobfn.function.outcome import DeliveryOutcome
from jobfn.http.batch_turns import BatchTurns
from jobfn.http.messages import is_disconnect, read_body, send_response
from jobfn.wire import JOB_ID, JobHeaders, extract_job_headers
from jobfn.wire.delivery_batch import (
    BATCH_PATH_SUFFIX,
    CONTENT_TYPE,
    MAX_REQUEST_BYTES,
    MAX_SECONDS,
    YIELD_SECONDS,
    BatchedDelivery,
    BatchedResponse,
    decode_request,
)

_CONTENT_TYPE: Final = CONTENT_TYPE.encode("ascii")
_HEADERS: Final = [(b"content-type", _CONTENT_TYPE)]


class BatchEndpoint:
    """Responds to requests with several jobs."""

    def __init__(self, runner: DeliveryRunner) -> None:
        self._runner = runner
        self._turns = BatchTurns()

    @staticmethod
    def matches(scope: Scope, path: str) -> bool:
        """Return whether a request is a batch."""
        return path.endswith(BATCH_PATH_SUFFIX) and dict(scope["headers"]).get(b"content-type") == _CONTENT_TYPE

    async def respond(self, scope: Scope, receive: Receive, send: Send, task: AnyTask | None, path: str) -> None:
        """Run the jobs of a request and send their outcomes. Nothing runs if the request itself is invalid."""
        try:
            is_trusted = self._runner.authorize(scope)
            if task is None:
                raise UnknownTask(f"No task at {path}: send its jobs one by one for the list of known tasks")
            body = await read_body(receive, limit=MAX_REQUEST_BYTES)
            try:
                deliveries = list(decode_request(body))
            except ValueError as error:
                raise BadRequest(f"The body is not a batch of jobs: {error}") from None
        except RequestError as error:
            if isinstance(error, PayloadTooLarge):
                error = PayloadTooLarge(f"The batch is over {MAX_REQUEST_BYTES} bytes: send fewer jobs")
            outcome = refused(error)
            headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(outcome.body))]
            unread = None
            if isinstance(error, PayloadTooLarge):
                headers.append((b"connection", b"close"))
                unread = receive
            await send_response(send, outcome.status_code, headers, outcome.body, unread=unread)
            return
        shared = extract_job_headers(scope["headers"])
        run = _BatchRun(
            self._runner, task, shared, deliveries, self._turns, is_trusted=is_trusted, receive=receive, send=send
        )
        await run.run()


class _BatchRun:
    """One request with several jobs."""

    def __init__(
        self,
        runner: DeliveryRunner,
        task: AnyTask,
        shared_headers: Mapping[str, str],
        deliveries: Iterable[BatchedDelivery],
        turns: BatchTurns,
        *,
        is_trusted: bool,
        receive: Receive,
        send: Send,
    ) -> None:
        self._runner = runner
        self._is_trusted = is_trusted
        self._task = task
        self._shared_headers = shared_headers
        self._waiting = deque(deliveries)
        self._turns = turns
        self._receive = receive
        self._send = send
        request = asyncio.current_task()
        assert request is not None  # noqa: S101  - ASGI servers run apps in tasks
        self._request = request
        self._lines: list[bytes] = []
        self._unsent: list[tuple[contextvars.Context, JobHeaders, DeliveryOutcome]] = []
        self._streaming: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Run the jobs and send their outcomes."""
        # If the server stops, what has run is reported below, and the caller raises the cancellation again.
        with contextlib.suppress(asyncio.CancelledError):
            await self._turns.next()
            timer = asyncio.get_running_loop().call_later(MAX_SECONDS, self._start_streaming)
            try:
                await self._run_jobs()
            finally:
                timer.cancel()
            if self._streaming is not None:
                await asyncio.wait({self._streaming})
            elif self._request.cancelling():
                await asyncio.sleep(0)  # a cancellation that no job has met is raised here
        self._return_waiting()
        await self._send_lines(is_last=True)

    async def _run_jobs(self) -> None:
        started_at = yielded_at = perf_counter()
        while self._waiting:
            # In its own context, as in its own request: handlers bind log fields and set variables.
            await run_in_context(contextvars.copy_context(), self._run_job(self._waiting.popleft()))
            now = perf_counter()
            if now - started_at > MAX_SECONDS or self._request.cancelling():
                return
            if now - yielded_at > YIELD_SECONDS:
                await self._turns.next()
                yielded_at = perf_counter()

    async def _run_job(self, delivery: BatchedDelivery) -> None:
        raw_headers = {**self._shared_headers, **delivery.headers}
        task = self._task
        with DeliverySpan(self._runner.instrumentation, raw_headers, task.identifier, "") as span:
            started_at = perf_counter()
            try:
                headers = JobHeaders.parse(raw_headers)
            except RequestError as error:
                headers, outcome = JobHeaders.parse_lenient(raw_headers), refused(error)
            else:
                outcome = await self._runner.run(
                    task, headers, delivery.payload, self._receive, is_trusted=self._is_trusted
                )
            seconds = outcome.planned_seconds(perf_counter() - started_at)
            span.record(outcome)
            if headers.offers_response:
                self._unsent.append((contextvars.copy_context(), headers, outcome))
            else:
                await self._runner.report(headers, outcome)
        result = outcome.report.stored_result
        is_read = (
            outcome.status_code != 200
            or outcome.report.status == "parked"
            or (result is not None and result.problem is None)
        )
        body = outcome.body if is_read else b""
        line = BatchedResponse(_job_id(delivery), outcome.status_code, seconds, outcome.headers(), body).to_line()
        self._lines.append(line)

    def _return_waiting(self) -> None:
        """Start no further job, and tell the worker which ones were not started."""
        self._lines += [BatchedResponse(_job_id(delivery), None).to_line() for delivery in self._waiting]
        self._waiting.clear()

    def _start_streaming(self) -> None:
        self._return_waiting()
        self._streaming = asyncio.create_task(self._send_lines(is_last=False))

    async def _send_lines(self, *, is_last: bool) -> None:
        """Send the outcomes that are ready; report them if the worker has disconnected."""
        body, unsent = b"".join(self._lines), self._unsent
        self._lines, self._unsent = [], []
        if unsent and not await can_respond(self._receive, self._request):
            reports = [
                asyncio.create_task(self._runner.report(headers, outcome), context=context)
                for context, headers, outcome in unsent
            ]
            await asyncio.wait(reports)
        if is_last and self._streaming is None:
            await send_response(self._send, 200, [*_HEADERS, (b"content-length", b"%d" % len(body))], body)
            return
        if not is_last:
            await self._send_part({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
        await self._send_part({"type": "http.response.body", "body": body, "more_body": not is_last})

    async def _send_part(self, message: Message) -> None:
        try:
            await self._send(message)
        except (OSError, RuntimeError) as error:
            if not is_disconnect(error):
                raise


def _job_id(delivery: BatchedDelivery) -> str:
    return delivery.headers.get(JOB_ID, "")
