"""Build the HTTP dispatcher from the settings of a service."""

import contextlib
import functools
from collections.abc import AsyncIterator

from jobfn.database.records import Job
from jobfn.database.store import JobStore
from jobfn.http.client import HttpTransport
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import Tracing
from jobfn.wire import BATCH_SEGMENT, report_url, sibling_url
from jobfn.worker.dispatch import CallbackConfig, Deliverer, Dispatcher, Routes
from jobfn.worker.settings import ServiceSettings, SettlementMode
from jobfn.worker.tokens import CallbackTokens, Claim


@contextlib.asynccontextmanager
async def http_dispatcher(
    tokens: CallbackTokens | None, tracing: Tracing, _store: JobStore, settings: ServiceSettings
) -> AsyncIterator[Deliverer]:
    """Open a dispatcher; its connections are closed at the end of the block."""
    transport = HttpTransport(max_connections=settings.concurrency)
    try:
        yield Dispatcher(
            transport,
            routes=Routes(settings.gateway_url, settings.urls_by_task),
            worker_id=settings.worker_id,
            callback_config=functools.partial(callback_config, settings, tokens),
            request_timeout_seconds=settings.request_timeout_seconds,
            tracing=tracing,
        )
    finally:
        await transport.aclose()


def callback_tokens(settings: ServiceSettings) -> CallbackTokens | None:
    """Return what signs callback URLs; None without ``JOBS_CALLBACK_SECRET``, with a warning in production."""
    if settings.callback_secrets:
        return CallbackTokens(settings.callback_secrets, max_age_seconds=settings.callback_token_ttl_seconds)
    if settings.is_production:
        logs.get_logger("jobfn.service").warning(
            "callback URLs are not signed: anyone who can reach the callback server can settle jobs. "
            "Set JOBS_CALLBACK_SECRET on every worker and callback server"
        )
    return None


def callback_config(settings: ServiceSettings, tokens: CallbackTokens | None, job: Job) -> CallbackConfig:
    """Return how the function reports on this job."""
    plain_url = callback_url = report_url(settings.callback_url)
    if tokens is not None:
        callback_url = tokens.url_for(plain_url, Claim(settings.worker_id, job.id, job.attempt))
    reports = settings.settle_on is SettlementMode.REPORT
    return CallbackConfig(
        callback_url=callback_url if reports else None,
        heartbeat_url=sibling_url(callback_url, "heartbeat"),
        lease_seconds=settings.lease_seconds,
        batch_url=sibling_url(plain_url, BATCH_SEGMENT) if reports and settings.callback_batch else None,
        invoke_secret=settings.invoke_secrets[0] if settings.invoke_secrets else None,
    )
