"""Wire format: headers, reports and URLs that worker, function and callback server exchange (contract, 1 and 2).

Pure: no I/O, no clock. A delivery carries ``JobHeaders``; a ``Report`` goes back. This is the only code that the
function side (``function/app.py``) and the platform side (``worker/dispatch.py``, ``worker/callbacks.py``) share.
"""

from jobfn.wire.headers import (
    JobHeaders,
    extract_job_headers,
    log_ids,
)
from jobfn.wire.names import (
    ACCEPT_BATCH,
    ACTOR_ID,
    BATCH_SEGMENT,
    CALLBACK_BATCH,
    CALLBACK_URL,
    DATABASE_ID,
    ENTITY_ID,
    HANDLER_SECONDS,
    HEARTBEAT_URL,
    INVOKE_SECRET,
    JOB_ATTEMPT,
    JOB_ERROR,
    JOB_ID,
    LEASE_SECONDS,
    MAX_TASK_IDENTIFIER_CHARACTERS,
    SETTLE_ON,
    SETTLE_ON_RESPONSE,
    WORKER_ID,
)
from jobfn.wire.reports import (
    MAX_RESULT_BYTES,
    RESULT_TOO_LARGE,
    Failure,
    Report,
    StoredResult,
    is_failure,
)
from jobfn.wire.urls import (
    TASK_PLACEHOLDER,
    has_host_per_task,
    redact_url,
    report_url,
    sibling_url,
    task_url,
)

__all__ = [
    "ACCEPT_BATCH",
    "ACTOR_ID",
    "BATCH_SEGMENT",
    "CALLBACK_BATCH",
    "CALLBACK_URL",
    "DATABASE_ID",
    "ENTITY_ID",
    "HANDLER_SECONDS",
    "HEARTBEAT_URL",
    "INVOKE_SECRET",
    "JOB_ATTEMPT",
    "JOB_ERROR",
    "JOB_ID",
    "LEASE_SECONDS",
    "MAX_RESULT_BYTES",
    "MAX_TASK_IDENTIFIER_CHARACTERS",
    "RESULT_TOO_LARGE",
    "SETTLE_ON",
    "SETTLE_ON_RESPONSE",
    "TASK_PLACEHOLDER",
    "WORKER_ID",
    "Failure",
    "JobHeaders",
    "Report",
    "StoredResult",
    "extract_job_headers",
    "has_host_per_task",
    "is_failure",
    "log_ids",
    "redact_url",
    "report_url",
    "sibling_url",
    "task_url",
]
