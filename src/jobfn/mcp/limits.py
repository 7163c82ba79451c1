"""Limits of the MCP server: what an assistant reads has to fit into its context, and what it changes into one view."""

from typing import Final

#: Maximum length of a text in a list.
MAX_LISTED_CHARACTERS: Final = 300
#: Maximum length of a text in the details of a job.
MAX_CHARACTERS: Final = 2000
#: Maximum length of a payload, in an answer and in a new job.
MAX_PAYLOAD_CHARACTERS: Final = 10_000
#: Maximum number of jobs in a list.
MAX_JOBS: Final = 50
#: Maximum number of tasks, queues, workers, schedules or triggers with their details in a list.
MAX_ITEMS: Final = 50
#: Maximum number of names of tasks, and of checks of the doctor.
MAX_NAMES: Final = 200
#: Maximum number of latest attempts, steps, signals or children of a job, and of changed or skipped jobs.
MAX_RECORDS: Final = 20
#: Numbers of matching jobs beyond this are not counted.
MAX_COUNTED: Final = 10_000
#: Maximum time for which a call waits for a job.
MAX_WAIT_SECONDS: Final = 50.0
#: Maximum number of jobs that a call can name.
MAX_IDS: Final = 100
#: A confirmed change is refused if more than this many times as many jobs match as were confirmed.
MAX_GROWTH: Final = 2
#: Time after which a plan expires.
PLAN_TTL_SECONDS: Final = 300.0
#: Maximum number of plans that are not confirmed; the oldest is forgotten.
MAX_PLANS: Final = 100
#: Maximum size of a request over HTTP.
MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
#: Maximum number of sessions over HTTP.
MAX_SESSIONS: Final = 100
