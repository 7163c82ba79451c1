"""The callback server's ASGI app: serves ``callbacks.py`` over HTTP.

The hot path, a POST to a known last segment, bypasses Starlette's routing. All other requests are plain Starlette. Any
path may precede the last segment, such as the prefix of a gateway.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.errors import PayloadTooLarge
from jobfn.http.limits import MAX_HEAD_BYTES
from jobfn.http.messages import read_body, send_response
from jobfn.wire import BATCH_SEGMENT, CALLBACK_URL, JOB_ATTEMPT, STEPS_SEGMENT, extract_job_headers, query_parameter
from jobfn.wire.report_batch import BatchedReport, decode_batch
from jobfn.wire.steps import MAX_STEPS_BODY_BYTES
from jobfn.worker.callbacks import (
    DATABASE_UNREACHABLE,
    ECHO_ADVICE,
    CallbackError,
    Callbacks,
    RawJson,
    Reply,
    rejection,
    to_reply,
)
from jobfn.worker.telemetry.instrumented_callbacks import InstrumentedCallbacks

MAX_REPORT_BYTES = 1024 * 1024
#: Number of reports in a batch to handle before other requests get their turn: about 6 ms. Each turn of a batch
#: is settled in a separate statement.
REPORTS_PER_TURN: Final = 100
#: More headers by status: how many seconds to wait while the database is away.
_EXTRA_HEADERS: Final = {DATABASE_UNREACHABLE.status: [(b"retry-after", b"1")]}
URL_ADVICE: Final = f"report to {CALLBACK_URL} of the job's delivery"

#: Handles a POST: token of the URL, job headers, body.
_Handler = Callable[[str | None, Mapping[str, str], bytes], Awaitable[Reply]]


def create_callback_app(callbacks: Callbacks | InstrumentedCallbacks) -> ASGIApp:
    """Create the callback server's ASGI app.

    Returns:
        An app that accepts reports at every path that ends in ``/callback``, batches of reports at ``/callbacks``,
        heartbeats at ``/heartbeat``, and responds to ``GET /healthz`` and ``GET /readyz``.
    """

    async def report_batch(_token: str | None, _headers: Mapping[str, str], body: bytes) -> Reply:
        return await _report_batch(callbacks, body)

    handlers: dict[str, _Handler] = {
        "callback": callbacks.report,
        "heartbeat": callbacks.heartbeat,
        STEPS_SEGMENT: callbacks.steps,
        BATCH_SEGMENT: report_batch,
    }
    fallback = _fallback_app()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        segment = scope["path"].rpartition("/")[2] if scope["type"] == "http" else ""
        handler = handlers.get(segment)
        if handler is None or scope["method"] != "POST":
            await fallback(scope, receive, send)
            return
        query = scope["query_string"].decode("latin-1")
        if handler is report_batch:
            try:
                callbacks.authorize_batch(query_parameter(query, "token"), query_parameter(query, "worker"))
            except CallbackError as error:
                await respond(send, error.reply, unread=receive)
                return
        limit = MAX_STEPS_BODY_BYTES if segment == STEPS_SEGMENT else MAX_REPORT_BYTES
        await respond(send, await to_reply(_handle(handler, scope, receive, query, limit)))

    return app


async def _report_batch(callbacks: Callbacks | InstrumentedCallbacks, body: bytes) -> Reply:
    try:
        batch = decode_batch(body)
    except ValueError as error:
        raise CallbackError(400, f"the body is not a batch of reports: {error}") from None
    handlings: list[asyncio.Task[Reply]] = []
    for each in batch:
        handlings.append(asyncio.create_task(to_reply(_report_in_batch(callbacks, each))))
        if len(handlings) % REPORTS_PER_TURN == 0:
            await asyncio.sleep(0)
    replies = await asyncio.gather(*handlings)
    return Reply(200, RawJson(b'{"replies": [%b]}' % b", ".join(map(_batched_reply, replies))))


def _batched_reply(reply: Reply) -> bytes:
    return b'{"status": %d, "content": %b}' % (reply.status, reply.body())


async def _report_in_batch(callbacks: Callbacks | InstrumentedCallbacks, report: BatchedReport) -> Reply:
    if len(report.url) > MAX_HEAD_BYTES:
        raise CallbackError(400, f"a report's URL must have at most {MAX_HEAD_BYTES} characters: {URL_ADVICE}")
    try:
        parts = urlsplit(report.url)
    except ValueError:
        raise CallbackError(400, f"a report's URL is malformed: {URL_ADVICE}") from None
    handle = callbacks.steps if parts.path.endswith(f"/{STEPS_SEGMENT}") else callbacks.report
    query = parts.query
    return await handle(query_parameter(query, "token"), _with_attempt(report.headers, query), report.body)


async def respond(send: Send, reply: Reply, *, unread: Receive | None = None) -> None:
    """Send a reply; ``unread`` as in ``send_response``, if the body of the request was not read."""
    body = reply.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if unread is not None:
        headers.append((b"connection", b"close"))
    headers += _EXTRA_HEADERS.get(reply.status, [])
    await send_response(send, reply.status, headers, body, unread=unread)


async def _handle(handler: _Handler, scope: Scope, receive: Receive, query: str, limit: int) -> Reply:
    try:
        body = await read_body(receive, limit=limit)
    except ClientDisconnect:
        raise CallbackError(400, "the body is incomplete: send the report again") from None
    except PayloadTooLarge:
        raise CallbackError(400, f"a report must have at most {limit} bytes: shorten the error message") from None
    headers = extract_job_headers(scope["headers"])
    if not query:
        return await handler(None, headers, body)
    return await handler(query_parameter(query, "token"), _with_attempt(headers, query), body)


def _with_attempt(headers: dict[str, str], query: str) -> dict[str, str]:
    """Return the headers with the attempt of the callback URL, which functions in any language send back."""
    attempt = query_parameter(query, "attempt")
    if attempt is None:
        return headers
    if headers.get(JOB_ATTEMPT, attempt) != attempt:
        raise CallbackError(400, f"{JOB_ATTEMPT} and the URL name different attempts: {ECHO_ADVICE}")
    return headers | {JOB_ATTEMPT: attempt}


def _fallback_app() -> Starlette:
    app = Starlette(
        routes=[Route("/healthz", _health, methods=["GET"]), Route("/readyz", _health, methods=["GET"])],
        exception_handlers={HTTPException: _not_found},
    )
    app.router.redirect_slashes = False  # a redirect would go to the Host header's host, which the sender chooses
    return app


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _not_found(request: Request, error: Exception) -> Response:
    """Respond with 405 on the paths that accept POST, with Starlette's status elsewhere."""
    status_code = error.status_code if isinstance(error, HTTPException) else 404
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if request.scope["path"].rpartition("/")[2] in {"callback", "heartbeat", STEPS_SEGMENT, BATCH_SEGMENT}:
        status_code, headers = 405, {"Allow": "POST"}
    message = f"{request.method} is not supported here: POST reports to {CALLBACK_URL} of the job's delivery"
    return JSONResponse(rejection(status_code, message).content, status_code, headers=headers)
