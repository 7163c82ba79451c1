"""Reports and heartbeats from functions (contract, section 2).

A report is acknowledged after its settlement is committed. If its attempt does not hold the job (any more), the reply
is a 409, and nothing changes. ``callback_app.py`` serves this over HTTP.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, Field, ValidationError

from jobfn.database.connection import is_transient
from jobfn.database.records import Heartbeat, Settlement
from jobfn.database.step_store import HeldJob
from jobfn.database.store import JobStore
from jobfn.errors import error_text
from jobfn.telemetry import logs
from jobfn.wire import (
    CALLBACK_BATCH,
    CALLBACK_URL,
    JOB_ATTEMPT,
    JOB_ERROR,
    JOB_ID,
    JOB_OUTCOME,
    OUTCOME_PARKED,
    WORKER_ID,
    Failure,
    JobHeaders,
    StoredResult,
)
from jobfn.wire.steps import StepPage, decode_request, parse_waiting_for
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.steps import StepRecorder
from jobfn.worker.tokens import CallbackTokens, Claim

UNKNOWN_ERROR = "UNKNOWN_ERROR"
ECHO_ADVICE = "return the headers that the job was delivered with"


@dataclass(frozen=True, slots=True)
class RawJson:
    """Content that is JSON text already."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to a report or a heartbeat.

    Attributes:
        status: HTTP status: 200 acknowledged, 400 malformed, 401 unauthorized, 409 conflict, 500 unexpected error, 503
            database unreachable.
        content: JSON.
    """

    status: int
    content: object

    def body(self) -> bytes:
        """Return the content as JSON text."""
        match self.content:
            case RawJson(text):
                return text
            case StepPage():
                return self.content.to_json()
        return json.dumps(self.content).encode("ascii")


def rejection(status: int, message: str) -> Reply:
    """Return a reply other than 200, with the code that ``jobfn explain`` knows."""
    return Reply(status, {"error": message, "code": f"C{status}"})


#: The job was settled before, or another attempt of it has begun.
CONFLICT = rejection(409, "this worker does not hold this job in this attempt: nothing was changed")
#: The job was cancelled while this attempt ran: its handler should stop.
CANCELLED = Reply(409, {"error": "the job was cancelled: nothing was changed", "code": "C409", "cancelled": True})
#: The reason is in the log only: senders may be untrusted.
INTERNAL_ERROR = rejection(500, "the callback server failed to process this report: send it again")
DATABASE_UNREACHABLE = rejection(503, "the database is not reachable: send the report again")


class CallbackError(Exception):
    """A report or heartbeat that is rejected with this HTTP status. The message says why, and what to do."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.reply = rejection(status, message)


class HeartbeatBody(BaseModel):
    """The body of a heartbeat. All fields are optional.

    Attributes:
        renew: Whether to renew the lease. False: only ask whether the job was cancelled.
        ended: Whether the handler has ended, because the job was cancelled.
    """

    renew: bool = True
    ended: bool = False
    progress: float | None = Field(default=None, ge=0, le=1)
    note: str | None = Field(default=None, max_length=1000)


