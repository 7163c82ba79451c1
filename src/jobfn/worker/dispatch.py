"""Deliver jobs over HTTP: their headers, and the meaning of responses (contract, sections 1 and 7).

The headers and ``parse_response`` are pure. ``batching.py`` decides how many jobs share a request.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final

from starlette.datastructures import Headers

from jobfn.database.records import Job
from jobfn.errors import RequestNotSent, TransportError
from jobfn.http.batch_turns import BatchTurns
from jobfn.http.client import Response, Transport
from jobfn.telemetry.tracing import GLOBAL, Tracing
from jobfn.wire import (
    ACTOR_ID,
    CALLBACK_BATCH,
    CALLBACK_URL,
    DATABASE_ID,
    DURABLE,
    DURABLE_STEPS,
    ENTITY_ID,
    EXECUTION_ID,
    HEARTBEAT_URL,
    INSTALLATION_ID,
    JOB_ATTEMPT,
    JOB_CREATED_AT,
    JOB_ERROR,
    JOB_ID,
    JOB_OUTCOME,
    JOB_SNOOZES,
    KEEP_RESULT_SECONDS,
    LEASE_SECONDS,
    NODE_NAME,
    ORGANIZATION_ID,
    OUTCOME_PARKED,
    SETTLE_ON,
    SETTLE_ON_RESPONSE,
    WORKER_ID,
    Failure,
    StoredResult,
    is_failure,
    redact_url,
)
from jobfn.wire.delivery_batch import CONTENT_TYPE, BatchedResponse, batch_url, encode_request
from jobfn.wire.names import ACCEPT_CANCEL, CANCEL_CONTENT_TYPE
from jobfn.wire.steps import parse_waiting_for
from jobfn.wire.urls import cancel_url
from jobfn.worker.batching import Batching
from jobfn.worker.delivery import (
    Accepted,
    Busy,
    Deliverer,
    DeliveryResult,
    Failed,
    NotStarted,
    OnResult,
    Succeeded,
    Unreachable,
)
from jobfn.worker.routes import Routes
from jobfn.worker.task_limits import TaskLimits

ACCEPTED_STATUS = 202
#: A result that another job waits for is copied to that job when it is stored.
AWAITED_RESULT_SECONDS: Final = "60"
#: Timeout of telling a function that a job was cancelled.
_CANCEL_TIMEOUT_SECONDS = 5.0
BUSY_STATUSES = frozenset({429, 503})
#: Responses to a batch that ran nothing: the function does not know batches, or refuses this one as a whole.
_REFUSED_STATUSES: Final = frozenset({400, 401, 403, 404, 405, 413, 415})
#: Maximum length of the response body in an error message.
_MAX_EXCERPT_CHARACTERS = 500
#: Longest time of a Retry-After header: 31 days, as the longest window of a rate.
MAX_RETRY_AFTER_SECONDS: Final = 31 * 86_400


@dataclass(frozen=True, slots=True)
class CallbackConfig:
    """How a function settles a delivery.

    Attributes:
        callback_url: URL for the report; None: reports are not accepted.
        batch_url: URL for several reports in one request; None: not supported.
        offers_response: Whether the response settles the job if the function agrees.
        installation_id: Identity of the jobs schema; None: not sent.
        records_steps: Whether the callback server records steps of durable functions.
    """

    callback_url: str | None
    heartbeat_url: str
    lease_seconds: float
    batch_url: str | None = None
    offers_response: bool = False
    installation_id: str | None = None
    records_steps: bool = False


def delivery_headers(job: Job, *, worker_id: str, callbacks: CallbackConfig) -> dict[str, str]:
    """Return the headers of a delivery. Headers without a value are omitted."""
    return {"Content-Type": "application/json"} | worker_headers(worker_id, callbacks) | job_headers(job)


def worker_headers(worker_id: str, callbacks: CallbackConfig) -> dict[str, str]:
    """Return the headers that all jobs of a request share."""
    headers = {
        WORKER_ID: worker_id,
        HEARTBEAT_URL: callbacks.heartbeat_url,
        LEASE_SECONDS: f"{callbacks.lease_seconds:g}",
        CALLBACK_URL: callbacks.callback_url,
        CALLBACK_BATCH: callbacks.batch_url,
        SETTLE_ON: SETTLE_ON_RESPONSE if callbacks.offers_response else None,
        INSTALLATION_ID: callbacks.installation_id,
        DURABLE: DURABLE_STEPS if callbacks.records_steps else None,
    }
    return {name: value for name, value in headers.items() if value is not None}


def job_headers(job: Job) -> dict[str, str]:
    """Return the headers that depend on the job."""
    headers = {JOB_ID: str(job.id), JOB_ATTEMPT: str(job.attempt)}
    if job.created_at is not None:
        headers[JOB_CREATED_AT] = str(job.created_at)
    if job.snoozes:
        headers[JOB_SNOOZES] = str(job.snoozes)
    if job.is_awaited:
        headers[KEEP_RESULT_SECONDS] = AWAITED_RESULT_SECONDS
    optional = {DATABASE_ID: job.database_id, ACTOR_ID: job.actor_id, ENTITY_ID: job.entity_id}
    if job.organization_id is not None:
        optional[ORGANIZATION_ID] = job.organization_id
    if job.node is not None:
        optional |= {EXECUTION_ID: job.node.execution_id, NODE_NAME: job.node.name}
    return headers | {name: value for name, value in optional.items() if value is not None}


class Dispatcher(Deliverer):
    """Delivers jobs over HTTP."""

    def __init__(
        self,
        transport: Transport,
        *,
        routes: Routes,
        worker_id: str,
        callback_config: Callable[[Sequence[Job]], CallbackConfig],
        request_timeout_seconds: float,
        batching: Batching | None = None,
        limits: TaskLimits | None = None,
        tracing: Tracing = GLOBAL,
    ) -> None:
        self._transport = transport
        self._turns = BatchTurns()
        self._routes = routes
        self._worker_id = worker_id
        self._callback_config = callback_config
        self._timeout_seconds = request_timeout_seconds
        self._batching = batching
        self._limits = limits
        self._tracing = tracing

    async def deliver(self, job: Job) -> DeliveryResult:
        """POST a job to its function. See ``Deliverer.deliver``."""
        url = self._routes.url_for(job.task)
        callbacks = self._callback_config((job,))
        if job.node is not None:
            callbacks = replace(callbacks, callback_url=None, batch_url=None)
        accepts_report = callbacks.callback_url is not None
        if self._limits is not None and job.attempt > 1:
            await self._limits.learn(job.task, self._routes.index_url(job.task))
        headers = delivery_headers(job, worker_id=self._worker_id, callbacks=callbacks) | self._trace_headers(job)
        headers |= self._routes.invoke_headers(url)
        try:
            response = await self._transport.post(
                url, body=job.payload.encode(), headers=headers, timeout_seconds=self._timeout_seconds
            )
        except TransportError as error:
            if isinstance(error, RequestNotSent):
                return Unreachable(str(error))
            return Unreachable(str(error), accepts_report, self._is_last(job))
        if self._batching is not None:
            self._batching.record_response(url, job.task, response.headers)
        result = parse_response(response, url, accepts_report=accepts_report)
        if JOB_ID in response.headers:
            if self._limits is not None:
                self._limits.record_response(job.task, response.headers)
        elif isinstance(result, Failed) and self._is_last(job):
            result = replace(result, permanent=True)  # from a proxy, whose function has died
        return result if job.node is None else _node_result(result, response)

    async def cancel_accepted(self, job: Job) -> bool:
        """See ``Deliverer.cancel_accepted``."""
        url = self._routes.url_for(job.task)
        headers = {"Content-Type": CANCEL_CONTENT_TYPE, WORKER_ID: self._worker_id} | job_headers(job)
        headers |= self._routes.invoke_headers(url)
        try:
            response = await self._transport.post(
                cancel_url(url), body=b"", headers=headers, timeout_seconds=_CANCEL_TIMEOUT_SECONDS
            )
        except TransportError:
            return False
        return response.status == 200

    def batch_size(self, task: str, share: int) -> int:
        """See ``Deliverer.batch_size``."""
        if self._batching is None or (self._limits is not None and self._limits.is_last(task, 1)):
            return 1  # if the function dies, each job of a batch has lost an attempt
        return self._batching.size(self._routes.url_for(task), task, share)

    async def deliver_batch(self, jobs: Sequence[Job], on_result: OnResult) -> None:
        """POST several jobs in one request. See ``Deliverer.deliver_batch``.

        A job without an outcome in the response, for example because the function died, is ``Unreachable``.
        """
        url = self._routes.url_for(jobs[0].task)
        await self._turns.next()
        headers, body, awaits_report = self._encode_batch(jobs)
        headers |= self._routes.invoke_headers(url)
        pending = {str(job.id): job for job in jobs}
        error = f"POST {redact_url(url)}: the response to the batch had no outcome of this job"
        try:
            async with self._transport.stream(
                batch_url(url), body=body, headers=headers, timeout_seconds=self._timeout_seconds
            ) as response:
                if response.status != 200 or response.headers.get("Content-Type") != CONTENT_TYPE:
                    refusal = Response(response.status, response.headers, await response.read())
                    result = self._refused(refusal, url, accepts_report=awaits_report)
                    for job in jobs:
                        on_result(job, result)
                    return
                async for line in response.lines():
                    try:
                        outcome = BatchedResponse.from_line(line)
                        job = pending.pop(outcome.job_id)
                    except (KeyError, ValueError):
                        error = f"POST {redact_url(url)}: the response to the batch is malformed"
                        break
                    on_result(job, self._parse_outcome(outcome, url, job))
        except TransportError as broken:
            error = str(broken)
            awaits_report = awaits_report and not isinstance(broken, RequestNotSent)
        for job in pending.values():
            on_result(job, Unreachable(error, awaits_report))

    def _encode_batch(self, jobs: Sequence[Job]) -> tuple[dict[str, str], bytes, bool]:
        """Return the headers and the body of a request with several jobs, and whether reports are accepted."""
        callbacks = self._callback_config(jobs)
        shared = {"Content-Type": CONTENT_TYPE} | worker_headers(self._worker_id, callbacks)
        own = [job_headers(job) | self._trace_headers(job) for job in jobs]
        body = encode_request(zip(own, (job.payload for job in jobs), strict=True))
        return shared, body, callbacks.callback_url is not None

    def _parse_outcome(self, outcome: BatchedResponse, url: str, job: Job) -> DeliveryResult:
        if outcome.status is None:
            return NotStarted()
        if self._batching is not None and outcome.seconds is not None:
            self._batching.record_duration(job.task, outcome.seconds)
        if outcome.status == 200 and not outcome.headers:
            return _SUCCEEDED
        return parse_response(Response(outcome.status, Headers(outcome.headers), outcome.body), url)

    def _refused(self, response: Response, url: str, *, accepts_report: bool) -> DeliveryResult:
        """Return the result of all jobs in a batch whose response has no outcomes."""
        if self._batching is not None and response.status not in BUSY_STATUSES:
            self._batching.refuse(url)
        if response.status in _REFUSED_STATUSES:
            return NotStarted()
        result = parse_response(response, url, accepts_report=accepts_report)
        if isinstance(result, Succeeded | Accepted):
            error = f"{redact_url(url)} responded to a batch of jobs with {response.status} and no outcomes"
            return Failed(error, awaits_report=accepts_report)
        return result

    def _is_last(self, job: Job) -> bool:
        """Return whether the job's task allows no further attempt."""
        return self._limits is not None and self._limits.is_last(job.task, job.attempt - job.snoozes)

    def _trace_headers(self, job: Job) -> dict[str, str]:
        trace = self._tracing.propagate(job.trace)
        return {} if trace is None else trace.headers()


