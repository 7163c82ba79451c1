"""Secrets of tests, long enough to be accepted, and signed URLs."""

from typing import Any
from urllib.parse import quote

import asyncpg

from jobfn.worker.tokens import CallbackTokens, Claim
from support.jobs import WORKER

CALLBACK_SECRET = "signs-the-urls-0123456789abcdef-0123"
OLD_CALLBACK_SECRET = "signed-the-urls-before-0123456789abcdef"
INVOKE_SECRET = "s3cret-of-the-function-0123456789abcdef"
OTHER_INVOKE_SECRET = "another-secret-0123456789abcdef-0123"


async def schema_tokens(connection: "asyncpg.Connection[Any]") -> CallbackTokens:
    """Return what signs the URLs of a service without ``JOBS_CALLBACK_SECRET``."""
    return CallbackTokens([await connection.fetchval("select app_jobs.callback_secret()")], max_age_seconds=3600)


def sign_url(tokens: CallbackTokens, url: str, claim: Claim) -> str:
    """Return a callback or heartbeat URL that is signed for one job."""
    return f"{url}?token={tokens.sign(claim.worker_id, [(claim.job_id, claim.attempt or 1)])}&/callback"


def sign_batch_url(tokens: CallbackTokens, url: str, worker: str = WORKER) -> str:
    """Return a URL for batches of reports about jobs of a worker."""
    return f"{url}?worker={quote(worker, safe='')}&token={tokens.sign_batches(worker)}"
