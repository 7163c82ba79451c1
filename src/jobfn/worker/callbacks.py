"""The callback server: hears how deliveries ended and settles the jobs (contract, section 2).

A report is answered when its settlement is committed, not before; one of a delivery that does not hold its job (any
more) changes nothing and is told so (409). If the database cannot be asked, the answer is
503 and the function tries again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pydantic import BaseModel, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn import logs
from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.model import Beat, JobStore, Settlement
from jobfn.wire import CALLBACK_URL, JOB_ATTEMPT, JOB_ERROR, JOB_ID, WORKER_ID, Failure, JobHeaders, collect
from jobfn.worker.settle import Settler
from jobfn.worker.tokens import CallbackTokens

MAX_REPORT_BYTES = 1024 * 1024
UNKNOWN_ERROR = "UNKNOWN_ERROR"


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
        settler: Settler,
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

    async def report(self, request: Request) -> Response:
        """``POST .../callback``: settle the job as the report says."""
        if JOB_ID not in collect(request.scope["headers"]):
            return JSONResponse("OK")  # a health probe
        claim, body = await self._claim(request), await _body(request)
        settlement = Settlement(claim.worker_id, claim.job_id, claim.attempt)
        if request.headers.get(JOB_ERROR, "").strip().lower() == "true":
            failure = Failure.read(body)
            settlement = replace(
                settlement,
                error=failure.error or UNKNOWN_ERROR,
                permanent=failure.permanent,
                delay_seconds=failure.retry_after_seconds,
            )
        if not await self._settler.settle(settlement):
            return _too_late()
        if self._settled is not None:
            self._settled(settlement)
        return JSONResponse({"workerId": claim.worker_id, "jobId": str(claim.job_id)})

    async def heartbeat(self, request: Request) -> Response:
        """``POST .../heartbeat``: keep the job's lock, and note how far it is."""
        claim, body = await self._claim(request), await _body(request)
        if claim.attempt is None:
            raise _Refused(400, f"{JOB_ATTEMPT} is missing: send it back as it came with the job")
        try:
            progress = Progress.model_validate_json(body or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise _Refused(400, f"{'.'.join(map(str, first['loc'])) or 'body'}: {first['msg']}") from None
        beat = Beat(claim.worker_id, claim.job_id, claim.attempt, progress.progress, progress.note)
        if not await self._store.beat(beat, lease_seconds=self._lease_seconds):
            return _too_late()
        return JSONResponse({"leaseSeconds": self._lease_seconds})

    async def _claim(self, request: Request) -> "_Claim":
        """Who reports on what: by the token where URLs are signed, by the headers in any case."""
        found = collect(request.scope["headers"])
        if WORKER_ID not in found:
            raise _Refused(400, f"{WORKER_ID} is missing: send it back as it came with the job")
        # Only what names the delivery: a function that was refused for a malformed tenant echoes that tenant.
        headers = JobHeaders.parse_leniently(request.scope["headers"])
        if headers.job_id is None:
            raise _Refused(400, f"{JOB_ID} is missing or no job's id: send it back as it came with the job")
        if headers.attempt is None and JOB_ATTEMPT in found:
            raise _Refused(400, f"{JOB_ATTEMPT} is no attempt's number: send it back as it came with the job")
        claim = _Claim(found[WORKER_ID], headers.job_id, headers.attempt)
        if self._tokens is None:
            return claim
        signed = self._tokens.read(request.scope["path"])
        if signed is None or (signed.worker_id, signed.job_id) != (claim.worker_id, claim.job_id):
            raise _Refused(
                401, f"no good token for this job in the URL: report to {CALLBACK_URL} as it came with the job"
            )
        if claim.attempt not in {None, signed.attempt}:
            raise _Refused(401, "the token in the URL is that of another attempt: report to the URL of this one")
        return _Claim(claim.worker_id, claim.job_id, signed.attempt)


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


class _Refused(Exception):
    def __init__(self, status_code: int, message: str) -> None:
        super().__init__(message)
        self.status_code = status_code


def create_callback_app(callbacks: Callbacks) -> Starlette:
    """Make the callback server's ASGI app.

    Returns:
        A Starlette app that hears reports at every path that ends in ``/callback`` (a token, or the prefix of a
        gateway, may stand before it), signs of life at those that end in ``/heartbeat``, and answers
        ``GET /healthz`` and ``GET /readyz``.
    """
    app = Starlette(
        routes=[
            Route("/callback", callbacks.report, methods=["POST"]),
            Route("/heartbeat", callbacks.heartbeat, methods=["POST"]),
            Route("/healthz", _alive, methods=["GET"]),
            Route("/readyz", _alive, methods=["GET"]),
            Route("/{before:path}/callback", callbacks.report, methods=["POST"]),
            Route("/{before:path}/heartbeat", callbacks.heartbeat, methods=["POST"]),
        ],
        exception_handlers={
            _Refused: _refused,
            ClientDisconnect: _gone,
            HTTPException: _unserved,
            Exception: _broken,
            **dict.fromkeys(CONNECTION_LOST, _no_database),
        },
    )
    app.router.redirect_slashes = False  # a report is sent on to nowhere, least of all to where its Host header says
    return app


def _too_late() -> Response:
    """The job is not held so: it was settled already, or another delivery of it has begun. Nothing changed."""
    return JSONResponse(
        {"error": "this worker does not hold this job in this attempt (any more): nothing was changed"}, 409
    )


async def _refused(_request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, error.status_code if isinstance(error, _Refused) else 400)


async def _gone(_request: Request, _error: Exception) -> Response:
    return JSONResponse({"error": "the report never came whole"}, 400)


async def _unserved(request: Request, error: Exception) -> Response:
    """Another path or method than those above."""
    status_code = error.status_code if isinstance(error, HTTPException) else 404
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(
        {"error": f"reports are POSTed to {CALLBACK_URL} as it came with the job, not {request.method} here"},
        status_code,
        headers=headers,
    )


async def _broken(_request: Request, _error: Exception) -> Response:
    """What nobody foresaw. Whoever runs the app logs it; the sender is told no more than that."""
    return JSONResponse({"error": "this report broke the callback server, whose log has why: send it again"}, 500)


async def _no_database(_request: Request, error: Exception) -> Response:
    logs.get_logger("jobfn.callbacks").warning("not settled: no database", reason=str(error))
    return JSONResponse({"error": "the database cannot be reached now: send the report again"}, 503)


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _body(request: Request) -> bytes:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REPORT_BYTES:
            raise _Refused(400, f"a report has at most {MAX_REPORT_BYTES} bytes: shorten the error message")
    return body