_SUCCEEDED: Final = Succeeded()


def parse_response(response: Response, url: str, *, accepts_report: bool = False) -> DeliveryResult:
    """Return what a function's response means for the job (contract, sections 2 and 7).

    Args:
        response: The response.
        url: The function's URL, for error messages.
        accepts_report: Whether a report takes precedence, unless the function leaves it to the response.
    """
    if response.status in BUSY_STATUSES and JOB_ERROR not in response.headers:
        return Busy(_error_message(response, url), _parse_retry_after(response.headers))
    awaits_report = accepts_report and response.headers.get(SETTLE_ON) != SETTLE_ON_RESPONSE
    if is_failure(response.status, response.headers):
        failure = Failure.from_json(response.body)
        error = failure.error or _error_message(response, url)
        return Failed(
            error,
            failure.permanent,
            failure.retry_after_seconds,
            awaits_report,
            failure.snooze_max_age_seconds,
            failure.traceback,
        )
    if response.status == ACCEPTED_STATUS:
        return Accepted(ACCEPT_CANCEL in response.headers)
    if response.headers.get(JOB_OUTCOME) == OUTCOME_PARKED:
        try:
            return Succeeded(awaits_report=awaits_report, waiting_for=parse_waiting_for(response.body))
        except ValueError as error:
            return Failed(
                f"{redact_url(url)} parked the job with an invalid response: {error}", True, None, awaits_report
            )
    return Succeeded(StoredResult.from_response(response.headers, response.body), awaits_report)


def _node_result(result: DeliveryResult, response: Response) -> DeliveryResult:
    """Return the result of a flow graph's node: any 2xx completes it, and the body is its output."""
    if not isinstance(result, Succeeded | Accepted):
        return result
    text = response.body.decode("utf-8", "replace")
    try:
        output = "{}" if json.loads(text) is None else text
    except ValueError:
        output = json.dumps(text) if text else "{}"
    return Succeeded(result.kept if isinstance(result, Succeeded) else None, output=output)


def _parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return a Retry-After header in seconds, at most ``MAX_RETRY_AFTER_SECONDS``; None if it is missing or invalid.

    A date counts from the response's own date, so that the clocks of the two machines do not matter.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdecimal():
        return float(min(int(text[:10]), MAX_RETRY_AFTER_SECONDS))
    try:
        seconds = (parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(seconds, 0.0), float(MAX_RETRY_AFTER_SECONDS))


def _error_message(response: Response, url: str) -> str:
    body = response.body.decode("utf-8", "replace").strip()
    excerpt = f": {body[:_MAX_EXCERPT_CHARACTERS]}" if body else ""
    return f"{redact_url(url)} responded with {response.status}{excerpt}"
