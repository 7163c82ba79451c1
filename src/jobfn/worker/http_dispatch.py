"""Build the HTTP dispatcher from the settings of a service."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import quote

import aiohttp  # noqa: F401  - imported at start, not by the first delivery

from jobfn.database.connection import retry
from jobfn.database.records import Job
from jobfn.database.store import JobStore
from jobfn.errors import ConfigurationError
from jobfn.http.client import HttpTransport
from jobfn.tcp import KeepAlive
from jobfn.telemetry import logs
from jobfn.telemetry.tracing import Tracing
from jobfn.wire import BATCH_SEGMENT, attempt_url, query_prefix, redact_url, report_url, sibling_url
from jobfn.worker.batching import Batching
from jobfn.worker.delivery import Deliverer
from jobfn.worker.dispatch import CallbackConfig, Dispatcher
from jobfn.worker.routes import Routes
from jobfn.worker.settings import ServiceSettings, SettlementMode
from jobfn.worker.task_limits import TaskLimits, fetch_list
from jobfn.worker.tokens import CallbackTokens

#: Maximum number of attempts whose configurations are cached. Most jobs have a few at most.
_MAX_ATTEMPTS = 100


@contextlib.asynccontextmanager
async def http_dispatcher(
    routes: Routes, tokens: CallbackTokens | None, tracing: Tracing, store: JobStore, settings: ServiceSettings
) -> AsyncIterator[Deliverer]:
    """Open a dispatcher; its connections are closed at the end of the block."""
    installation_id = await retry(store.installation_id, event="service not started", only_transient=True)
    transport = HttpTransport(
        max_connections=settings.concurrency, keepalive=KeepAlive.within(settings.tcp_timeout_seconds)
    )
    accepts_batches = settings.delivery_batch and settings.settle_on is not SettlementMode.REPORT
    recordings: set[asyncio.Task[None]] = set()

    def record(task: str, limit: int | None) -> None:
        call = functools.partial(store.record_learned_attempts, {task: limit})
        recording = asyncio.create_task(retry(call, event="limit of a task not recorded"))
        recordings.add(recording)
        recording.add_done_callback(recordings.discard)

    try:
        yield Dispatcher(
            transport,
            routes=routes,
            worker_id=settings.worker_id,
            callback_config=callback_configs(settings, tokens, installation_id, records_steps=store.steps is not None),
            limits=TaskLimits(fetch_list, asyncio.get_running_loop().time, record),
            batching=Batching(asyncio.get_running_loop().time) if accepts_batches else None,
            request_timeout_seconds=settings.request_timeout_seconds,
            tracing=tracing,
        )
    finally:
        for recording in recordings:
            recording.cancel()
        await transport.aclose()


async def callback_tokens(
    settings: ServiceSettings, store: JobStore, *, name: str | None = None
) -> CallbackTokens | None:
    """Return what signs callback URLs: with ``JOBS_CALLBACK_SECRET``, else with the secret that the schema keeps.

    The platform's schema keeps none: then the result is None, with a warning in production.

    Args:
        settings: The settings.
        store: The jobs.
        name: Name of the database if the service has several. The tokens of one are not valid for another, also if they
            share a secret: jobs of both may have the same id, and a database may be the copy of another.
    """
    ttl_seconds = settings.callback_token_ttl_seconds
    scope = "" if name is None else f"{name}\n"
    if settings.callback_secrets:
        return CallbackTokens([f"{scope}{secret}" for secret in settings.callback_secrets], max_age_seconds=ttl_seconds)
    secret = await retry(store.callback_secret, event="service not started", only_transient=True)
    if secret is not None:
        return CallbackTokens([f"{scope}{secret}"], max_age_seconds=ttl_seconds, accepts_unsigned_workers=True)
    if settings.is_production:
        logs.get_logger("jobfn.service").warning(
            "callback URLs are not signed, because the platform's schema keeps no secret: anyone who can reach the "
            "callback server can settle jobs. "
            "Set JOBS_CALLBACK_SECRET on every worker and callback server"
        )
    return None


def callback_configs(
    settings: ServiceSettings, tokens: CallbackTokens | None, installation_id: str, *, records_steps: bool = False
) -> Callable[[Sequence[Job]], CallbackConfig]:
    """Return a function that returns how a function settles the jobs of one request.

    Each attempt has its own callback URL, so that a late report of an earlier one conflicts, also from functions that
    do not send ``X-Job-Attempt`` back. Jobs that share a request share the URL, whose token names them all; without
    tokens, all jobs with the same attempt share it.
    """
    try:
        plain_url = report_url(settings.callback_url)
    except ValueError as error:
        raise ConfigurationError(
            f"{redact_url(settings.callback_url)}: {error}. Set INTERNAL_JOBS_CALLBACK_URL"
        ) from None
    accepts_reports = settings.settle_on is not SettlementMode.RESPONSE

    accepts_batches = accepts_reports and settings.callback_batch
    heartbeat_url, batch_url = sibling_url(plain_url, "heartbeat"), sibling_url(plain_url, BATCH_SEGMENT)

    def config_for(callback_url: str, heartbeat_url: str, batch_url: str) -> CallbackConfig:
        return CallbackConfig(
            callback_url=callback_url if accepts_reports else None,
            heartbeat_url=heartbeat_url,
            lease_seconds=settings.lease_seconds,
            batch_url=batch_url if accepts_batches else None,
            offers_response=settings.settle_on is not SettlementMode.REPORT,
            installation_id=installation_id,
            records_steps=records_steps,
        )

    if tokens is not None:
        worker_id = settings.worker_id
        callback_prefix = f"{query_prefix(plain_url)}token="
        heartbeat_prefix = f"{query_prefix(heartbeat_url)}token="
        batch_prefix = f"{query_prefix(batch_url)}worker={quote(worker_id, safe='')}&token="

        def signed(jobs: Sequence[Job]) -> CallbackConfig:
            token = tokens.sign(worker_id, [(job.id, job.attempt) for job in jobs], [job.row_tag for job in jobs])
            return config_for(
                f"{callback_prefix}{token}&/callback",
                f"{heartbeat_prefix}{token}",
                f"{batch_prefix}{tokens.sign_batches(worker_id)}",
            )

        return signed

    @functools.lru_cache(maxsize=_MAX_ATTEMPTS)
    def unsigned(attempt: int) -> CallbackConfig:
        return config_for(attempt_url(plain_url, attempt), heartbeat_url, batch_url)

    return lambda jobs: unsigned(jobs[0].attempt)
