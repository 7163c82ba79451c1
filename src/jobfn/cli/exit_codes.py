"""What a command's exit code says, beside 0 (done), 1 (could not be done) and 2 (wrong use). docs/operations.md."""

DONE = 0
#: It could not be done: no database, a refused job, no such job, a no to a question.
FAILED = 1
#: Something is not as it should be: what ``doctor`` found.
CHECK_FAILED = 3
#: Some of the jobs that were named were left as they are.
LEFT = 4
#: The job that was followed failed for good, or somebody cancelled or removed it.
JOB_FAILED = 5
#: The job that was followed had not ended in time; as timeout(1) says it.
TIMED_OUT = 124