class Callbacks:
    """Settles jobs by their functions' reports, and renews leases at their heartbeats.

    Without tokens, callback URLs are not signed. ``on_report`` is called after each report that settled its job.
    """

    def __init__(
        self,
        settlements: SettlementBatcher,
        store: JobStore,
        *,
        lease_seconds: float,
        tokens: CallbackTokens | None = None,
        on_report: Callable[[Settlement], None] | None = None,
    ) -> None:
        self._settlements = settlements
        self._store = store
        self._lease_seconds = lease_seconds
        self._tokens = tokens
        self._on_report = on_report
        self._steps = None if store.steps is None else StepRecorder(store.steps, lease_seconds=lease_seconds)

    async def report(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        """Settle a job by a report.

        Args:
            token: The token in the URL; None: the URL is not signed.
            headers: The job headers, by their names in the contract (``wire.extract_job_headers``).
            body: Body of the request.

        Raises:
            CallbackError: The report is malformed or unauthorized.
            Exception: The database is not reachable, or rejects the settlement.
        """
        if JOB_ID not in headers:
            return Reply(200, "OK")  # a health probe
        if token is None and self._tokens is not None and self._tokens.accepts_unsigned_workers:
            claim = _parse_claim(headers)
            without_lease = await self._store.is_locked_without_lease(claim.worker_id, claim.job_id)
            if without_lease is None:
                return CONFLICT
            if not without_lease:
                raise _invalid_token()
        else:
            claim = await self._authorize(token, headers)
        settlement = Settlement(claim.worker_id, claim.job_id, claim.attempt, row_tag=claim.row_tag)
        if headers.get(JOB_ERROR, "").lower() == "true":
            failure = Failure.from_json(body)
            settlement = settlement._replace(
                error=failure.error or UNKNOWN_ERROR,
                permanent=failure.permanent,
                delay_seconds=failure.retry_after_seconds,
                snooze_max_age_seconds=failure.snooze_max_age_seconds,
                traceback=failure.traceback,
            )
        elif headers.get(JOB_OUTCOME) == OUTCOME_PARKED:
            try:
                settlement = settlement._replace(waiting_for=parse_waiting_for(body))
            except ValueError as error:
                raise CallbackError(400, str(error)) from None
        else:
            settlement = settlement._replace(result=StoredResult.from_report(body))
        if not await self._settlements.settle(settlement):
            # The function reports the outcome of a job that was cancelled: its handler has ended.
            await self._store.end_cancelled(claim.worker_id, claim.job_id, claim.attempt)
            return CONFLICT
        if self._on_report is not None:
            self._on_report(settlement)
        return Reply(200, {"workerId": claim.worker_id, "jobId": str(claim.job_id)})

    async def heartbeat(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        """Renew a job's lease and record its progress. Arguments and errors as in ``report``."""
        claim = await self._authorize(token, headers)
        if claim.attempt is None:
            raise CallbackError(400, f"{JOB_ATTEMPT} is missing: {ECHO_ADVICE}")
        try:
            content = HeartbeatBody.model_validate_json(body or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise CallbackError(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
        if content.renew:
            heartbeat = Heartbeat(
                claim.worker_id, claim.job_id, claim.attempt, content.progress, content.note, claim.row_tag
            )
            is_held = await self._store.heartbeat(heartbeat, lease_seconds=self._lease_seconds)
        else:
            is_held = await self._has_lease(claim)
        if not is_held:
            if content.ended:
                await self._store.end_cancelled(claim.worker_id, claim.job_id, claim.attempt)
            return CANCELLED if await self._is_cancelled(claim) else CONFLICT
        return Reply(200, {"leaseSeconds": self._lease_seconds})

    def authorize_batch(self, token: str | None, worker_id: str | None) -> None:
        """Check the URL of a batch of reports, before its body is read. Each report is checked alone, too.

        Raises:
            CallbackError: URLs are signed, and this one is not, or no longer.
        """
        if self._tokens is not None and not self._tokens.verify_batches(token or "", worker_id or ""):
            raise CallbackError(
                401, f"the URL has no valid token for batches: send them to {CALLBACK_BATCH} of a recent delivery"
            )

    async def steps(self, token: str | None, headers: Mapping[str, str], body: bytes) -> Reply:
        """Record or load steps of a durable function. Arguments and errors as in ``report``."""
        if self._steps is None:
            raise CallbackError(404, "this schema does not record steps: durable functions need jobfn's schema")
        claim = await self._authorize(token, headers)
        if claim.attempt is None:
            raise CallbackError(400, f"{JOB_ATTEMPT} is missing: {ECHO_ADVICE}")
        job = HeldJob(claim.worker_id, claim.job_id, claim.attempt, claim.row_tag)
        try:
            request = decode_request(body)
            page = await (
                self._steps.load(job, request) if isinstance(request, int) else self._steps.record(job, request)
            )
        except ValueError as error:
            raise CallbackError(400, str(error)) from None
        return CONFLICT if page is None else Reply(200, page)

    async def _authorize(self, token: str | None, headers: Mapping[str, str]) -> Claim:
        """Return the claim of the headers, verified by the token if URLs are signed."""
        claim = _parse_claim(headers)
        if self._tokens is None:
            return claim
        signed = self._tokens.verify(token or "", claim.worker_id, claim.job_id)
        if signed is None:
            raise _invalid_token()
        if claim.attempt not in {None, signed.claim.attempt}:
            raise CallbackError(401, "the token in the URL is for another attempt: report to the URL of this attempt")
        claim = signed.claim
        if signed.has_expired and not await self._has_lease(claim) and not await self._is_cancelled(claim):
            raise CallbackError(401, "the token in the URL has expired, and the lease of the attempt has ended")
        return claim

    async def _has_lease(self, claim: Claim) -> bool:
        """Return whether heartbeats, or the worker, still renew the lease: the work of long jobs goes on."""
        if claim.attempt is None:
            return False
        return await self._store.has_lease(claim.worker_id, claim.job_id, claim.attempt, row_tag=claim.row_tag)

    async def _is_cancelled(self, claim: Claim) -> bool:
        """Return whether the job was cancelled in this attempt: then its handler learns it, whenever it asks."""
        return claim.attempt is not None and bool(await self._store.cancelled([(claim.job_id, claim.attempt)]))


def _parse_claim(headers: Mapping[str, str]) -> Claim:
    if WORKER_ID not in headers:
        raise CallbackError(400, f"{WORKER_ID} is missing: {ECHO_ADVICE}")
    # Lenient: a function that rejected a delivery for a malformed tenant returns that tenant here.
    parsed = JobHeaders.parse_lenient(headers)
    if parsed.job_id is None:
        raise CallbackError(400, f"{JOB_ID} is missing or not a job id: {ECHO_ADVICE}")
    if parsed.attempt is None and JOB_ATTEMPT in headers:
        raise CallbackError(400, f"{JOB_ATTEMPT} is not an attempt's number: {ECHO_ADVICE}")
    return Claim(headers[WORKER_ID], parsed.job_id, parsed.attempt)


def _invalid_token() -> CallbackError:
    return CallbackError(
        401, f"the URL has no valid token for this job: report to {CALLBACK_URL} of the job's delivery"
    )


async def to_reply(handling: Awaitable[Reply]) -> Reply:
    """Return the reply to a report or heartbeat, also if handling it fails."""
    try:
        return await handling
    except CallbackError as error:
        return error.reply
    except Exception as error:  # noqa: BLE001  - logged; the sender retries
        if is_transient(error):
            reason = error_text(error)
            logs.get_logger("jobfn.callbacks").warning("report not settled: database unreachable", reason=reason)
            return DATABASE_UNREACHABLE
        logs.get_logger("jobfn.callbacks").error("report not settled: unexpected error", exc_info=error)
        return INTERNAL_ERROR
