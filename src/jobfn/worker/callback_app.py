"""The callback server's ASGI app: brings what functions POST to ``callbacks.py``, and answers.

The hot way, a POST to a known last segment, goes past Starlette's routes; all else (health, what is not served) is
plain Starlette. The path before the last segment is free: a token, or the prefix of a gateway, may stand there.
"""

import json
from collections.abc import Awaitable, Callable, Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jobfn.errors import PayloadTooLarge
from jobfn.http.messages import read_body, send_response
from jobfn.wire import BATCH_SEGMENT, CALLBACK_URL, extract_job_headers
from jobfn.worker.callbacks import CallbackError, Callbacks, Reply, answered

MAX_REPORT_BYTES = 1024 * 1024

#: Hears one kind of POST: path, job headers, body.
_Hear = Callable[[str, Mapping[str, str], bytes], Awaitable[Reply]]


def create_callback_app(callbacks: Callbacks) -> ASGIApp:
    """Make the callback server's ASGI app.

    Returns:
        An app that hears reports at every path that ends in ``/callback``, batches of them at ``/callbacks``, signs of
        life at ``/heartbeat``, and answers ``GET /healthz`` and ``GET /readyz``.
    """

    async def batch(_path: str, _found: Mapping[str, str], body: bytes) -> Reply:
        return await callbacks.reports(body)

    heard: dict[str, _Hear] = {
        "callback": callbacks.report,
        "heartbeat": callbacks.heartbeat,
        BATCH_SEGMENT: batch,
    }
    pages = _pages()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        hear = heard.get(scope["path"].rpartition("/")[2]) if scope["type"] == "http" else None
        if hear is None or scope["method"] != "POST":
            await pages(scope, receive, send)
            return
        await _respond(send, await _reply(hear, scope, receive))

    return app


async def _reply(hear: _Hear, scope: Scope, receive: Receive) -> Reply:
    """What comes of a POST; whatever it is, the sender gets an answer that says what to do."""

    async def hearing() -> Reply:
        try:
            body = await read_body(receive, limit=MAX_REPORT_BYTES)
        except ClientDisconnect:
            raise CallbackError(400, "the report never came whole") from None
        except PayloadTooLarge:
            raise CallbackError(
                400, f"a report has at most {MAX_REPORT_BYTES} bytes: shorten the error message"
            ) from None
        return await hear(scope["path"], extract_job_headers(scope["headers"]), body)

    return await answered(hearing())


async def _respond(send: Send, reply: Reply) -> None:
    body = json.dumps(reply.content).encode("ascii")
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    # what was said is settled; whoever does not hear that asks again
    await send_response(send, reply.status, headers, body)


def _pages() -> Starlette:
    app = Starlette(
        routes=[Route("/healthz", _alive, methods=["GET"]), Route("/readyz", _alive, methods=["GET"])],
        exception_handlers={HTTPException: _not_found},
    )
    app.router.redirect_slashes = False  # a report is sent on to nowhere, least of all to where its Host header says
    return app


async def _alive(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _not_found(request: Request, error: Exception) -> Response:
    """Another path or method than those above. Those that hear POST say so."""
    status_code = error.status_code if isinstance(error, HTTPException) else 404
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    if request.url.path.rpartition("/")[2] in {"callback", "heartbeat", BATCH_SEGMENT}:
        status_code, headers = 405, {"Allow": "POST"}
    return JSONResponse(
        {"error": f"reports are POSTed to {CALLBACK_URL} as it came with the job, not {request.method} here"},
        status_code,
        headers=headers,
    )
