"""What the parties call things: the headers of contract sections 1 and 2, and jobfn's own beside them."""

from typing import Final

WORKER_ID: Final = "X-Worker-Id"
JOB_ID: Final = "X-Job-Id"
DATABASE_ID: Final = "X-Database-Id"
ACTOR_ID: Final = "X-Actor-Id"
ENTITY_ID: Final = "X-Entity-Id"
CALLBACK_URL: Final = "X-Callback-Url"
JOB_ERROR: Final = "X-Job-Error"
#: jobfn's own addition: which attempt this delivery is, 1 for the first. Other parties ignore it.
JOB_ATTEMPT: Final = "X-Job-Attempt"
#: jobfn's own: where a running job's signs of life go, and for how many seconds each keeps the job's lock.
HEARTBEAT_URL: Final = "X-Heartbeat-Url"
LEASE_SECONDS: Final = "X-Lease-Seconds"
#: jobfn's own: where reports that are ready at the same moment may go together (``batches.py``), and how its path ends.
CALLBACK_BATCH: Final = "X-Callback-Batch"
BATCH_SEGMENT: Final = "callbacks"
#: jobfn's own: what a function with ``JOBFN_INVOKE_SECRET`` wants to hear from its worker. Never sent on.
INVOKE_SECRET: Final = "X-Invoke-Secret"  # noqa: S105  - the header's name

#: jobfn's own, on a response: its body is to be kept as the job's result, for so many seconds; or why it cannot be.
KEEP_RESULT_SECONDS: Final = "X-Keep-Result-Seconds"
RESULT_PROBLEM: Final = "X-Result-Problem"

#: Echoed on every response and report, in this order (contract, section 2).
ECHO_HEADERS: Final = (WORKER_ID, JOB_ID, DATABASE_ID, ACTOR_ID, ENTITY_ID, JOB_ATTEMPT)

#: ``app_jobs.jobs`` holds at most this many characters of a task identifier.
MAX_TASK_IDENTIFIER_CHARACTERS: Final = 126
