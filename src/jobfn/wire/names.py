"""Header names of contract sections 1 and 2, and jobfn's additions. Other parties ignore the additions."""

from typing import Final

WORKER_ID: Final = "X-Worker-Id"
JOB_ID: Final = "X-Job-Id"
DATABASE_ID: Final = "X-Database-Id"
ACTOR_ID: Final = "X-Actor-Id"
ENTITY_ID: Final = "X-Entity-Id"
CALLBACK_URL: Final = "X-Callback-Url"
JOB_ERROR: Final = "X-Job-Error"

# Of the platform's newest form (contract, section 6).

ORGANIZATION_ID: Final = "X-Organization-Id"
#: The worker's record of this delivery. Only workers that settle by the response send it.
INVOCATION_ID: Final = "X-Invocation-Id"
#: The flow graph's execution and its node that the job runs.
EXECUTION_ID: Final = "X-Execution-Id"
NODE_NAME: Final = "X-Node-Name"

# Additions of jobfn.

#: Number of this attempt, 1 for the first.
JOB_ATTEMPT: Final = "X-Job-Attempt"
#: Identity of the jobs schema, for idempotency keys: the ids of jobs begin at 1 in each.
INSTALLATION_ID: Final = "X-Installation-Id"
#: When the job was added, in seconds since the epoch, for idempotency keys: after a failover that lost transactions, a
#: new job may get the id of a lost one.
JOB_CREATED_AT: Final = "X-Job-Created-At"
#: How many of the attempts before this one were snoozes, if any were. They do not count.
JOB_SNOOZES: Final = "X-Job-Snoozes"
#: URL of job heartbeats, and for how many seconds each of them extends the job's lock.
HEARTBEAT_URL: Final = "X-Heartbeat-Url"
LEASE_SECONDS: Final = "X-Lease-Seconds"
#: URL of report batches (``report_batch.py``), and the last segment of its path.
CALLBACK_BATCH: Final = "X-Callback-Batch"
BATCH_SEGMENT: Final = "callbacks"
#: On a delivery: the worker settles the job by the response, if the response has this header with the same value.
SETTLE_ON: Final = "X-Settle-On"
SETTLE_ON_RESPONSE: Final = "response"
#: On a response: how many jobs the function accepts in one request (``delivery_batch.py``), and the handler's duration.
ACCEPT_BATCH: Final = "X-Accept-Batch"
HANDLER_SECONDS: Final = "X-Handler-Seconds"
#: In a 202: the function accepts POST {url}/cancel for this job.
ACCEPT_CANCEL: Final = "X-Accept-Cancel"
#: Content type, and end of the path, of a request that tells a function to look whether a job was cancelled.
CANCEL_CONTENT_TYPE: Final = "application/vnd.jobfn.cancel"
CANCEL_PATH_SUFFIX: Final = "/cancel"
#: On a response: the task's limit of attempts, for those that end without a response.
MAX_ATTEMPTS: Final = "X-Max-Attempts"
#: Shared secret (``JOBFN_INVOKE_SECRET``) that a function requires from its worker. Never echoed.
INVOKE_SECRET: Final = "X-Invoke-Secret"  # noqa: S105  - the header's name
#: On a response: store its body as the job's result for this many seconds, or why it cannot be stored. On a delivery:
#: do so, for as many seconds at least, because another job waits for the result.
KEEP_RESULT_SECONDS: Final = "X-Keep-Result-Seconds"
RESULT_PROBLEM: Final = "X-Result-Problem"

#: On a delivery: the callback server records steps (``steps.py``).
DURABLE: Final = "X-Durable"
DURABLE_STEPS: Final = "steps"
#: On a response or report: ``parked`` if the job waits. The body says for what.
JOB_OUTCOME: Final = "X-Job-Outcome"
OUTCOME_PARKED: Final = "parked"
#: Last segment of the path that records steps.
STEPS_SEGMENT: Final = "steps"

#: Headers that every response and report echoes, in this order (contract, section 2).
ECHO_HEADERS: Final = (
    WORKER_ID,
    JOB_ID,
    DATABASE_ID,
    ACTOR_ID,
    ENTITY_ID,
    JOB_ATTEMPT,
    ORGANIZATION_ID,
    INVOCATION_ID,
    EXECUTION_ID,
    NODE_NAME,
)

#: Maximum length of a task identifier in ``app_jobs.jobs``.
MAX_TASK_IDENTIFIER_CHARACTERS: Final = 126

#: Status of a callback server's reply to a delivery that does not hold its job.
CONFLICT_STATUS: Final = 409
#: Value of ``WORKER_ID`` in the requests of ``jobfn doctor``.
DOCTOR_WORKER_ID: Final = "jobfn-doctor"
