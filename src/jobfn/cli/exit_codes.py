"""Exit codes of ``jobfn``. ``docs/operations.md`` documents them."""

OK = 0
#: The command failed: the database is unreachable, a job does not exist, the user declined.
FAILED = 1
#: Wrong usage, settings or files.
USAGE_ERROR = 2
#: A check found something: ``doctor`` an error, ``db status`` or ``triggers plan`` pending changes.
CHECK_FAILED = 3
#: The action skipped some of the selected jobs.
PARTIAL = 4
#: The followed job failed permanently, or was cancelled or removed.
JOB_FAILED = 5
#: The followed job did not end in time; as timeout(1).
TIMED_OUT = 124
#: Ctrl-C; as shells report SIGINT.
INTERRUPTED = 130
