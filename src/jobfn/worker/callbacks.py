"""Hearing how deliveries ended, and that they live: reports and signs of life (contract, section 2).

A report is answered when its settlement is committed, not before; one of a delivery that does not hold its job (any
more) changes nothing and is told so (409). ``callback_app.py`` brings them here over HTTP.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.records import Beat, JobStore, Settlement
from jobfn.telemetry import logs
from jobfn.wire import (
    CALLBACK_URL,
    JOB_ATTEMPT,
    JOB_ERROR,
    JOB_ID,
    WORKER_ID,
    Failure,
    JobHeaders,
    StoredResult,
)
from jobfn.wire.report_batch import decode_batch
from jobfn.worker.settlement import SettlementBatcher
from jobfn.worker.tokens import CallbackTokens

UNKNOWN_ERROR = "UNKNOWN_ERROR"


@dataclass(frozen=True, slots=True)
class Reply:
    """What the sender of a report or of a sign of life is told.

    Attributes:
        status: An HTTP status: 200 heard, 400 malformed, 401 not signed, 409 too late, 503 no database now.
        content: JSON.
    """

    status: int
    content: object


#: The job is not held so: it was settled already, or another delivery of it has begun. Nothing changed.
TOO_LATE = Reply(409, {"error": "this worker does not hold this job in this attempt (any more): nothing was changed"})


class CallbackError(Exception):
    """A report that cannot be heard.

    Args:
        status: An HTTP status.
        message: What is wrong with it, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.reply = Reply(status, {"error": message})


class Callbacks:
    """Hears reports and signs of life.

    Args:
        settler: Commits what is reported.
        store: Where locks are prolonged.
        lease_seconds: For how long a sign of life prolongs one, in seconds.
        tokens: Reads the tokens of signed callback URLs; None: URLs are not signed.
        settled: Called after each report that settled its job, so that a worker in the same process knows.
    """

    def __init__(
        self,
        settler: SettlementBatcher,
        store: JobStore,
        *,
        lease_seconds: float,
        tokens: CallbackTokens | None = None,
        settled: Callable[[Settlement], None] | None = None,
    ) -> None:
        self._settler = settler
        self._store = store
        self._lease_seconds = lease_seconds
        self._tokens = tokens
        self._settled = settled

    async def report(self, path: str, found: Mapping[str, str], body: bytes) -> Reply:
        """Settle a job as its report says.

        Args:
            path: Of the callback URL; holds the token where URLs are signed.
            found: The job headers, by their contract names (``wire.extract_job_headers``).
            body: Of the request.

        Raises:
            Refused: It cannot be heard as it is.
            Exception: The database cannot be asked, or refuses.
        """
        if JOB_ID not in found:
            return Reply(200, "OK")  # a health probe
        claim = self._claim(path, found)
        settlement = Settlement(claim.worker_id, claim.job_id, claim.attempt, reported=True)
        if found.get(JOB_ERROR, "").lower() == "true":
            failure = Failure.from_json(body)
            settlement = replace(
                settlement,
                error=failure.error or UNKNOWN_ERROR,
                permanent=failure.permanent,
                delay_seconds=failure.retry_after_seconds,
            )
        else:
            settlement = replace(settlement, kept=StoredResult.from_report(body))
        if not await self._settler.settle(settlement):
            return TOO_LATE
        if self._settled is not None:
            self._settled(settlement)
        return Reply(200, {"workerId": claim.worker_id, "jobId": str(claim.job_id)})

    async def reports(self, body: bytes) -> Reply:
        """Settle jobs as the reports of one batch say; each is answered by itself, with its own status.

        Args:
            body: As ``batches.encode_batch`` makes it.

        Raises:
            Refused: It is no batch of reports.
        """
        try:
            batch = decode_batch(body)
        except ValueError as error:
            raise CallbackError(400, f"no batch of reports: {error}") from None
        replies = await asyncio.gather(
            *(
                answered(self.report(unquote(urlsplit(report.url).path), report.headers, report.body))
                for report in batch
            )
        )
        return Reply(200, {"replies": [{"status": reply.status, "content": reply.content} for reply in replies]})

    async def heartbeat(self, path: str, found: Mapping[str, str], body: bytes) -> Reply:
        """Keep a job's lock, and note how far it is. Arguments and errors as ``report``."""
        claim = self._claim(path, found)
        if claim.attempt is None:
            raise CallbackError(400, f"{JOB_ATTEMPT} is missing: send it back as it came with the job")
        try:
            progress = Progress.model_validate_json(body or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise CallbackError(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
        beat = Beat(claim.worker_id, claim.job_id, claim.attempt, progress.progress, progress.note)
        if not await self._store.beat(beat, lease_seconds=self._lease_seconds):
            return TOO_LATE
        return Reply(200, {"leaseSeconds": self._lease_seconds})

    def _claim(self, path: str, found: Mapping[str, str]) -> "_Claim":
        """Who reports on what: by the token where URLs are signed, by the headers in any case."""
        if WORKER_ID not in found:
            raise CallbackError(400, f"{WORKER_ID} is missing: send it back as it came with the job")
        # Only what names the delivery: a function that was refused for a malformed tenant echoes that tenant.
        headers = JobHeaders.parse_lenient_mapping(found)
        if headers.job_id is None:
            raise CallbackError(400, f"{JOB_ID} is missing or no job's id: send it back as it came with the job")
        if headers.attempt is None and JOB_ATTEMPT in found:
            raise CallbackError(400, f"{JOB_ATTEMPT} is no attempt's number: send it back as it came with the job")
        claim = _Claim(found[WORKER_ID], headers.job_id, headers.attempt)
        if self._tokens is None:
            return claim
        signed = self._tokens.read(path)
        if signed is None or (signed.worker_id, signed.job_id) != (claim.worker_id, claim.job_id):
            raise CallbackError(
                401, f"no good token for this job in the URL: report to {CALLBACK_URL} as it came with the job"
            )
        if claim.attempt not in {None, signed.attempt}:
            raise CallbackError(401, "the token in the URL is that of another attempt: report to the URL of this one")
        return _Claim(claim.worker_id, claim.job_id, signed.attempt)


#: What nobody foresaw. The log has it; the sender is told no more than that.
BROKEN = Reply(500, {"error": "this report broke the callback server, whose log has why: send it again"})


async def answered(hearing: Awaitable[Reply]) -> Reply:
    """What a sender is told, whatever comes of hearing it: of one report in a batch, the others are not to suffer."""
    try:
        return await hearing
    except CallbackError as refused:
        return refused.reply
    except CONNECTION_LOST as error:
        logs.get_logger("jobfn.callbacks").warning("not settled: no database", reason=str(error))
        return Reply(503, {"error": "the database cannot be reached now: send the report again"})
    except Exception as error:  # noqa: BLE001  - logged, and the sender is told to come again
        logs.get_logger("jobfn.callbacks").error("a report broke", exc_info=error)
        return BROKEN


@dataclass(frozen=True, slots=True)
class _Claim:
    """Who reports on what. The attempt is None where the function does not say and nothing is signed."""

    worker_id: str
    job_id: int
    attempt: int | None


class Progress(BaseModel):
    """The body of a sign of life; both fields may be left out."""

    progress: float | None = Field(default=None, ge=0, le=1)
    note: str | None = Field(default=None, max_length=1000)
