"""The callback server: hears how deliveries ended and settles the jobs (contract, section 2).

A report is answered when its settlement is committed, not before. If the database cannot be asked, the answer is
503 and the function tries again.
"""

import json
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobfn import logs
from jobfn.database.connection import CONNECTION_LOST
from jobfn.database.jobs import Settlement
from jobfn.errors import MalformedRequest
from jobfn.wire import JOB_ERROR, JOB_ID, WORKER_ID, JobHeaders, collect
from jobfn.worker.settle import Settler

MAX_REPORT_BYTES = 1024 * 1024
UNKNOWN_ERROR = "UNKNOWN_ERROR"


def create_callback_app(settler: Settler, *, settled: Callable[[Settlement], None] | None = None) -> Starlette:
    """Make the callback server's ASGI app.

    Args:
        settler: Commits what is reported.
        settled: Called after each report that settled its job, so that a worker in the same process knows.

    Returns:
        A Starlette app with ``POST /callback``, ``GET /healthz`` and ``GET /readyz``.
    """

    async def callback(request: Request) -> Response:
        raw = request.scope["headers"]
        found = collect(raw)
        if JOB_ID not in found:
            return JSONResponse("OK")
        if WORKER_ID not in found:
            return JSONResponse({"error": f"{WORKER_ID} is missing: send it back as it came with the job"}, 400)
        try:
            headers = JobHeaders.parse(raw)
            error = await _error_of(request)
        except MalformedRequest as malformed:
            return JSONResponse({"error": malformed.message}, 400)
        except ClientDisconnect:
            return Response(status_code=400)
        settlement = Settlement(
            worker_id=found[WORKER_ID], job_id=headers.job_id or 0, attempt=headers.attempt, error=error
        )
        try:
            changed = await settler.settle(settlement)
        except CONNECTION_LOST:
            logs.get_logger("jobfn.callbacks").warning("report not settled: no database", job=settlement.job_id)
            return JSONResponse({"error": "the database cannot be reached now: send the report again"}, 503)
        if changed and settled is not None:
            settled(settlement)
        return JSONResponse({"workerId": found[WORKER_ID], "jobId": found[JOB_ID]})

    return Starlette(
        routes=[
            Route("/callback", callback, methods=["POST"]),
            Route("/healthz", _alive, methods=["GET"]),
            Route("/readyz", _alive, methods=["GET"]),
        ]
    )


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _error_of(request: Request) -> str | None:
    """The error that a report tells of; None for a success, whatever its body."""
    if request.headers.get(JOB_ERROR, "").strip().lower() != "true":
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REPORT_BYTES:
            raise MalformedRequest(f"a report has at most {MAX_REPORT_BYTES} bytes: shorten the error message")
    try:
        content: Any = json.loads(body)
    except (ValueError, RecursionError):
        return UNKNOWN_ERROR
    if not isinstance(content, dict):
        return UNKNOWN_ERROR
    error = content.get("error") or content.get("message") or UNKNOWN_ERROR
    return error if isinstance(error, str) else json.dumps(error)
